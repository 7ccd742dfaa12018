//! Taking selected messages out of quarantine: what `requeue` and `discard` have in common. Each message is safe
//! elsewhere before it is deleted here, so both can be killed at any point.

use anyhow::Result;
use futures::future::join_all;
use handler::storage::{self, Queue};
use serde::Serialize;

use crate::{
    account::{Account, patiently},
    kept::{Joiner, Kept, Kind, Line},
    output::{Outcome, print_json, print_lines},
    walk::{Unseen, Walk},
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
    /// Seconds for which nobody else sees what was read, if this command is killed [default: as long as it surely takes]
    #[arg(long, value_name = "SECONDS")]
    hold: Option<u64>,
}

/// What became of the messages that were read.
#[derive(Debug, Default, Serialize)]
struct Tally {
    dry_run: bool,
    taken: u64,
    not_selected: u64,
    stale: u64,
    refused: u64,
    incomplete_parts: u64,
    foreign: u64,
    newer: u64,
    #[serde(flatten)]
    unseen: Unseen,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    NotSelected,
    Stale,
    Refused,
    IncompletePart,
    Foreign,
}

/// Takes what is selected out of quarantine, and the `others` that are asked for besides whole messages: makes each safe
/// elsewhere with `save`, then deletes it here. What `is_stale` stays.
pub(crate) async fn take(
    account: &Account,
    (way, others): (&Way, &[Kind]),
    is_stale: impl Fn(&Kept) -> bool,
    save: impl AsyncFn(&Kept) -> Result<()>,
) -> Result<Outcome> {
    let queue = &account.app.quarantine.queue;
    let until = patiently(async || account.service_time().await).await?.unwrap_or(account.began);
    let walk = Walk::begin(queue, way.hold, Some(until)).await?;
    let tally = Tally { dry_run: way.dry_run, ..Tally::default() };
    let (json, chosen, are_parts_alone) = (account.json, 0, false);
    let mut taking = Taking { queue, way, others, json, walk, chosen, are_parts_alone, tally, is_stale, save };
    let result = taking.run().await;
    let Taking { mut tally, walk, .. } = taking;
    tally.newer = walk.newer;
    tally.unseen = walk.end().await?;
    report(account.json, &tally)?;
    result?;
    let Tally { stale, refused, incomplete_parts, foreign, .. } = tally;
    let left = stale + refused + incomplete_parts + foreign + tally.unseen.held_by_others;
    Ok(Outcome::left_if(tally.unseen.interrupted || left > 0))
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
            Kind::Part if !is_asked_for || !self.are_parts_alone => Fate::IncompletePart,
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
        *self.tally.count(fate) += 1;
        Ok(fate)
    }

    fn leave(&mut self, kept: &Kept) -> Result<()> {
        kept.held_in.iter().try_for_each(|held| self.walk.leave(held))
    }

    fn print(&self, kept: &Kept, fate: Fate) -> Result<()> {
        let outcome = match fate {
            Fate::Taken if self.way.dry_run => "would be taken",
            Fate::Taken => "taken",
            Fate::Stale => "stale",
            Fate::Refused => "refused",
            Fate::IncompletePart | Fate::Foreign => "left",
            Fate::NotSelected => return Ok(()),
        };
        if !self.way.each {
            return Ok(());
        }
        Line { outcome: Some(outcome), ..Line::of(kept, false) }.print(self.json)
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

impl Tally {
    const fn count(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Taken => &mut self.taken,
            Fate::NotSelected => &mut self.not_selected,
            Fate::Stale => &mut self.stale,
            Fate::Refused => &mut self.refused,
            Fate::IncompletePart => &mut self.incomplete_parts,
            Fate::Foreign => &mut self.foreign,
        }
    }
}

fn report(json: bool, tally: &Tally) -> Result<()> {
    if json {
        return print_json(tally);
    }
    let taken = if tally.dry_run { "would be taken" } else { "taken" };
    let lines = [
        ("not selected", tally.not_selected),
        ("stale: older than the retention, so their orders may have taken effect; left", tally.stale),
        ("refused by the queue; left", tally.refused),
        ("parts whose others are not there; left: see `discard --parts`", tally.incomplete_parts),
        ("not written by the handler; left: see `discard --foreign`", tally.foreign),
        ("newer than this command; left", tally.newer),
    ];
    let lines = lines.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.to_string()));
    let taken = [(taken, tally.taken.to_string())];
    print_lines(&taken.into_iter().chain(lines).chain(tally.unseen.lines()).collect::<Vec<_>>())
}
