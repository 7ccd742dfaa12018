//! The measurement: starts storage and handler, takes one step after the other, and holds what is stored against what
//! was sent: a number is worth nothing if an order got lost.

use std::time::Duration;

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

/// Does what the plan says. `on_step` is told of every step when it is done.
pub(crate) async fn measure(plan: &Plan, on_step: impl Fn(&StepReport)) -> Result<Report> {
    let storage = Running::start(plan).await?;
    storage.account().create_queue(EVENTS).await?;
    let connection = storage.account().connection_string();
    let program = Program { executable: &plan.executable, root: &plan.root, connection: &connection };
    let startup = startup::measure(program, &Orders::new(plan.mix, 0)?).await?;
    let mut report = Report::new(plan, startup);
    let mut handler = Handler::spawn(program)?;
    startup::wait_until_ready(&mut handler).await?;
    tokio::time::sleep(SETTLED).await;
    report.startup.idle_kib = handler.memory().map(|memory| memory.now);
    for (&(concurrency, orders), run) in plan.steps.iter().zip(FIRST_RUN..) {
        let step = Step { port: handler.port, concurrency, orders, limit: plan.step_limit };
        let measured = measure_step(step, Orders::new(plan.mix, run)?, (&handler, &storage)).await;
        let measured = measured.with_context(|| handler.complaint())?;
        on_step(&measured);
        report.steps.push(measured);
    }
    // It finds nothing to do, if all went well.
    startup::wait_until_ready(&mut handler).await?.tick().await.context("the timer")?;
    report.check(&storage.stored().await?);
    Ok(report)
}

async fn measure_step(step: Step, orders: Orders, (handler, storage): (&Handler, &Running)) -> Result<StepReport> {
    let usage = || Usage { handler_cpu: handler.cpu_time(), load_cpu: own_cpu_time(), counts: storage.counts() };
    let before = usage();
    let done = step::run(step, orders).await?;
    let mut report = StepReport::new(step.concurrency, (step.orders, &done), usage().since(&before));
    let memory = handler.memory();
    report.resident_kib = memory.map(|memory| memory.now);
    report.peak_kib = memory.map(|memory| memory.peak);
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
