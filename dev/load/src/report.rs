//! The numbers, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{orders::Mix, plan::Plan, step::Done, storage::Counts};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) storage: String,
    pub(crate) latency_ms: f64,
    pub(crate) mix: Mix,
    pub(crate) binary_bytes: u64,
    pub(crate) startup: Startup,
    pub(crate) steps: Vec<StepReport>,
    /// The same steps with another program, each right before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) baseline: Vec<StepReport>,
    /// The checks of what is stored in the end.
    pub(crate) checks: Vec<Check>,
}

/// The machine it was measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) system: &'static str,
    pub(crate) architecture: &'static str,
    pub(crate) cores: usize,
}

/// The costs of starting a process.
#[derive(Debug, Serialize)]
pub(crate) struct Startup {
    /// From spawn to the first answer to `GET /`; the median.
    pub(crate) ready_ms: f64,
    /// From spawn to the answer to the first order, which comes right after that; the median.
    pub(crate) first_order_ms: f64,
    /// Resident memory of a process that is ready and has not worked yet.
    pub(crate) idle_kib: Option<u64>,
    pub(crate) spawns: u64,
    /// The number of orders that were committed for this.
    pub(crate) orders: u64,
}

/// One step. What the system or the storage does not tell is none.
#[derive(Debug, Serialize)]
pub(crate) struct StepReport {
    pub(crate) concurrency: usize,
    pub(crate) orders: u64,
    pub(crate) duplicates: u64,
    /// Whether time was up before all orders were delivered.
    pub(crate) was_cut: bool,
    pub(crate) seconds: f64,
    pub(crate) orders_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Processor seconds of the handler per 1,000 orders.
    pub(crate) cpu_per_1000: Option<f64>,
    /// The same of the load and the storage in memory, to see that they were not the limit.
    pub(crate) load_cpu_per_1000: Option<f64>,
    /// Resident memory of the handler at the end of the step, and its peak since the start of the process.
    pub(crate) resident_kib: Option<u64>,
    pub(crate) peak_kib: Option<u64>,
    pub(crate) requests_per_order: Option<BTreeMap<&'static str, f64>>,
    pub(crate) connections_opened: Option<u64>,
}

/// One thing that has to hold.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: &'static str,
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

/// The contents of the storage in the end.
pub(super) struct Stored {
    pub(super) records: u64,
    /// The index rows of the records.
    pub(super) index_rows: u64,
    /// Rows of the outbox.
    pub(super) left: u64,
    pub(super) messages: u64,
    /// Different events among the messages, if the storage can tell.
    pub(super) events: Option<u64>,
}

/// The resources used between two moments.
#[derive(Clone, Default)]
pub(super) struct Usage {
    pub(super) handler_cpu: Option<Duration>,
    pub(super) load_cpu: Option<Duration>,
    pub(super) counts: Option<Counts>,
}

impl Usage {
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let difference = |(now, then): (Duration, Duration)| now.saturating_sub(then);
        Self {
            handler_cpu: self.handler_cpu.zip(earlier.handler_cpu).map(difference),
            load_cpu: self.load_cpu.zip(earlier.load_cpu).map(difference),
            counts: self.counts.as_ref().zip(earlier.counts.as_ref()).map(|(now, then)| now.since(then)),
        }
    }
}

impl StepReport {
    pub(super) fn new(concurrency: usize, (planned, done): (u64, &Done), usage: Usage) -> Self {
        let (seconds, orders) = (done.elapsed.as_secs_f64(), done.latencies.len() as u64);
        let count = (orders as f64).max(1.0);
        let per_1000 = |time: Duration| time.as_secs_f64() * 1000.0 / count;
        Self {
            concurrency,
            orders,
            duplicates: done.duplicates,
            was_cut: orders < planned,
            seconds,
            orders_per_second: count / seconds,
            p50_ms: millis(percentile(&done.latencies, 50)),
            p99_ms: millis(percentile(&done.latencies, 99)),
            max_ms: millis(percentile(&done.latencies, 100)),
            cpu_per_1000: usage.handler_cpu.map(per_1000),
            load_cpu_per_1000: usage.load_cpu.map(per_1000),
            resident_kib: None,
            peak_kib: None,
            requests_per_order: usage.counts.as_ref().map(|counts| requests_per_order(counts, count)),
            connections_opened: usage.counts.map(|counts| counts.connections),
        }
    }
}

impl Machine {
    pub(super) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { system: std::env::consts::OS, architecture: std::env::consts::ARCH, cores }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, startup: Startup) -> Self {
        let binary_bytes = std::fs::metadata(&plan.executable).map_or(0, |metadata| metadata.len());
        Self {
            machine: Machine::this(),
            storage: plan.storage.to_string(),
            latency_ms: millis(plan.latency),
            mix: plan.mix,
            binary_bytes,
            startup,
            steps: Vec::new(),
            baseline: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Says whether all orders, and nothing else, were stored and published.
    pub(crate) fn is_correct(&self) -> bool {
        self.checks.iter().all(|check| check.expected == check.found)
    }

    /// Holds what is stored against what was delivered.
    pub(super) fn check(&mut self, stored: &Stored) {
        let delivered = self.steps.iter().map(|step| step.orders - step.duplicates).sum::<u64>();
        let expected = delivered + self.startup.orders;
        let check = |what, expected, found| Check { what, expected, found };
        self.checks = vec![
            check("records", expected, stored.records),
            check("index rows", expected, stored.index_rows),
            check("events left in the outbox", 0, stored.left),
            check("messages on the queue of events", expected, stored.messages),
        ];
        self.checks.extend(stored.events.map(|events| check("different events among them", expected, events)));
    }
}

fn requests_per_order(counts: &Counts, orders: f64) -> BTreeMap<&'static str, f64> {
    let made = counts.requests.iter().filter(|(_, count)| **count > 0);
    made.map(|(kind, count)| (kind.name(), *count as f64 / orders)).collect()
}

/// Returns a percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
