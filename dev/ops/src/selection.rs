//! Taking selected messages out of quarantine: what `requeue` and `discard` have in common. Each message is safe
//! elsewhere before it is deleted here, so both can be killed at any point.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use futures::future::join_all;
use handler::storage::{self, Queue};
use serde::Serialize;

use crate::{
    account::{Account, patiently},
    kept::{Joiner, Kept, Kind, Line},
    output::{left_if, print_json, print_lines},
    walk::{Hold, Unseen, Walk},
};

/// The messages that are meant.
#[derive(Debug, clap::Args)]
#[group(id = "selected", required = true, multiple = true)]
pub(crate) struct Selected {
    /// Messages that are kept for this reason, such as `exhausted`
    #[arg(long)]
    reason: Option<String>,
    /// Messages of this order
    #[arg(long)]
    id: Option<String>,
    /// All messages
    #[arg(long, conflicts_with_all = ["reason", "id"])]
    all: bool,
}

/// The way in which they are taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Way {
    #[command(flatten)]
    selected: Selected,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print a line for each message
    #[arg(long)]
    each: bool,
    /// Take at most so many
    #[arg(long, value_name = "MESSAGES")]
    most: Option<u64>,
    #[command(flatten)]
    hold: Hold,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Taken,
    NotSelected,
    Stale,
    Refused,
    IncompleteParts,
    Foreign,
}

/// What is said of one message, and of all with this fate.
const FATES: [(Fate, &str, &str); 6] = [
    (Fate::Taken, "taken", "taken"),
    (Fate::NotSelected, "not selected", "not selected"),
    (Fate::Stale, "stale", "stale: older than the retention, so their orders may have taken effect; left"),
    (Fate::Refused, "refused", "refused by the queue; left"),
    (Fate::IncompleteParts, "left", "parts whose others are not there; left: see `discard --parts`"),
    (Fate::Foreign, "left", "not written by the handler; left: see `discard --foreign`"),
];

/// What became of the messages that were read.
#[derive(Debug, Serialize)]
struct Tally {
    dry_run: bool,
    #[serde(flatten)]
    fates: BTreeMap<Fate, u64>,
    newer: u64,
    #[serde(flatten)]
    unseen: Unseen,
}

/// Takes what is selected out of quarantine, and the `others` that are asked for besides whole messages: makes each safe
/// elsewhere with `save`, then deletes it here. What `is_stale` stays.
pub(crate) async fn take(
    account: &Account,
    (way, others): (&Way, &[Kind]),
    is_stale: impl Fn(&Kept) -> bool,
    save: impl AsyncFn(&Kept) -> Result<()>,
) -> Result<ExitCode> {
    let queue = &account.app.quarantine.queue;
    let until = patiently(async || account.service_time().await).await?.unwrap_or(account.began);
    let walk = Walk::begin(queue, way.hold, Some(until)).await?;
    let fates = FATES.map(|(fate, ..)| (fate, 0)).into();
    let tally = Tally { dry_run: way.dry_run, fates, newer: 0, unseen: Unseen::default() };
    let (json, chosen, are_parts_alone) = (account.json, 0, false);
    let mut taking = Taking { queue, way, others, json, walk, chosen, are_parts_alone, tally, is_stale, save };
    let result = taking.run().await;
    let Taking { mut tally, walk, .. } = taking;
    tally.newer = walk.newer;
    tally.unseen = walk.end().await?;
    report(account.json, &tally)?;
    result?;
    let is_done = |fate| matches!(fate, Fate::Taken | Fate::NotSelected);
    let is_left = tally.fates.iter().any(|(fate, count)| *count > 0 && !is_done(*fate));
    Ok(left_if(is_left || tally.unseen.interrupted || tally.unseen.held_by_others > 0))
}

struct Taking<'a, S, F> {
    queue: &'a Queue,
    way: &'a Way,
    others: &'a [Kind],
    json: bool,
    walk: Walk<'a>,
    /// Number of those that were to be taken.
    chosen: u64,
    are_parts_alone: bool,
    tally: Tally,
    is_stale: S,
    save: F,
}

impl<S: Fn(&Kept) -> bool, F: AsyncFn(&Kept) -> Result<()>> Taking<'_, S, F> {
    async fn run(&mut self) -> Result<()> {
        let mut joiner = Joiner::default();
        let result = self.run_whole(&mut joiner).await;
        let rest = joiner.rest();
        if result.is_err() || !self.walk.is_at_end {
            rest.iter().try_for_each(|part| self.leave(part))?;
            return result;
        }
        // The others of a part may be hidden, or on their way.
        self.are_parts_alone = self.walk.newer == 0 && self.walk.count_unseen(rest.len() as u64).await? == 0;
        self.settle(&rest).await
    }

    async fn run_whole(&mut self, joiner: &mut Joiner) -> Result<()> {
        while !self.has_enough()
            && let Some(page) = self.walk.next().await?
        {
            let kept: Vec<_> = page.into_iter().filter_map(|received| joiner.add(received)).collect();
            self.settle(&kept).await?;
        }
        Ok(())
    }

    /// Takes those that are meant, and leaves the others.
    async fn settle(&mut self, kept: &[Kept]) -> Result<()> {
        let chosen: Vec<_> = kept.iter().map(|kept| self.choose(kept)).collect();
        let settled = kept.iter().zip(chosen).map(async |(kept, fate)| match fate {
            Fate::Taken => self.take(kept).await,
            fate => Ok(fate),
        });
        let settled = join_all(settled).await;
        // Each is noted, whatever became of the others.
        let noted: Vec<_> = kept.iter().zip(settled).map(|(kept, fate)| self.note(kept, fate)).collect();
        let fates = noted.into_iter().collect::<Result<Vec<_>>>()?;
        kept.iter().zip(fates).try_for_each(|(kept, fate)| self.print(kept, fate))
    }

    fn choose(&mut self, kept: &Kept) -> Fate {
        let is_asked_for = self.others.contains(&kept.kind);
        let fate = match kept.kind {
            _ if self.has_enough() || !(is_asked_for || self.way.selected.means(kept)) => Fate::NotSelected,
            Kind::Part if !is_asked_for || !self.are_parts_alone => Fate::IncompleteParts,
            Kind::Foreign if !is_asked_for => Fate::Foreign,
            _ if (self.is_stale)(kept) => Fate::Stale,
            _ => Fate::Taken,
        };
        self.chosen += u64::from(fate == Fate::Taken);
        fate
    }

    fn has_enough(&self) -> bool {
        self.way.most.is_some_and(|most| self.chosen >= most)
    }

    async fn take(&self, kept: &Kept) -> Result<Fate> {
        if self.way.dry_run {
            return Ok(Fate::Taken);
        }
        match (self.save)(kept).await {
            Err(error) if is_about_the_message(&error) => return Ok(Fate::Refused),
            saved => saved?,
        }
        for held in &kept.held_in {
            patiently(async || self.queue.delete(held).await).await?;
        }
        Ok(Fate::Taken)
    }

    /// Counts a message, and leaves it unless it is gone.
    fn note(&mut self, kept: &Kept, fate: Result<Fate>) -> Result<Fate> {
        if self.way.dry_run || !matches!(fate, Ok(Fate::Taken)) {
            self.leave(kept)?;
        }
        let fate = fate?;
        *self.tally.fates.entry(fate).or_default() += 1;
        Ok(fate)
    }

    fn leave(&mut self, kept: &Kept) -> Result<()> {
        kept.held_in.iter().try_for_each(|held| self.walk.leave(held))
    }

    fn print(&self, kept: &Kept, fate: Fate) -> Result<()> {
        if !self.way.each || fate == Fate::NotSelected {
            return Ok(());
        }
        let word = FATES.iter().find(|(other, ..)| *other == fate).map(|(_, word, _)| *word);
        let outcome = if fate == Fate::Taken && self.way.dry_run { Some("would be taken") } else { word };
        Line { outcome, ..Line::of(kept, false) }.print(self.json)
    }
}

/// Says whether the queue refused a message for what it is, so that others can be put.
fn is_about_the_message(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<storage::Error>();
    error.is_some_and(|error| matches!(error, storage::Error::Refused { .. }) && error.is_about_the_request())
}

impl Selected {
    fn means(&self, kept: &Kept) -> bool {
        let is_named = self.reason.is_some() || self.id.is_some();
        let has_reason = self.reason.as_ref().is_none_or(|reason| *reason == kept.envelope.reason);
        let has_id = self.id.as_ref().is_none_or(|id| kept.id().as_deref() == Some(id.trim()));
        self.all || (is_named && has_reason && has_id)
    }
}

fn report(json: bool, tally: &Tally) -> Result<()> {
    if json {
        return print_json(tally);
    }
    let text = |(fate, _, text)| if fate == Fate::Taken && tally.dry_run { "would be taken" } else { text };
    let counts = FATES.iter().map(|fate| (text(*fate), tally.fates[&fate.0]));
    let counts = counts.chain([("newer than this command; left", tally.newer)]).enumerate();
    let lines = counts.filter(|(index, (_, count))| *index == 0 || *count > 0);
    let lines = lines.map(|(_, (name, count))| (name, count.to_string()));
    print_lines(&lines.chain(tally.unseen.lines()).collect::<Vec<_>>())
}
