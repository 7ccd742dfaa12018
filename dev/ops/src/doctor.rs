//! `cargo ops doctor`: what is wrong before and after a deployment, each finding with its cure.
//!
//! Rights are tried. What is put on a queue is refused for what it asks, and what is deleted is not there; into the table goes
//! the row `probe`, which the handler inserts as well when it asks whether the table is back.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use handler::{
    idempotency::Key,
    message::Text,
    start::LONGEST_WAIT,
    storage::{Error, MessageEncoding, Queue, RowTag, queue::ReceivedMessage},
};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde::Serialize;
use serde_json::Value;
use time::Duration;

use crate::{
    account::{Account, HOST_JSON, briefly},
    cure::cure,
    order::DOMAIN,
    output::{left_if, print_json, print_line, span},
};

/// Settings of the host on which the promises were tested.
const RECOMMENDED: [&str; 6] = [
    "/functionTimeout",
    "/extensions/queues/batchSize",
    "/extensions/queues/newBatchThreshold",
    "/extensions/queues/maxDequeueCount",
    "/extensions/queues/maxPollingInterval",
    "/extensions/queues/visibilityTimeout",
];

/// A message cannot be hidden for so long, so a request to do it is refused, unless the right is missing.
const TOO_LONG: std::time::Duration = std::time::Duration::from_secs(8 * 24 * 3600);

#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    is_wrong: bool,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<&'static str>,
}

fn right(check: impl Into<String>, says: impl Into<String>) -> Finding {
    Finding { check: check.into(), is_wrong: false, says: says.into(), cure: None }
}

fn wrong(check: impl Into<String>, says: impl Into<String>, cure: &'static str) -> Finding {
    Finding { check: check.into(), is_wrong: true, says: says.into(), cure: Some(cure) }
}

fn failed(check: impl Into<String>, error: &Error) -> Finding {
    wrong(check, error.to_string(), cure(error))
}

/// Examines the account, or says why there is none.
pub(crate) async fn run(account: Result<Account>, json: bool) -> Result<ExitCode> {
    let findings = match account {
        Err(error) => vec![wrong("settings", format!("{error:#}"), "see docs/settings.md")],
        Ok(account) => examine(&account).await,
    };
    for finding in &findings {
        let Finding { check, is_wrong, says, cure } = finding;
        match (json, cure) {
            (true, _) => print_json(finding)?,
            (false, Some(cure)) => {
                print_line(&format!("WRONG  {check}: {says}"))?;
                print_line(&format!("       cure: {cure}"))?;
            }
            (false, None) => print_line(&format!("{}  {check}: {says}", if *is_wrong { "WRONG" } else { "ok   " }))?,
        }
    }
    Ok(left_if(findings.iter().any(|finding| finding.is_wrong)))
}

async fn examine(account: &Account) -> Vec<Finding> {
    let mut findings = vec![right("settings", "can be read")];
    findings.push(retention(account.config.app.retention));
    findings.extend(account.folder.as_deref().map_or_else(no_app, host_json));
    findings.push(clock(account).await);
    findings.extend(table(account).await);
    let app = &account.app;
    for (queue, is_needed) in
        [(&app.orders, true), (&app.poison, false), (&app.quarantine.queue, false), (&app.events.queue, false)]
    {
        findings.push(queue_rights(queue, is_needed).await);
    }
    findings.push(encoding(&app.orders, app.orders_encoding).await);
    findings
}

fn retention(retention: Duration) -> Finding {
    let says = format!("an id is remembered for {}", span(retention));
    if retention < LONGEST_WAIT {
        let cure =
            "set IDEMPOTENCY_TTL_HOURS to 504 at least: a message can wait 21 days, and a late copy would take effect";
        return wrong("retention", says, cure);
    }
    right("retention", says)
}

fn no_app() -> Vec<Finding> {
    vec![right(
        "host.json",
        "was not looked at: that of this version is assumed. Name the folder of the app with --app",
    )]
}

/// Compares the file of the app with the recommended one. The settings were read from it, so it can be.
fn host_json(folder: &Path) -> Vec<Finding> {
    let read = |text: &str| parse_to_serde_value::<Value>(text, &ParseOptions::default()).unwrap_or_default();
    let recommended = read(HOST_JSON.1);
    let own = read(&std::fs::read_to_string(folder.join("host.json")).unwrap_or_default());
    let compare = |pointer: &&str| {
        let (own, recommended) = (own.pointer(pointer)?, recommended.pointer(pointer)?);
        (own != recommended).then(|| format!("{} is {own}, tested was {recommended}", pointer.replace('/', ".")))
    };
    let missing = RECOMMENDED.iter().filter(|pointer| own.pointer(pointer).is_none());
    let missing = missing.map(|pointer| format!("{} is not set", pointer.replace('/', ".")));
    let differ: Vec<_> = RECOMMENDED.iter().filter_map(compare).chain(missing).collect();
    if differ.is_empty() {
        return vec![right("host.json", "has the values that were tested")];
    }
    let cure = "use the tested value, unless you have a reason";
    differ.into_iter().map(|differs| wrong("host.json", differs, cure)).collect()
}

async fn clock(account: &Account) -> Finding {
    let date = match briefly(async || account.service_time().await).await {
        Err(error) => return failed("clock", &error),
        Ok(None) => {
            return wrong("clock", "the service does not tell the time", "look at the endpoint: is it a proxy?");
        }
        Ok(Some(date)) => date,
    };
    let off = handler::attempt::time_of_day() - date;
    let says = format!("{} off that of the service", span(off));
    if off.abs() > Duration::minutes(2) {
        let cure = "set the clock of this machine: at 15 minutes, keys and signatures are refused";
        return wrong("clock", says, cure);
    }
    right("clock", says)
}

async fn table(account: &Account) -> Vec<Finding> {
    let key = Key::new(DOMAIN.scope, "");
    let check = |verb: &str| format!("table {}: {verb}", account.config.app.table);
    let (partition_key, row_key) = (key.partition_key(), key.record_row_key());
    let read = briefly(async || account.table.get::<Value>(&partition_key, &row_key).await).await;
    match read {
        Err(error) if error.is_table_missing() => {
            let cure = "ops init, unless it was deleted by mistake: every id is new to an empty table";
            return vec![wrong(check("read"), "is not there", cure)];
        }
        Err(error) => return vec![failed(check("read"), &error)],
        Ok(_) => {}
    }
    let nothing =
        RowTag { row_key: key.outbox_row_key("", 0), etag: "W/\"datetime'2000-01-01T00%3A00%3A00Z'\"".to_owned() };
    let tried = [
        ("insert", briefly(async || account.app.ledger.probe().await).await),
        (
            "delete",
            briefly(async || account.app.ledger.delete_published(&key.partition_key(), &[&nothing]).await).await,
        ),
    ];
    let written = tried.into_iter().map(|(verb, result)| match result {
        Ok(()) => right(check(verb), "is allowed"),
        Err(error) => failed(check(verb), &error),
    });
    [right(check("read"), "is allowed")].into_iter().chain(written).collect()
}

async fn queue_rights(queue: &Queue, is_needed: bool) -> Finding {
    let check = format!("queue {}", queue.name());
    let nothing = ReceivedMessage {
        id: "00000000-0000-0000-0000-000000000000".to_owned(),
        pop_receipt: "AAAA".to_owned(),
        ..ReceivedMessage::default()
    };
    // Of a message that is not there the service says so, or that its receipt is none.
    match briefly(async || queue.delete(&nothing).await).await {
        Err(error) if error.has_code("QueueNotFound") && is_needed => {
            return wrong(check, "is not there", "ops init");
        }
        Err(error) if error.has_code("QueueNotFound") => {
            return right(check, "is not there; it is created when needed");
        }
        Ok(()) | Err(Error::Refused { status: 400, .. }) => {}
        Err(error) => return failed(format!("{check}: delete"), &error),
    }
    match briefly(async || queue.put_hidden("probe", TOO_LONG).await).await {
        Err(Error::Refused { status: 400, .. }) => {}
        Err(error) => return failed(format!("{check}: put"), &error),
        Ok(()) => {
            return wrong(check, "took a message that it has to refuse", "look at the endpoint: is it Azure Storage?");
        }
    }
    match briefly(async || queue.peek_some().await).await {
        Err(error) => failed(format!("{check}: read"), &error),
        Ok(_) => right(check, "put, read and delete are allowed"),
    }
}

/// Looks whether the messages that are next are in the encoding in which the host reads them.
async fn encoding(orders: &Queue, encoding: MessageEncoding) -> Finding {
    const CHECK: &str = "encoding of orders";
    let seen = match briefly(async || orders.peek_some().await).await {
        Err(error) => return failed(CHECK, &error),
        Ok(seen) => seen,
    };
    let is_json = |message: &&ReceivedMessage| matches!(Text::decode(&message.text), Ok(Text::Raw(_)));
    let raw = seen.iter().filter(is_json).count();
    if encoding == MessageEncoding::Base64 && raw > 0 {
        let cure = "set extensions.queues.messageEncoding in host.json to none: the handler reads base64 too";
        return wrong(
            CHECK,
            format!("{raw} of the next {} messages are JSON, and the host expects base64", seen.len()),
            cure,
        );
    }
    right(CHECK, format!("the next {} messages fit", seen.len()))
}
