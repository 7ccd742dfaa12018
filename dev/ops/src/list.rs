//! `cargo ops list`: everything that is set aside, by reason; or the events that are not published, by state.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum;
use futures::StreamExt;
use handler::idempotency::{key::BUCKETS, ledger::OutboxEntry, record::SCHEMA};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use workspace::print_table;

use crate::{
    account::Account,
    kept::{Envelope, Found, Joiner, Kept, id_and_printable, time},
    output::{Outcome, Progress, print_json, rfc3339, span},
    walk::Walk,
};

/// The things to list.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Messages that no delivery can make acceptable
    Quarantine,
    /// Messages that the host gave up, before the timer moves them to quarantine
    Poison,
    /// Events that are committed and not published
    Events,
}

/// The arguments of `cargo ops list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The things to list
    #[arg(value_enum, default_value_t = Kind::Quarantine)]
    kind: Kind,
    /// Print a line for each
    #[arg(long)]
    each: bool,
    /// Print whole messages too, and the detail of their reasons, which may repeat parts of them
    #[arg(long, requires = "each")]
    show_message: bool,
    /// Seconds for which nobody else sees what was read, if this command is killed [default: as long as it surely takes]
    #[arg(long, value_name = "SECONDS")]
    hold: Option<u64>,
}

/// Things with one reason.
#[derive(Debug, Default, Serialize)]
struct Group {
    count: u64,
    first: Option<String>,
    last: Option<String>,
    #[serde(skip)]
    span: Option<(OffsetDateTime, OffsetDateTime)>,
}

/// A line for one thing.
#[derive(Serialize)]
struct Line<'a> {
    reason: &'a str,
    since: Option<String>,
    id: Option<&'a str>,
    printable: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct Report<'a> {
    total: u64,
    held_by_others: u64,
    groups: &'a BTreeMap<String, Group>,
}

struct Listing<'a> {
    account: &'a Account,
    arguments: &'a Arguments,
    groups: BTreeMap<String, Group>,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<Outcome> {
    let mut listing = Listing { account, arguments, groups: BTreeMap::new() };
    let held_by_others = match arguments.kind {
        Kind::Events => listing.events().await?,
        Kind::Quarantine | Kind::Poison => listing.messages().await?,
    };
    listing.report(held_by_others)?;
    Ok(Outcome::Done)
}

impl Listing<'_> {
    async fn messages(&mut self) -> Result<u64> {
        let app = &self.account.app;
        let is_poison = matches!(self.arguments.kind, Kind::Poison);
        let queue = if is_poison { &app.poison } else { &app.quarantine.queue };
        // Later ones count too: nothing is put back here.
        let mut walk = Walk::begin(queue, self.arguments.hold, self.account.began + Duration::hours(1)).await?;
        let mut joiner = Joiner::default();
        while let Some(page) = walk.next().await? {
            for received in page {
                walk.leave(&received)?;
                if is_poison {
                    let text = app.orders_encoding.decode(received.text.clone());
                    self.add("given up by the host", received.inserted, (&text, ""))?;
                    continue;
                }
                match joiner.add(received) {
                    Found::Whole(kept) => self.add_kept(&kept)?,
                    Found::Part => {}
                    Found::Foreign(other) => {
                        self.add("not written by the handler", other.inserted, (&other.text, ""))?;
                    }
                }
            }
        }
        for part in joiner.rest() {
            self.add("part whose others are not there", part.inserted, ("", ""))?;
        }
        walk.end().await
    }

    fn add_kept(&mut self, kept: &Kept) -> Result<()> {
        let Envelope { reason, detail, message, .. } = &kept.envelope;
        self.add(reason, kept.since(), (message, detail))
    }

    /// Reads the outbox, bucket by bucket.
    async fn events(&mut self) -> Result<u64> {
        let mut progress = Progress::new("buckets");
        for bucket in 0..BUCKETS {
            progress.show(bucket.into());
            // Those of a moment ago too.
            let mut pages =
                self.account.app.ledger.unpublished_events(bucket, self.account.began + Duration::minutes(1));
            while let Some(page) = pages.next().await {
                page?.iter().try_for_each(|event| self.add_event(event))?;
            }
        }
        Ok(0)
    }

    fn add_event(&mut self, event: &OutboxEntry) -> Result<()> {
        let is_readable = event.schema == SCHEMA && !event.body.is_empty();
        let state = if is_readable { "left to the timer" } else { "cannot be published" };
        self.add(state, event.created_at.as_deref().and_then(time), ("", &event.tag.row_key))
    }

    fn add(&mut self, reason: &str, since: Option<OffsetDateTime>, (message, detail): (&str, &str)) -> Result<()> {
        self.groups.entry(reason.to_owned()).or_default().add(since);
        if !self.arguments.each {
            return Ok(());
        }
        let (id, printable) = id_and_printable(message);
        let shown = self.arguments.show_message;
        // The key of a row repeats nothing.
        let detail = Some(detail).filter(|_| shown || matches!(self.arguments.kind, Kind::Events));
        let message = Some(message).filter(|_| shown);
        let since = since.map(rfc3339);
        if self.account.json {
            return print_json(&Line { reason, since, id: id.as_deref(), printable: &printable, detail, message });
        }
        let detail = detail.map(|detail| format!("  {detail}")).unwrap_or_default();
        let message = message.map(|message| format!("  {message:?}")).unwrap_or_default();
        println!("{reason:14}  {}  {printable}{detail}{message}", since.unwrap_or_default());
        Ok(())
    }

    fn report(&mut self, held_by_others: u64) -> Result<()> {
        let total = self.groups.values().map(|group| group.count).sum();
        for group in self.groups.values_mut() {
            (group.first, group.last) = group.span.map(|(first, last)| (rfc3339(first), rfc3339(last))).unzip();
        }
        if self.account.json {
            return print_json(&Report { total, held_by_others, groups: &self.groups });
        }
        let row = |(reason, group): (&String, &Group)| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let age = group.span.map(|(first, _)| span(self.account.began - first)).unwrap_or_default();
            vec![reason.clone(), group.count.to_string(), age, text(&group.first), text(&group.last)]
        };
        if total > 0 {
            print_table(
                &["reason", "count", "oldest", "first", "last"],
                &self.groups.iter().map(row).collect::<Vec<_>>(),
            );
        }
        println!("total: {total}");
        if held_by_others > 0 {
            println!("held by somebody else, or by a command that was killed, and not listed: about {held_by_others}");
        }
        Ok(())
    }
}

impl Group {
    fn add(&mut self, since: Option<OffsetDateTime>) {
        self.count += 1;
        if let Some(since) = since {
            let (first, last) = self.span.unwrap_or((since, since));
            self.span = Some((first.min(since), last.max(since)));
        }
    }
}
