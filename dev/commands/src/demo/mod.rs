//! `cargo demo`: the whole story on a fresh machine, told as it happens; [`promises`] checks its outcome at the end.

mod promises;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use zip::ZipArchive;

use local_host::{
    Invocation, LocalHost, Options,
    bindings::local_settings,
    console::{Level, Line},
};
use test_storage::{
    Account, Azurite, FaultProxy, Row, Service,
    azurite::{Persistence, Ports},
};
use workspace::{Sample, app_root, build_handler, heading, samples};

use crate::queues::{ORDERS, QUEUES, TABLE, TIMER};

use promises::Outcome;

const DUPLICATE: &str = "duplicate";
/// Far more than a laptop needs, far less than anybody waits.
const LIMIT: Duration = Duration::from_secs(60);

/// The number of attempts of the timer that meet a storage out of reach.
const FAILING_ATTEMPTS: usize = 2;

/// The arguments of `cargo demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs what is in this package, unpacked, instead of the sources: dist/handler.zip
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
}

/// The app to host.
struct App {
    root: PathBuf,
    /// None for the one that `host.json` names.
    executable: Option<PathBuf>,
    settings: BTreeMap<String, String>,
    /// Lives as long as the app in it.
    _folder: Option<TempDir>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    heading("Starting");
    let samples = samples(&app_root()?)?;
    let app = match arguments.package {
        None => App::from_sources().await?,
        Some(file) => App::from_package(&file)?,
    };
    println!("  starting Azurite, the storage emulator …");
    let azurite = Azurite::start(Ports::Free, Persistence::Memory).await?;
    let account = azurite.development_account()?;
    let tables = FaultProxy::start(&account, Service::Table).await?;
    let mut settings = app.settings;
    settings.insert("AzureWebJobsStorage".to_owned(), tables.account(&account).connection_string());
    // The timer is fired by hand: a tick by the clock would come in between, now and then.
    settings.insert(format!("AzureWebJobs.{TIMER}.Disabled"), "true".to_owned());
    for queue in QUEUES {
        account.create_queue(queue).await?;
    }
    let host = LocalHost::start(Options {
        app_root: app.root,
        settings,
        executable: app.executable,
        admin_port: Some(0),
        sink: Some(print_line),
        ..Options::default()
    })
    .await?;
    let outcome = run_story(&host, (&account, &tables), samples).await;
    host.stop().await;
    let outcome = outcome?;
    outcome.show();
    outcome.check()
}

impl App {
    async fn from_sources() -> Result<Self> {
        let root = app_root()?;
        println!("  building the handler …");
        let executable = Some(build_handler(&root).await?);
        let settings = local_settings(&root.join("local.settings.json.example"))?;
        Ok(Self { root, executable, settings, _folder: None })
    }

    /// Unpacks a package. There are no settings in it, so it gets only those that every Function App has.
    fn from_package(file: &Path) -> Result<Self> {
        let archive = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let folder = tempfile::tempdir()?;
        println!("  unpacking {} …", file.display());
        ZipArchive::new(archive)?.extract(folder.path())?;
        let root = folder.path().to_owned();
        Ok(Self { root, executable: None, settings: BTreeMap::new(), _folder: Some(folder) })
    }
}

async fn run_story(
    host: &LocalHost,
    (account, tables): (&Account, &FaultProxy),
    samples: Vec<Sample>,
) -> Result<Outcome> {
    host.ready().await?;
    let mut answers = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        heading(&format!("Message {}: {}", number + 1, title(&sample.outcome)));
        println!("  message: {}", sample.message);
        answers.push(handle(host, account, sample).await?);
    }
    heading("The timer, fired by hand while the tables are out of reach: it fails, and the host tries again");
    let ticks = tick_through_an_outage(host, tables).await?;
    let mut queues = BTreeMap::new();
    for queue in QUEUES {
        queues.insert(queue, account.peek(queue).await?);
    }
    let mut rows = account.rows(TABLE).await?;
    // By this row the handler asks whether the table answers.
    rows.retain(|row| row.get("PartitionKey").is_none_or(|key| key != "probe"));
    Ok(Outcome { samples, answers, ticks, rows, queues })
}

/// Describes a message by what has to become of it.
fn title(outcome: &str) -> String {
    match outcome {
        "committed" => "a new order".to_owned(),
        DUPLICATE => "the same order again, in another spelling, base64 on the queue".to_owned(),
        "conflict" => "the same id with other content".to_owned(),
        "missing_id" => "an order without an id".to_owned(),
        "invalid_order" => "an order with a wrong member".to_owned(),
        "invalid_json" => "broken JSON".to_owned(),
        other => other.to_owned(),
    }
}

/// Enqueues a message and waits until it is off the queue, one way or the other, and its events are published.
async fn handle(host: &LocalHost, account: &Account, sample: &Sample) -> Result<Invocation> {
    let before = finished_orders(&host.invocations());
    if sample.outcome == DUPLICATE {
        account.put_base64(ORDERS, &sample.message).await?;
    } else {
        account.put(ORDERS, &sample.message).await?;
    }
    host.poll_now();
    let invocations = host.wait_for(|all| finished_orders(all) > before, LIMIT).await.context("no invocation")?;
    host.drain(account, ORDERS, LIMIT).await?;
    timeout(LIMIT, wait_for_events(account)).await.context("events are not published")??;
    let invocation = invocations.into_iter().rfind(|invocation| invocation.function != TIMER);
    invocation.context("no invocation")
}

/// Waits until no event is in the table: the tables will be out of reach, and the timer leaves young events alone.
async fn wait_for_events(account: &Account) -> Result<()> {
    let is_event = |row: &Row| row.get("RowKey").and_then(Value::as_str).is_some_and(|key| key.starts_with("outbox~"));
    while account.rows(TABLE).await?.iter().any(is_event) {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn finished_orders(invocations: &[Invocation]) -> usize {
    invocations.iter().filter(|invocation| invocation.function != TIMER).count()
}

/// Fires the timer while the tables are out of reach, brings them back after some attempts, and waits for one that
/// succeeds.
async fn tick_through_an_outage(host: &LocalHost, tables: &FaultProxy) -> Result<Vec<Invocation>> {
    tables.close();
    fire_timer(host).await?;
    host.wait_for(|all| ticks(all).len() >= FAILING_ATTEMPTS, LIMIT).await.context("the timer was not tried again")?;
    tables.open().await?;
    println!("    … the tables are back …");
    let succeeded = |all: &[Invocation]| ticks(all).last().is_some_and(|tick| tick.succeeded);
    let all = host.wait_for(succeeded, LIMIT).await.context("the timer did not succeed")?;
    Ok(ticks(&all).into_iter().cloned().collect())
}

fn ticks(invocations: &[Invocation]) -> Vec<&Invocation> {
    invocations.iter().filter(|invocation| invocation.function == TIMER).collect()
}

async fn fire_timer(host: &LocalHost) -> Result<()> {
    let port = host.admin_port().context("no admin endpoint")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://127.0.0.1:{port}/admin/functions/{TIMER}");
    match client.post(url).body("{}").send().await?.status().as_u16() {
        202 => Ok(()),
        status => bail!("the admin endpoint answered {status}"),
    }
}

/// Prints a console line within the story: indented, and marked when it is grave.
fn print_line(line: &Line) {
    let mark = match line.level {
        Level::Information => ' ',
        Level::Warning => '!',
        Level::Error => '✗',
    };
    println!("  {mark} │ {}", line.text);
}
