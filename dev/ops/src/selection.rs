//! Taking selected messages out of quarantine: what `requeue` and `discard` have in common. Each message is safe
//! elsewhere before it is deleted here, so both can be killed at any point.

use anyhow::Result;
use futures::future::join_all;
use handler::storage::{self, Queue, queue::ReceivedMessage};
use serde::Serialize;
use tokio::signal::ctrl_c;

use crate::{
    account::{Account, patiently},
    kept::{Found, Joiner, Kept, id_and_printable},
    output::{Outcome, print_json, print_lines, rfc3339},
    walk::Walk,
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
    interrupted: bool,
    taken: u64,
    not_selected: u64,
    stale: u64,
    refused: u64,
    incomplete_parts: u64,
    foreign: u64,
    newer: u64,
    held_by_others: u64,
}

/// A line for one message.
#[derive(Serialize)]
struct Line<'a> {
    outcome: &'a str,
    id: Option<String>,
    printable: String,
    reason: &'a str,
    since: Option<String>,
}

/// Takes what is selected out of quarantine: makes each message safe elsewhere with `save`, then deletes it here. What
/// `is_stale` stays.
pub(crate) async fn take(
    account: &Account,
    way: &Way,
    is_stale: impl Fn(&Kept) -> bool,
    save: impl AsyncFn(&Kept) -> Result<(), storage::Error>,
) -> Result<Outcome> {
    let queue = &account.app.quarantine.queue;
    let walk = Walk::begin(queue, way.hold, account.began).await?;
    let tally = Tally { dry_run: way.dry_run, ..Tally::default() };
    let mut taking = Taking { queue, way, json: account.json, walk, tally, joiner: Joiner::default() };
    let result = taking.run(is_stale, save).await;
    let is_at_end = !taking.has_enough() && !taking.tally.interrupted;
    let Taking { mut tally, joiner, mut walk, .. } = taking;
    for part in joiner.rest() {
        tally.incomplete_parts += u64::from(is_at_end);
        walk.leave(&part)?;
    }
    tally.newer = walk.newer;
    tally.held_by_others = walk.end().await?;
    report(account.json, &tally)?;
    result?;
    let Tally { interrupted, stale, refused, held_by_others, .. } = tally;
    Ok(Outcome::left_if(interrupted || stale + refused + held_by_others > 0))
}

struct Taking<'a> {
    queue: &'a Queue,
    way: &'a Way,
    json: bool,
    walk: Walk<'a>,
    tally: Tally,
    joiner: Joiner,
}

impl Taking<'_> {
    async fn run(
        &mut self,
        is_stale: impl Fn(&Kept) -> bool,
        save: impl AsyncFn(&Kept) -> Result<(), storage::Error>,
    ) -> Result<()> {
        let interrupted = tokio::spawn(ctrl_c());
        while let Some(page) = self.walk.next().await? {
            let mut chosen = Vec::with_capacity(page.len());
            for received in page {
                chosen.extend(self.choose(received, &is_stale)?);
            }
            let taken = join_all(chosen.iter().map(async |kept| self.take(kept, &save).await)).await;
            // Each is counted, whatever became of the others.
            let noted: Vec<_> = chosen.iter().zip(taken).map(|(kept, taken)| self.note(kept, taken)).collect();
            noted.into_iter().collect::<Result<()>>()?;
            self.tally.interrupted = interrupted.is_finished();
            if self.tally.interrupted || self.has_enough() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the message that this one makes whole, if it is meant; leaves others.
    fn choose(&mut self, received: ReceivedMessage, is_stale: impl Fn(&Kept) -> bool) -> Result<Option<Kept>> {
        let kept = match self.joiner.add(received) {
            Found::Whole(kept) => kept,
            Found::Part => return Ok(None),
            Found::Foreign(received) => {
                self.tally.foreign += 1;
                self.walk.leave(&received)?;
                return Ok(None);
            }
        };
        if !self.way.selected.means(&kept) || self.has_enough() {
            self.tally.not_selected += 1;
        } else if is_stale(&kept) {
            self.tally.stale += 1;
            self.print("stale", &kept)?;
        } else {
            self.tally.taken += 1;
            return Ok(Some(kept));
        }
        self.leave(&kept)?;
        Ok(None)
    }

    async fn take(
        &self,
        kept: &Kept,
        save: impl AsyncFn(&Kept) -> Result<(), storage::Error>,
    ) -> Result<(), storage::Error> {
        if !self.way.dry_run {
            patiently(async || save(kept).await).await?;
            for held in &kept.held_in {
                patiently(async || self.queue.delete(held).await).await?;
            }
        }
        Ok(())
    }

    fn note(&mut self, kept: &Kept, taken: Result<(), storage::Error>) -> Result<()> {
        match taken {
            Ok(()) if self.way.dry_run => self.leave(kept)?,
            Ok(()) => return self.print("taken", kept),
            Err(error) => {
                self.tally.taken -= 1;
                self.leave(kept)?;
                if !matches!(error, storage::Error::Refused { .. }) || !error.is_about_the_request() {
                    return Err(error.into());
                }
                self.tally.refused += 1;
                return self.print("refused", kept);
            }
        }
        self.print("would be taken", kept)
    }

    fn has_enough(&self) -> bool {
        self.way.most.is_some_and(|most| self.tally.taken >= most)
    }

    fn leave(&mut self, kept: &Kept) -> Result<()> {
        kept.held_in.iter().try_for_each(|held| self.walk.leave(held))
    }

    fn print(&self, outcome: &str, kept: &Kept) -> Result<()> {
        if !self.way.each {
            return Ok(());
        }
        let (id, printable) = id_and_printable(&kept.envelope.message);
        let (reason, since) = (kept.envelope.reason.as_str(), kept.since().map(rfc3339));
        if self.json {
            return print_json(&Line { outcome, id, printable, reason, since });
        }
        println!("{outcome:8}  {reason:14}  {}  {printable}", since.unwrap_or_default());
        Ok(())
    }
}

impl Selected {
    fn means(&self, kept: &Kept) -> bool {
        let has_id = |id: &str| id_and_printable(&kept.envelope.message).0.as_deref() == Some(id);
        self.reason.as_ref().is_none_or(|reason| *reason == kept.envelope.reason)
            && self.id.as_deref().is_none_or(|id| has_id(id.trim()))
    }
}

fn report(json: bool, tally: &Tally) -> Result<()> {
    if json {
        return print_json(tally);
    }
    let taken = if tally.dry_run { "would be taken" } else { "taken" };
    let all = [
        (taken, tally.taken, true),
        ("not selected", tally.not_selected, false),
        ("stale: older than the retention, so their orders may have taken effect; left", tally.stale, false),
        ("refused by the queue; left", tally.refused, false),
        ("parts whose others are not there; left", tally.incomplete_parts, false),
        ("not written by the handler; left", tally.foreign, false),
        ("newer than this command; left", tally.newer, false),
        ("held by somebody else, or by a command that was killed: run this again", tally.held_by_others, false),
    ];
    let lines: Vec<_> = all.into_iter().filter(|(_, count, always)| *always || *count > 0).collect();
    print_lines(&lines.into_iter().map(|(name, count, _)| (name, count.to_string())).collect::<Vec<_>>());
    if tally.interrupted {
        println!("interrupted");
    }
    Ok(())
}
