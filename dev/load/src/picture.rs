//! The curves of a measurement: throughput and latency over the number of orders in flight, with the baseline beside it.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use crate::report::{Report, StepReport};

const SIZE: (u32, u32) = (900, 340);
const OURS: RGBColor = RGBColor(0, 90, 158);
const BASELINE: RGBColor = RGBColor(158, 84, 0);

/// What a curve shows of a step.
type Value = fn(&StepReport) -> f64;

/// Draws both curves side by side.
pub(crate) fn draw(report: &Report, file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let curve = |steps: &[StepReport], value: Value| -> Vec<(f64, f64)> {
        steps.iter().map(|step| (step.concurrency as f64, value(step))).collect()
    };
    let values: [(_, Value); 2] = [("orders a second", |step| step.orders_per_second), ("p50, ms", |step| step.p50_ms)];
    for (area, (title, value)) in [left, right].iter().zip(values) {
        let ours = ("handler", OURS, curve(&report.steps, value));
        let baseline = ("baseline: one insert", BASELINE, curve(&report.baseline, value));
        chart(area, title, &[ours, baseline]).with_context(|| format!("cannot draw {}", file.display()))?;
    }
    area.present().with_context(|| format!("cannot write {}", file.display()))
}

type Curve = (&'static str, RGBColor, Vec<(f64, f64)>);

fn chart(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, title: &str, curves: &[Curve]) -> Result<()> {
    let most =
        |axis: fn(&(f64, f64)) -> f64| curves.iter().flat_map(|(.., points)| points).map(axis).fold(1.0, f64::max);
    let (width, height) = (most(|point| point.0), most(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..width, 0.0..height * 1.1)?;
    chart.configure_mesh().x_desc("orders in flight").light_line_style(TRANSPARENT).draw()?;
    for (name, colour, points) in curves.iter().filter(|(.., points)| !points.is_empty()) {
        let line = chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))?;
        line.label(*name).legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}
