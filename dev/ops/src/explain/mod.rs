//! `cargo ops explain`: what became of an order, and what would become of a message.
//!
//! What is stored is read by its keys, never by a scan, and the queues are read through only if that is asked for.

mod forecast;
mod fate;
mod places;

use std::{
    collections::BTreeMap,
    io::{Read, stdin},
    process::ExitCode,
};

use anyhow::{Context, Result};
use handler::message::{object, printable};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    account::Account,
    kept::{Line, id_and_printable, time},
    order::DOMAIN,
    output::{left_if, print_json, print_lines, when},
    stored::{Stored, event},
    walk::{Hold, Unseen},
};
use fate::{Fate, UNUSABLE, fate};
use forecast::{Forecast, forecast};
use places::{Place, find};

/// The arguments of `cargo ops explain`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The id of the order
    #[arg(required_unless_present = "message")]
    id: Option<String>,
    /// Read quarantine and poison through, and look at the next 32 messages of the queue of orders
    #[arg(long)]
    queues: bool,
    /// Say what would become of this message, `-` for the standard input. Nothing is done
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Print receipt, details and messages too
    #[arg(long)]
    show_message: bool,
    #[command(flatten)]
    hold: Hold,
}

/// All that can be said of an order.
#[derive(Debug, Serialize)]
struct Explanation {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(flatten)]
    fate: Option<Fate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unpublished: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Forecast>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Vec<Place>>,
    #[serde(flatten)]
    unseen: Option<Unseen>,
}

/// What is told of a record: its properties, and the rows that belong to it.
type Record = BTreeMap<&'static str, Value>;

/// The properties of a record, in the order in which they are told.
const PROPERTIES: [&str; 9] = [
    "committed_at",
    "invocation",
    "commit_id",
    "traceparent",
    "fingerprint",
    "receipt",
    "events",
    "expires_at",
    "schema",
];

pub(crate) async fn run(account: &Account, arguments: Arguments) -> Result<ExitCode> {
    let message = arguments.message.as_deref().map(read_message).transpose()?;
    let id = match &arguments.id {
        Some(id) => Some(id.trim().to_owned()),
        None => message.as_deref().and_then(|message| id_and_printable(message).0),
    };
    let stored = match &id {
        Some(id) => Stored::of(account, id).await?,
        None => None,
    };
    let forecast = match &message {
        Some(message) => Some(forecast(account, message, arguments.show_message).await?),
        None => None,
    };
    let (found, unseen) = match &id {
        Some(id) if arguments.queues => Some(find(account, id, &arguments).await?),
        _ => None,
    }
    .unzip();
    let fate = id.as_ref().map(|id| match is_usable(id) {
        true => fate(stored.as_ref(), found.as_deref(), account.began),
        false => UNUSABLE,
    });
    let stored = stored.unwrap_or_default();
    let explanation = Explanation {
        fate,
        record: record(&stored, arguments.show_message),
        unpublished: stored.events.iter().map(event).collect(),
        message: forecast,
        found,
        unseen,
        id,
    };
    if account.json {
        print_json(&explanation)?;
    } else {
        print(&explanation, account.began)?;
    }
    let is_unknown = fate.is_some_and(Fate::is_unknown) && explanation.message.is_none();
    Ok(left_if(is_unknown || explanation.unseen.is_some_and(|unseen| unseen.interrupted)))
}

fn is_usable(id: &str) -> bool {
    id_and_printable(&json!({ DOMAIN.id_member: id }).to_string()).0.is_some()
}

fn read_message(text: &str) -> Result<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("the standard input is no text")?;
    Ok(text)
}

fn record(stored: &Stored, shows: bool) -> Option<Record> {
    let row = stored.row.as_ref()?;
    let mut record: Record = PROPERTIES.iter().map(|name| (*name, row[name].clone())).collect();
    if let (Some(receipt), false) = (stored.text("receipt"), shows) {
        record.insert("receipt", json!(summary(receipt)));
    }
    record.insert("has_index_row", json!(stored.index_row.is_some()));
    Some(record)
}

/// Writes what may be printed of a receipt.
fn summary(receipt: &str) -> String {
    object(receipt).map(|object| printable(&object, DOMAIN.id_member, DOMAIN.printable)).unwrap_or_default()
}

fn print(explanation: &Explanation, now: OffsetDateTime) -> Result<()> {
    let moment = |text: &str| time(text).map_or_else(|| text.to_owned(), |time| when(time, now));
    let mut lines = Vec::new();
    lines.extend(explanation.id.as_ref().map(|id| ("order", format!("{id:?}"))));
    lines.extend(explanation.fate.map(|fate| ("verdict", format!("{}: {}", fate.verdict, fate.says))));
    if let Some(record) = &explanation.record {
        let text = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            value => value.as_str().map_or_else(|| value.to_string(), &moment),
        };
        lines.extend(PROPERTIES.iter().chain(&["has_index_row"]).map(|name| (*name, text(&record[name]))));
    }
    lines.extend(explanation.unpublished.iter().map(|event| ("event", event.text())));
    let found = explanation.found.iter().flatten();
    lines.extend(
        found.map(|place| ("found", format!("on {}, in {}: {}", place.queue, place.envelopes, place.line.text()))),
    );
    if let Some(Forecast { verdict, says, printable, detail, fingerprint, .. }) = &explanation.message {
        lines.push(("this message", format!("{verdict}: {says} {printable}")));
        lines.extend(detail.as_ref().map(|detail| ("  detail", format!("{detail:?}"))));
        lines.extend(fingerprint.as_ref().map(|fingerprint| ("  fingerprint", fingerprint.clone())));
    }
    lines.extend(explanation.unseen.iter().flat_map(Unseen::lines));
    print_lines(&lines)
}
