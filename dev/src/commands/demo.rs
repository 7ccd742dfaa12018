//! `cargo demo`: the whole story on a fresh machine, told as it happens and checked at the end.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use dev::{
    Account, Azurite, Invocation, LocalHost, Options,
    azurite::{Persistence, Ports},
    bindings::local_settings,
    console::{Level, Line},
    storage::{Received, Row},
};

use super::{QUEUES, app_root, build_handler, print_table};

const TIMER: &str = "scheduled_with_retry";
const TABLE: &str = "idempotency";
/// Far more than a laptop needs, far less than anybody waits.
const LIMIT: Duration = Duration::from_secs(60);

/// One message of the story.
struct Sample {
    title: &'static str,
    message: &'static str,
    base64: bool,
    /// Why it is quarantined, if it is.
    quarantined: Option<&'static str>,
}

const SAMPLES: [Sample; 5] = [
    Sample { title: "A new order", message: r#"{"id":"order-123","amount":42}"#, base64: false, quarantined: None },
    Sample {
        title: "The same order again: other spelling, base64 on the queue",
        message: r#"{ "amount": 42.0, "id": "order-123" }"#,
        base64: true,
        quarantined: None,
    },
    Sample {
        title: "The same id with another amount",
        message: r#"{"id":"order-123","amount":99}"#,
        base64: false,
        quarantined: Some("conflict"),
    },
    Sample {
        title: "An order without an id",
        message: r#"{"amount":10}"#,
        base64: false,
        quarantined: Some("missing_id"),
    },
    Sample { title: "Broken JSON", message: r#"{"id":"order-124","#, base64: false, quarantined: Some("invalid_json") },
];

/// What the story left behind.
struct Outcome {
    answers: Vec<Invocation>,
    timer: Invocation,
    rows: Vec<Row>,
    queues: BTreeMap<&'static str, Vec<Received>>,
}

pub(crate) async fn run() -> Result<()> {
    let root = app_root()?;
    heading("Starting");
    println!("  building the handler …");
    let executable = build_handler(&root).await?;
    println!("  starting Azurite, the storage emulator …");
    let azurite = Azurite::start(Ports::Free, Persistence::Memory).await?;
    let account = azurite.development_account()?;
    let mut settings = local_settings(&root.join("local.settings.json.example"))?;
    settings.insert("AzureWebJobsStorage".to_owned(), account.connection_string());
    for queue in QUEUES {
        account.create_queue(queue).await?;
    }
    let host = LocalHost::start(Options {
        app_root: root,
        settings,
        executable: Some(executable),
        admin_port: Some(0),
        sink: Some(print_line),
        ..Options::default()
    })
    .await?;
    let outcome = tell(&host, &account).await;
    host.stop().await;
    let outcome = outcome?;
    show(&outcome);
    check(&outcome)
}

async fn tell(host: &LocalHost, account: &Account) -> Result<Outcome> {
    host.ready().await?;
    let mut answers = Vec::new();
    for (number, sample) in SAMPLES.iter().enumerate() {
        heading(&format!("Order {}: {}", number + 1, sample.title));
        println!("  message: {}", sample.message);
        answers.push(handle(host, account, sample).await?);
    }
    heading("The timer, fired by hand");
    let timer = fire_timer(host).await?;
    let mut queues = BTreeMap::new();
    for queue in QUEUES {
        queues.insert(queue, account.peek(queue).await?);
    }
    Ok(Outcome { answers, timer, rows: account.rows(TABLE).await?, queues })
}

/// Enqueues a message and waits until it is off the queue, one way or the other.
async fn handle(host: &LocalHost, account: &Account, sample: &Sample) -> Result<Invocation> {
    let before = finished_orders(&host.invocations());
    if sample.base64 {
        account.put_base64(QUEUES[0], sample.message).await?;
    } else {
        account.put(QUEUES[0], sample.message).await?;
    }
    host.poll_now();
    let invocations = host.wait_for(|all| finished_orders(all) > before, LIMIT).await.context("no invocation")?;
    host.drain(account, QUEUES[0], LIMIT).await?;
    let invocation = invocations.into_iter().rfind(|invocation| invocation.function != TIMER);
    invocation.context("no invocation")
}

fn finished_orders(invocations: &[Invocation]) -> usize {
    invocations.iter().filter(|invocation| invocation.function != TIMER).count()
}

async fn fire_timer(host: &LocalHost) -> Result<Invocation> {
    let port = host.admin_port().context("no admin endpoint")?;
    let before = host.invocations().len();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://127.0.0.1:{port}/admin/functions/{TIMER}");
    let response = client.post(url).body("{}").send().await?;
    if response.status().as_u16() != 202 {
        bail!("the admin endpoint answered {}", response.status());
    }
    let invocations = host.wait_for(|all| all.len() > before, LIMIT).await.context("the timer did not run")?;
    invocations.last().cloned().context("the timer did not run")
}

fn show(outcome: &Outcome) {
    heading(&format!("Table {TABLE}"));
    for row in &outcome.rows {
        let properties = row.iter().map(|(name, value)| vec![name.clone(), plain(value)]);
        print_table(&["property", "value"], &properties.collect::<Vec<_>>());
    }
    if outcome.rows.is_empty() {
        println!("  (empty)");
    }
    for queue in QUEUES {
        heading(&format!("Queue {queue}"));
        match outcome.queues.get(queue) {
            Some(messages) if !messages.is_empty() => {
                let rows: Vec<_> = messages.iter().map(quarantine_columns).collect();
                print_table(&["reason", "detail", "message"], &rows);
            }
            _ => println!("  (empty)"),
        }
    }
}

fn quarantine_columns(received: &Received) -> Vec<String> {
    match serde_json::from_str::<Value>(&received.text) {
        Ok(envelope) if envelope["reason"].is_string() => {
            ["reason", "detail", "message"].map(|name| plain(&envelope[name])).into()
        }
        _ => vec!["?".to_owned(), "not in quarantine format".to_owned(), received.text.clone()],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check(outcome: &Outcome) -> Result<()> {
    heading("Promises");
    let [first, second, ..] = outcome.answers.as_slice() else { bail!("the story was not told to its end") };
    let receipt = first.return_value.as_ref().filter(|receipt| !receipt.is_null());
    let is_record = |row: &Row| row.get("RowKey").and_then(Value::as_str).is_some_and(|key| key.starts_with("record~"));
    let is_empty = |queue| outcome.queues.get(queue).is_some_and(Vec::is_empty);
    let mut promises = vec![
        ("order-123 is committed once, and nothing else is stored".to_owned(), {
            outcome.rows.len() == 1 && outcome.rows.iter().all(is_record)
        }),
        ("its duplicate got the first receipt".to_owned(), {
            second.succeeded && receipt.is_some() && first.return_value == second.return_value
        }),
    ];
    for sample in &SAMPLES {
        let Some(reason) = sample.quarantined else { continue };
        let title = format!("in quarantine as {reason}, byte for byte: {}", sample.message);
        promises.push((title, is_quarantined(outcome, reason, sample.message)));
    }
    let quarantine = outcome.queues.get(QUEUES[1]).map_or(0, Vec::len);
    let all_succeeded = outcome.answers.iter().all(|answer| answer.succeeded);
    promises.extend([
        ("nothing else is in quarantine".to_owned(), quarantine == 3),
        (
            "no message was left, lost or poisoned".to_owned(),
            all_succeeded && is_empty(QUEUES[0]) && is_empty(QUEUES[2]),
        ),
        ("the timer succeeded".to_owned(), outcome.timer.succeeded && outcome.timer.function == TIMER),
    ]);
    for (promise, kept) in &promises {
        println!("  {} {promise}", if *kept { '✓' } else { '✗' });
    }
    println!();
    match promises.iter().filter(|(_, kept)| !kept).count() {
        0 => Ok(()),
        broken => bail!("{broken} of {} promises broken", promises.len()),
    }
}

fn is_quarantined(outcome: &Outcome, reason: &str, message: &str) -> bool {
    let messages = outcome.queues.get(QUEUES[1]).map(Vec::as_slice).unwrap_or_default();
    let mut envelopes = messages.iter().filter_map(|received| serde_json::from_str::<Value>(&received.text).ok());
    envelopes.any(|envelope| envelope["reason"] == reason && envelope["message"] == message)
}

fn heading(title: &str) {
    println!("\n{title}");
}

/// A console line within the story: indented, and marked when it is grave.
fn print_line(line: &Line) {
    let mark = match line.level {
        Level::Information => ' ',
        Level::Warning => '!',
        Level::Error => '✗',
    };
    println!("  {mark} │ {}", line.text);
}
