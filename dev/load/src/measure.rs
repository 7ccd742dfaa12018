//! The measurement: starts storage and handler, takes one step after the other, and holds what is stored against what
//! was sent: a number is worth nothing if an order got lost.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use test_storage::{
    Account, Azurite, Row,
    azurite::{Persistence, Ports},
};

use crate::{
    orders::Orders,
    plan::{Plan, Storage},
    process::{Handler, Program, own_cpu_time},
    report::{Report, StepReport, Stored, Usage},
    startup,
    step::{self, Step},
    storage::{Counts, FastStorage},
};

/// The queue and the table of the handler.
const EVENTS: &str = "order-events";
const TABLE: &str = "idempotency";
/// Their keys: of the record of an order, of its index row, and of an event that is not published.
const PREFIXES: [&str; 3] = ["record~", "expiry~", "outbox~"];
/// An idle process has nothing left to do after this.
const SETTLED: Duration = Duration::from_millis(200);
/// What is not published after this is left to the timer.
const PUBLISHING_LIMIT: Duration = Duration::from_secs(30);
/// Runs before this number are for the start-up.
const FIRST_RUN: u8 = 1;

/// The storage while it runs.
enum Running {
    Fast(FastStorage),
    /// It ends when this is dropped.
    Azurite {
        _process: Azurite,
        account: Account,
    },
}

/// A program that is measured, with a storage of its own.
struct Subject {
    handler: Handler,
    storage: Running,
    report: Report,
}

/// Does what the plan says: every step with each of its programs, one after the other. `on_step` is told of every step of
/// the first when it is done.
pub(crate) async fn measure(plan: &Plan, on_step: impl Fn(&StepReport)) -> Result<Report> {
    let mut subject = Subject::start(plan, &plan.executable).await?;
    let mut baseline = match &plan.baseline {
        Some(executable) => Some(Subject::start(plan, executable).await?),
        None => None,
    };
    for (&(concurrency, orders), run) in plan.steps.iter().zip(FIRST_RUN..) {
        if let Some(baseline) = &mut baseline {
            baseline.step(plan, (concurrency, orders, run)).await?;
        }
        subject.step(plan, (concurrency, orders, run)).await?;
        subject.report.steps.last().into_iter().for_each(&on_step);
    }
    let mut report = subject.end().await?;
    if let Some(baseline) = baseline {
        report.baseline = baseline.report.steps;
    }
    Ok(report)
}

impl Subject {
    async fn start(plan: &Plan, executable: &Path) -> Result<Self> {
        let storage = Running::start(plan).await?;
        storage.account().create_queue(EVENTS).await?;
        let connection = storage.account().connection_string();
        let program = Program { executable, root: &plan.root, connection: &connection };
        let startup = startup::measure(program, &Orders::new(plan.mix, 0)?).await?;
        let mut report = Report::new(plan, startup);
        let mut handler = Handler::spawn(program)?;
        startup::wait_until_ready(&mut handler).await?;
        tokio::time::sleep(SETTLED).await;
        report.startup.idle_kib = handler.memory().map(|memory| memory.now);
        Ok(Self { handler, storage, report })
    }

    async fn step(&mut self, plan: &Plan, (concurrency, orders, run): (usize, u64, u8)) -> Result<()> {
        let step = Step { port: self.handler.port, concurrency, orders, limit: plan.step_limit };
        let measured = measure_step(step, Orders::new(plan.mix, run)?, (&self.handler, &self.storage)).await;
        self.report.steps.push(measured.with_context(|| self.handler.complaint())?);
        Ok(())
    }

    async fn end(mut self) -> Result<Report> {
        // It finds nothing to do, if all went well.
        startup::wait_until_ready(&mut self.handler).await?.tick().await.context("the timer")?;
        self.report.check(&self.storage.stored().await?);
        Ok(self.report)
    }
}

async fn measure_step(step: Step, orders: Orders, (handler, storage): (&Handler, &Running)) -> Result<StepReport> {
    let usage = || Usage { handler_cpu: handler.cpu_time(), load_cpu: own_cpu_time(), counts: storage.counts() };
    let before = usage();
    let done = step::run(step, orders).await?;
    let peak = handler.memory();
    storage.wait_for_publishing().await?;
    let mut report = StepReport::new(step.concurrency, (step.orders, &done), usage().since(&before));
    report.resident_kib = peak.map(|memory| memory.now);
    report.peak_kib = handler.memory().map(|memory| memory.peak);
    Ok(report)
}

impl Running {
    async fn start(plan: &Plan) -> Result<Self> {
        match plan.storage {
            Storage::Fast => Ok(Self::Fast(FastStorage::start(plan.latency)?)),
            Storage::Azurite => {
                let azurite = Azurite::start(Ports::Free, Persistence::Memory).await?;
                let account = azurite.development_account()?;
                Ok(Self::Azurite { _process: azurite, account })
            }
        }
    }

    const fn account(&self) -> &Account {
        match self {
            Self::Fast(storage) => &storage.account,
            Self::Azurite { account, .. } => account,
        }
    }

    /// Returns the counts of the fast storage, the only one that counts.
    fn counts(&self) -> Option<Counts> {
        match self {
            Self::Fast(storage) => Some(storage.counts()),
            Self::Azurite { .. } => None,
        }
    }

    /// Waits until what is published behind the answers is published, if the program does that.
    async fn wait_for_publishing(&self) -> Result<()> {
        let end = Instant::now() + PUBLISHING_LIMIT;
        while self.stored().await?.left > 0 && Instant::now() < end {
            tokio::time::sleep(SETTLED).await;
        }
        Ok(())
    }

    async fn stored(&self) -> Result<Stored> {
        match self {
            Self::Fast(storage) => {
                let (messages, events) = storage.published();
                let [records, index_rows, left] = PREFIXES.map(|prefix| storage.count_rows(prefix));
                Ok(Stored { records, index_rows, left, messages, events: Some(events) })
            }
            Self::Azurite { account, .. } => {
                let rows = account.rows(TABLE).await?;
                let count = |prefix| rows.iter().filter(|row| row_key(row).starts_with(prefix)).count() as u64;
                let [records, index_rows, left] = PREFIXES.map(count);
                Ok(Stored { records, index_rows, left, messages: account.queue_length(EVENTS).await?, events: None })
            }
        }
    }
}

fn row_key(row: &Row) -> &str {
    row.get("RowKey").and_then(serde_json::Value::as_str).unwrap_or_default()
}
