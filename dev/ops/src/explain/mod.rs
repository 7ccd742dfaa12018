//! `cargo ops explain`: what became of an order, and what would become of a message.
//!
//! What is stored is read by its keys, never by a scan, and the queues are read through only if that is asked for.

mod forecast;
mod fate;
mod places;

use std::io::{Read, stdin};

use anyhow::{Context, Result};
use handler::message::{object, printable};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    account::Account,
    kept::{id_and_printable, time},
    order::DOMAIN,
    output::{Outcome, print_json, print_lines, when},
    stored::Stored,
    walk::Unseen,
};
use fate::{Event, Fate, event, fate};
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
    /// Seconds for which nobody else sees what was read, if this command is killed [default: as long as it surely takes]
    #[arg(long, value_name = "SECONDS")]
    hold: Option<u64>,
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
    unpublished: Vec<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Forecast>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Vec<Place>>,
    #[serde(flatten)]
    unseen: Option<Unseen>,
}

#[derive(Debug, Serialize)]
struct Record {
    schema: i64,
    committed_at: Option<String>,
    expires_at: Option<String>,
    invocation: Option<String>,
    commit_id: Option<String>,
    traceparent: Option<String>,
    fingerprint: Option<String>,
    receipt: Option<String>,
    events: Option<usize>,
    has_index_row: bool,
}

pub(crate) async fn run(account: &Account, arguments: Arguments) -> Result<Outcome> {
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
    let fate = id.as_ref().map(|_| fate(stored.as_ref(), found.as_deref(), account.began));
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
    Ok(Outcome::left_if(is_unknown || explanation.unseen.is_some_and(|unseen| unseen.interrupted)))
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
    let text = |property| stored.text(property).map(str::to_owned);
    let receipt = stored.text("receipt").map(|receipt| if shows { receipt.to_owned() } else { summary(receipt) });
    let row = stored.row.as_ref()?;
    Some(Record {
        schema: row.get("schema").and_then(serde_json::Value::as_i64).unwrap_or_default(),
        committed_at: text("committed_at"),
        expires_at: text("expires_at"),
        invocation: text("invocation"),
        commit_id: text("commit_id"),
        traceparent: text("traceparent"),
        fingerprint: text("fingerprint"),
        receipt,
        events: stored.record().and_then(Result::ok).map(|record| record.events),
        has_index_row: stored.index_row.is_some(),
    })
}

/// Writes what may be printed of a receipt.
fn summary(receipt: &str) -> String {
    object(receipt).map(|object| printable(&object, DOMAIN.id_member, DOMAIN.printable)).unwrap_or_default()
}

fn print(explanation: &Explanation, now: OffsetDateTime) -> Result<()> {
    let moment = |text: &Option<String>| match text.as_deref().and_then(time) {
        Some(time) => when(time, now),
        None => "unknown".to_owned(),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut lines = Vec::new();
    lines.extend(explanation.id.as_ref().map(|id| ("order", format!("{id:?}"))));
    lines.extend(explanation.fate.map(|fate| ("verdict", format!("{}: {}", fate.verdict, fate.says))));
    if let Some(record) = &explanation.record {
        let left = explanation.unpublished.len();
        let count = record.events.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let index_row = if record.has_index_row { "there" } else { "not there" };
        lines.extend([
            ("committed", moment(&record.committed_at)),
            ("invocation", text(&record.invocation)),
            ("commit id", text(&record.commit_id)),
            ("trace", record.traceparent.clone().unwrap_or_else(|| "none".to_owned())),
            ("fingerprint", text(&record.fingerprint)),
            ("receipt", text(&record.receipt)),
            ("events", format!("{count}, of which {left} not published")),
            ("expires", moment(&record.expires_at)),
            ("index row", index_row.to_owned()),
            ("schema", record.schema.to_string()),
        ]);
    }
    let event = |event: &Event| {
        let state = if event.is_readable { "not published" } else { "cannot be published" };
        ("event", format!("{state}, since {}: row {}", moment(&event.committed_at), event.row))
    };
    lines.extend(explanation.unpublished.iter().map(event));
    for place in explanation.found.iter().flatten() {
        let Place { queue, reason, printable, envelopes, .. } = place;
        lines.push((
            "found",
            format!("on {queue} {reason} since {}, in {envelopes}: {printable}", moment(&place.since)),
        ));
        lines.extend(place.detail.as_ref().map(|detail| ("  detail", format!("{detail:?}"))));
        lines.extend(place.message.as_ref().map(|message| ("  message", format!("{message:?}"))));
    }
    if let Some(Forecast { verdict, says, printable, detail, fingerprint, .. }) = &explanation.message {
        lines.push(("this message", format!("{verdict}: {says} {printable}")));
        lines.extend(detail.as_ref().map(|detail| ("  detail", format!("{detail:?}"))));
        lines.extend(fingerprint.as_ref().map(|fingerprint| ("  fingerprint", fingerprint.clone())));
    }
    lines.extend(explanation.unseen.iter().flat_map(Unseen::lines));
    print_lines(&lines)
}
