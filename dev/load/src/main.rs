//! `cargo load`: the costs of an order. It drives the real handler as the host does, and reads its use of resources from
//! the operating system.
//!
//! Everything runs on this machine, over loopback. The storage is [in this process](storage), fast enough not to be the
//! limit, or Azurite, which is the limit. Orders are [made as they are needed](orders) and delivered over
//! [connections](client) that are kept, so many at a time as the [`step`] says; [`startup`] looks at new processes. In
//! the end what is stored is held against what was sent: a number is worth nothing if an order got lost.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]

// Each imports only from those below it.
mod measure;
mod startup;
mod picture;
mod report;
mod step;
mod plan;
mod process;
mod client;
mod orders;
mod storage;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, value_parser};

use workspace::{app_root, build_release, heading, print_table};

use measure::measure;
use orders::Mix;
use plan::{Plan, Storage};
use report::{Report, StepReport};

/// Orders of a step, when nothing else is said: enough for a second or more, at what the storage can do.
const ORDERS: u64 = 20_000;
const ORDERS_ON_AZURITE: u64 = 4_000;
/// The same for each order in flight when the storage is slow on purpose.
const ORDERS_IN_FLIGHT: u64 = 600;
/// A step is cut off after this, and a leg of a long run.
const STEP_LIMIT: Duration = Duration::from_secs(120);
const LEG_LIMIT: Duration = Duration::from_secs(600);
/// A long run is reported in so many parts.
const LEGS: u64 = 10;
const MIB: f64 = 1024.0;

/// Measures what an order costs: time, processor, memory, storage requests. Ends by itself.
#[derive(Parser)]
#[command(bin_name = "cargo load")]
struct Arguments {
    /// Measures this program instead of building ours: an earlier one, or another handler
    #[arg(long, value_name = "FILE")]
    handler: Option<PathBuf>,
    /// The storage of the orders
    #[arg(long, value_enum, default_value_t = Storage::Fast)]
    storage: Storage,
    /// The delay of every answer of the fast storage: 5ms is like the cloud
    #[arg(long, value_parser = milliseconds, default_value = "0ms")]
    latency: Duration,
    /// The number of orders in flight, step by step
    #[arg(long, value_delimiter = ',', default_value = "1,16,24,32,64", value_parser = value_parser!(u16).range(1..=1000))]
    concurrency: Vec<u16>,
    /// Orders of each step [default: as many as take some seconds]
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    orders: Option<u64>,
    /// Percentage that was delivered before
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(0..=90))]
    duplicates: u64,
    /// Percentage of about 2 KiB; the others have two members
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u64).range(0..=100))]
    medium: u64,
    /// Percentage of almost 64 KiB
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(0..=100))]
    large: u64,
    /// One long run of so many orders at the last concurrency, to see whether memory grows
    #[arg(long, conflicts_with = "orders", value_parser = value_parser!(u64).range(LEGS..))]
    total: Option<u64>,
    /// Takes every step with this program too, right before ours: an earlier handler, or benches/baseline with `--duplicates 0`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The file to draw throughput and latency in, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// The file to write the numbers to, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

// One thread, and nothing else on it: the load shall not take the handler's processor.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    ensure!(arguments.medium + arguments.large <= 100, "the shares of the sizes are more than 100 percent");
    let is_held_back = !arguments.latency.is_zero();
    ensure!(!is_held_back || arguments.storage == Storage::Fast, "only the fast storage can be held back");
    let root = app_root()?;
    let executable = executable(arguments.handler.as_deref(), &root).await?;
    let Arguments { storage, latency, duplicates, medium, large, .. } = arguments;
    let mix = Mix { duplicates, medium, large };
    let step_limit = if arguments.total.is_some() { LEG_LIMIT } else { STEP_LIMIT };
    let baseline = arguments.baseline.as_deref().map(existing).transpose()?;
    let plan = Plan { executable, baseline, root, storage, latency, mix, steps: steps(&arguments), step_limit };
    let report = measure(&plan, print_progress).await?;
    show(&report);
    if let Some(file) = arguments.picture {
        picture::draw(&report, &file)?;
    }
    if let Some(file) = arguments.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if report.is_correct() { Ok(()) } else { bail!("what is stored is not what was delivered") }
}

async fn executable(given: Option<&Path>, root: &Path) -> Result<PathBuf> {
    if let Some(file) = given {
        return existing(file);
    }
    println!("Building the handler as it is released …");
    build_release(root, "handler", &[], None).await
}

fn existing(program: &Path) -> Result<PathBuf> {
    program.canonicalize().with_context(|| format!("there is no {}", program.display()))
}

fn steps(arguments: &Arguments) -> Vec<(usize, u64)> {
    if let (Some(total), Some(last)) = (arguments.total, arguments.concurrency.last()) {
        return vec![(usize::from(*last), total / LEGS); usize::try_from(LEGS).unwrap_or_default()];
    }
    let orders = |concurrency: u16| match arguments.storage {
        Storage::Azurite => ORDERS_ON_AZURITE,
        Storage::Fast if arguments.latency.is_zero() => ORDERS,
        Storage::Fast => ORDERS_IN_FLIGHT * u64::from(concurrency),
    };
    let step = |&concurrency: &u16| (usize::from(concurrency), arguments.orders.unwrap_or_else(|| orders(concurrency)));
    arguments.concurrency.iter().map(step).collect()
}

fn milliseconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix("ms").context("write it as 5ms")?;
    let number: u64 = number.trim().parse()?;
    ensure!(number <= 1000, "more than 1000ms");
    Ok(Duration::from_millis(number))
}

fn print_progress(step: &StepReport) {
    let StepReport { concurrency, orders, seconds, .. } = step;
    println!("  {concurrency:>3} at a time: {orders} orders in {seconds:.1} s");
}

fn show(report: &Report) {
    let Report { machine, storage, latency_ms, mix, startup, .. } = report;
    heading(&format!(
        "{storage} storage, {latency_ms} ms late; {} cores, {} {}; {} % duplicates, {} % of 2 KiB, {} % of 64 KiB; one event for each order",
        machine.cores, machine.system, machine.architecture, mix.duplicates, mix.medium, mix.large
    ));
    let titles = ["", "value", "of"];
    let spawns = format!("median of {}", startup.spawns);
    print_table(
        &titles,
        &[
            row(["ready after spawn", &format!("{:.1} ms", startup.ready_ms), &spawns]),
            row(["first order after spawn", &format!("{:.1} ms", startup.first_order_ms), &spawns]),
            row(["idle memory", &format!("{} MiB", mebibytes(startup.idle_kib)), "a process that has not worked yet"]),
            row(["program", &format!("{:.2} MB", report.binary_bytes as f64 / 1e6), "the file, TLS included"]),
        ],
    );
    show_costs(report);
    show_ratios(report);
    show_requests(report);
    show_checks(report);
}

fn show_costs(report: &Report) {
    heading("Costs (CPU: seconds per 1,000 orders)");
    let titles = [
        "in flight",
        "orders",
        "duplicates",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "handler CPU",
        "load CPU",
        "memory MiB",
        "peak MiB",
    ];
    let rows = report.steps.iter().map(|step| {
        let cut = if step.was_cut { " (cut off)" } else { "" };
        vec![
            step.concurrency.to_string(),
            format!("{}{cut}", step.orders),
            step.duplicates.to_string(),
            format!("{:.0}", step.orders_per_second),
            format!("{:.2}", step.p50_ms),
            format!("{:.2}", step.p99_ms),
            format!("{:.1}", step.max_ms),
            step.cpu_per_1000.map_or_else(unknown, |seconds| format!("{seconds:.3}")),
            step.load_cpu_per_1000.map_or_else(unknown, |seconds| format!("{seconds:.3}")),
            mebibytes(step.resident_kib),
            mebibytes(step.peak_kib),
        ]
    });
    print_table(&titles, &rows.collect::<Vec<_>>());
    if report.steps.iter().any(|step| step.cpu_per_1000.is_none()) {
        println!("  This system has no /proc: processor time and memory are not known.");
    }
}

fn show_ratios(report: &Report) {
    if report.baseline.is_empty() {
        return;
    }
    heading("Ratios to the baseline, which took each step right before");
    let ratio = |ours: f64, theirs: f64| format!("{:.2}", ours / theirs);
    let rows = report.steps.iter().zip(&report.baseline).map(|(ours, theirs)| {
        vec![
            ours.concurrency.to_string(),
            format!("{:.0}", theirs.orders_per_second),
            ratio(ours.orders_per_second, theirs.orders_per_second),
            ratio(ours.p50_ms, theirs.p50_ms),
            ours.cpu_per_1000.zip(theirs.cpu_per_1000).map_or_else(unknown, |(ours, theirs)| ratio(ours, theirs)),
        ]
    });
    let titles = ["in flight", "baseline orders/s", "orders/s", "p50", "handler CPU"];
    print_table(&titles, &rows.collect::<Vec<_>>());
}

fn show_requests(report: &Report) {
    heading("Storage requests for each order");
    let rows = report.steps.iter().filter_map(|step| {
        let requests = step.requests_per_order.as_ref()?;
        let kinds = requests.iter().map(|(kind, count)| format!("{kind} {count:.3}"));
        let connections = step.connections_opened?.to_string();
        let total = format!("{:.3}", requests.values().sum::<f64>());
        Some(vec![step.concurrency.to_string(), total, kinds.collect::<Vec<_>>().join(", "), connections])
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        println!("  only the fast storage counts");
    } else {
        print_table(&["in flight", "all", "by kind", "connections opened"], &rows);
    }
}

fn show_checks(report: &Report) {
    heading("What is stored");
    for check in &report.checks {
        let mark = if check.expected == check.found { '✓' } else { '✗' };
        println!("  {mark} {}: {} of {}", check.what, check.found, check.expected);
    }
}

fn row(cells: [&str; 3]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn mebibytes(kib: Option<u64>) -> String {
    kib.map_or_else(unknown, |kib| format!("{:.1}", kib as f64 / MIB))
}

fn unknown() -> String {
    "?".to_owned()
}
