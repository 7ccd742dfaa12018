//! `cargo ops forget`: forgets an id on purpose, so that the next message with it takes effect.
//!
//! Events that are not published go out first: they are of an order that took effect. The ledger then deletes the record
//! and its index row in one transaction, if both are still as they were read.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use handler::{
    idempotency::{Key, outbox},
    storage::RowTag,
};
use serde::Serialize;

use crate::{
    account::{Account, patiently},
    order::DOMAIN,
    output::{left_if, print_json, print_line, print_lines},
    stored::Stored,
};

/// The arguments of `cargo ops forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The id of the order
    id: String,
    /// Forget it though an event cannot be published, which is then deleted too
    #[arg(long)]
    drop_events: bool,
    /// Forget it though its record cannot be read: it is damaged, or of a newer version
    #[arg(long)]
    force: bool,
    /// Only say what would be forgotten
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    id: &'a str,
    forgotten: bool,
    committed_at: Option<&'a str>,
    invocation: Option<&'a str>,
    events_published: usize,
    events_dropped: usize,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<ExitCode> {
    let id = arguments.id.trim();
    let key = Key::new(DOMAIN.scope, id);
    let mut stored = Stored::read(account, &key).await?;
    let found = stored.events.len();
    if matches!(stored.record(), Some(Err(_))) && !arguments.force {
        bail!("the record cannot be read: see `explain`. With --force it is forgotten all the same");
    }
    if !arguments.dry_run && found > 0 {
        outbox::publish(&account.app.ledger, &account.app.events, &stored.events, &account.attempt()).await;
        stored = Stored::read(account, &key).await?;
    }
    let left = if arguments.dry_run { 0 } else { stored.events.len() };
    if left > 0 && !arguments.drop_events {
        bail!(
            "{left} of its events cannot be published now: nothing is forgotten. See `explain`, or use --drop-events"
        );
    }
    let rows = stored.tags();
    let rows: Vec<_> = rows.iter().collect();
    if !arguments.dry_run && !rows.is_empty() {
        delete(account, &key, &rows).await?;
    }
    let report = Report {
        dry_run: arguments.dry_run,
        id,
        forgotten: !rows.is_empty(),
        committed_at: stored.text("committed_at"),
        invocation: stored.text("invocation"),
        events_published: found - left,
        events_dropped: left,
    };
    print(account.json, &report)?;
    Ok(left_if(!report.forgotten))
}

/// Deletes rows as they were seen. Whatever was answered: if none of them is there any more, they are forgotten.
async fn delete(account: &Account, key: &Key, rows: &[&RowTag]) -> Result<()> {
    let Err(error) = patiently(async || account.app.ledger.forget(key, rows).await).await else { return Ok(()) };
    let now = Stored::read(account, key).await?.tags();
    if !rows.iter().any(|row| now.contains(row)) {
        return Ok(());
    }
    let is_changed = error.is_changed_or_gone();
    let hint = if is_changed { "the order has changed meanwhile, run this again" } else { "nothing is forgotten" };
    Err(error).context(hint)
}

fn print(json: bool, report: &Report<'_>) -> Result<()> {
    if json {
        return print_json(report);
    }
    let done = match (report.forgotten, report.dry_run) {
        (false, _) => "nothing is stored of this id",
        (true, true) => "would be forgotten",
        (true, false) => "forgotten: the next message with this id takes effect",
    };
    let lines = [("order", format!("{:?}", report.id)), ("result", done.to_owned())];
    if !report.forgotten {
        return print_lines(&lines);
    }
    let text = |text: Option<&str>| text.unwrap_or("unknown").to_owned();
    let rest = [
        ("committed", format!("{}, in invocation {}", text(report.committed_at), text(report.invocation))),
        ("events published", report.events_published.to_string()),
        ("events dropped", report.events_dropped.to_string()),
    ];
    print_lines(&[&lines[..], &rest].concat())?;
    print_line(
        "A copy of the order that is on its way, or a request of up to half an hour ago that arrives late, takes effect \
         as a new order. Its events have new ids, so consumers take them too.",
    )
}
