//! `cargo ops list`: everything that is set aside, by reason; or the events that are not published, by state.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;
use futures::StreamExt;
use handler::{idempotency::key::BUCKETS, storage::queue::ReceivedMessage};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use workspace::table;

use crate::{
    account::Account,
    kept::{Joiner, Line},
    output::{Progress, escaped, left_if, print_json, print_line, print_lines, rfc3339, serialize_time, span},
    stored::event,
    walk::{Hold, Unseen, look_through},
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
#[derive(Clone, Copy, Debug, clap::Args)]
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
    #[command(flatten)]
    hold: Hold,
}

/// Things with one reason.
#[derive(Debug, Default, Serialize)]
struct Group {
    count: u64,
    #[serde(serialize_with = "serialize_time")]
    first: Option<OffsetDateTime>,
    #[serde(serialize_with = "serialize_time")]
    last: Option<OffsetDateTime>,
}

#[derive(Serialize)]
struct Report<'a> {
    total: u64,
    #[serde(flatten)]
    unseen: &'a Unseen,
    groups: &'a BTreeMap<String, Group>,
}

struct Listing<'a> {
    account: &'a Account,
    arguments: &'a Arguments,
    groups: BTreeMap<String, Group>,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<ExitCode> {
    let mut listing = Listing { account, arguments, groups: BTreeMap::new() };
    let unseen = match arguments.kind {
        Kind::Events => listing.events().await?,
        Kind::Poison => listing.poison().await?,
        Kind::Quarantine => listing.quarantine().await?,
    };
    listing.report(&unseen)?;
    Ok(left_if(unseen.interrupted))
}

impl Listing<'_> {
    async fn quarantine(&mut self) -> Result<Unseen> {
        let (app, Arguments { hold, show_message, .. }) = (&self.account.app, *self.arguments);
        let mut joiner = Joiner::default();
        let see = |received| joiner.add(received).iter().try_for_each(|kept| self.add(&Line::of(kept, show_message)));
        let unseen = look_through(&app.quarantine.queue, hold, see).await?;
        joiner.rest().iter().try_for_each(|part| self.add(&Line::of(part, show_message)))?;
        Ok(unseen)
    }

    async fn poison(&mut self) -> Result<Unseen> {
        let (app, Arguments { hold, show_message, .. }) = (&self.account.app, *self.arguments);
        let see = |received: ReceivedMessage| {
            let text = app.orders_encoding.decode(received.text);
            self.add(&Line::new("given up by the host", received.inserted, &text, show_message))
        };
        look_through(&app.poison, hold, see).await
    }

    /// Reads the outbox, bucket by bucket.
    async fn events(&mut self) -> Result<Unseen> {
        let mut progress = Progress::new("buckets");
        for bucket in 0..BUCKETS {
            progress.show(bucket.into());
            // Those of a moment ago too.
            let mut pages =
                self.account.app.ledger.unpublished_events(bucket, self.account.began + Duration::minutes(1));
            while let Some(page) = pages.next().await {
                page?.iter().try_for_each(|entry| self.add(&event(entry)))?;
            }
        }
        Ok(Unseen::default())
    }

    fn add(&mut self, line: &Line) -> Result<()> {
        self.groups.entry(line.reason.clone()).or_default().add(line.since);
        if self.arguments.each { line.print(self.account.json) } else { Ok(()) }
    }

    fn report(&self, unseen: &Unseen) -> Result<()> {
        let total = self.groups.values().map(|group| group.count).sum();
        if self.account.json {
            return print_json(&Report { total, unseen, groups: &self.groups });
        }
        let row = |(reason, group): (&String, &Group)| {
            let age = group.first.map(|first| span(self.account.began - first));
            let times = [age, group.first.map(rfc3339), group.last.map(rfc3339)].map(Option::unwrap_or_default);
            [&[escaped(reason), group.count.to_string()][..], &times].concat()
        };
        if total > 0 {
            let rows: Vec<_> = self.groups.iter().map(row).collect();
            table(&["reason", "count", "oldest", "first", "last"], &rows)
                .iter()
                .try_for_each(|line| print_line(line))?;
        }
        let total = [("total", total.to_string())];
        print_lines(&total.into_iter().chain(unseen.lines()).collect::<Vec<_>>())
    }
}

impl Group {
    fn add(&mut self, since: Option<OffsetDateTime>) {
        self.count += 1;
        self.first = self.first.into_iter().chain(since).min();
        self.last = self.last.max(since);
    }
}
