//! Reading a queue through. A queue shows 32 messages at the most to who only looks, so messages are received: for a while
//! nobody else sees them. What a command leaves on the queue it shows again at its end, also when it is interrupted; one that
//! is killed leaves that to time.
//!
//! What is to be shown again is noted in a file, so that a million messages take no memory.

use std::{
    fs::File,
    future::pending,
    io::{BufRead, BufReader, BufWriter, Seek, Write},
    process::exit,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use handler::storage::{Queue, queue::ReceivedMessage};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use crate::{
    account::patiently,
    output::{Progress, tell},
};

/// Requests that are made at the same time.
pub(crate) const AT_ONCE: usize = 32;

/// The time for which messages that were read are hidden.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Hold {
    /// Seconds for which nobody else sees what was read, if this command is killed [default: as long as it surely takes]
    #[arg(long = "hold", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=7 * 24 * 3600))]
    seconds: Option<u64>,
}

/// One reading of a queue.
pub(crate) struct Walk<'a> {
    queue: &'a Queue,
    hold: Duration,
    until: Option<OffsetDateTime>,
    left: BufWriter<File>,
    first_left: Option<String>,
    left_count: u64,
    seen: u64,
    /// Whether nothing is left to be read.
    pub(crate) is_at_end: bool,
    /// Number of messages that were put there after `until`, and are left alone.
    pub(crate) newer: u64,
    progress: Progress,
}

/// What is on the queue, about, and was not read.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Unseen {
    pub(crate) interrupted: bool,
    /// Since the command ended before.
    pub(crate) unread: u64,
    /// Since they are hidden.
    pub(crate) held_by_others: u64,
}

impl Unseen {
    /// Adds what was not seen of another queue.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.interrupted |= other.interrupted;
        self.unread += other.unread;
        self.held_by_others += other.held_by_others;
    }

    /// Returns what is to be said of it.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let lines = [
            ("held by somebody else, or by a command that was killed: run this again", self.held_by_others),
            ("not read, since the command ended before", self.unread),
        ];
        let lines = lines.into_iter().filter(|(_, count)| *count > 0);
        let interrupted = self.interrupted.then(|| ("interrupted", "what was read can be seen again".to_owned()));
        lines.map(|(name, count)| (name, format!("about {count}"))).chain(interrupted).collect()
    }
}

/// Looks at all messages of a queue, and leaves them there.
pub(crate) async fn look_through(
    queue: &Queue,
    hold: Hold,
    mut see: impl FnMut(ReceivedMessage) -> Result<()>,
) -> Result<Unseen> {
    let mut walk = Walk::begin(queue, hold, None).await?;
    let mut look = async || -> Result<()> {
        while let Some(page) = walk.next().await? {
            page.iter().try_for_each(|message| walk.leave(message))?;
            page.into_iter().try_for_each(&mut see)?;
        }
        Ok(())
    };
    let looked = look().await;
    let unseen = walk.end().await;
    looked.and(unseen)
}

impl<'a> Walk<'a> {
    /// Begins to read a queue, up to what was put there after `until`. Nobody else sees for `hold` what is read.
    pub(crate) async fn begin(queue: &'a Queue, hold: Hold, until: Option<OffsetDateTime>) -> Result<Self> {
        let length = patiently(async || queue.length().await).await?;
        let hold = Duration::from_secs(hold.seconds.unwrap_or(60 + length / 100).min(7 * 24 * 3600));
        let left = BufWriter::new(
            tempfile::tempfile().context("what is read cannot be noted in a temporary file, see TMPDIR")?,
        );
        watch_signals();
        let progress = Progress::new("read");
        let (first_left, is_at_end) = (None, false);
        Ok(Self { queue, hold, until, left, first_left, left_count: 0, seen: 0, is_at_end, newer: 0, progress })
    }

    /// Reads some messages; `None` at the end, and when the command is interrupted.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ReceivedMessage>>> {
        if is_interrupted() {
            return Ok(None);
        }
        let page = patiently(async || self.queue.receive(self.hold).await).await?;
        let is_second_time = page.iter().any(|message| self.first_left.as_ref() == Some(&message.id));
        self.is_at_end = is_second_time || page.is_empty();
        let is_newer = |message: &ReceivedMessage| self.until.is_some_and(|until| message.inserted > Some(until));
        let (newer, page): (Vec<_>, Vec<_>) = page.into_iter().partition(is_newer);
        self.newer += newer.len() as u64;
        self.seen += page.len() as u64;
        self.progress.show(self.seen);
        let again = if is_second_time { &page[..] } else { &[] };
        newer.iter().chain(again).try_for_each(|message| self.leave(message))?;
        Ok(Some(page).filter(|page| !is_second_time && !page.is_empty()))
    }

    /// Leaves a message where it is.
    pub(crate) fn leave(&mut self, message: &ReceivedMessage) -> Result<()> {
        self.first_left.get_or_insert_with(|| message.id.clone());
        self.left_count += 1;
        Ok(writeln!(self.left, "{} {}", message.id, message.pop_receipt)?)
    }

    /// Counts the messages on the queue, about, but for those that were left and so many `others`.
    pub(crate) async fn count_unseen(&self, others: u64) -> Result<u64> {
        let length = patiently(async || self.queue.length().await).await?;
        Ok(length.saturating_sub(self.left_count + others))
    }

    /// Shows what was left to others again.
    pub(crate) async fn end(self) -> Result<Unseen> {
        let rest = self.count_unseen(0).await;
        let Self { queue, left, is_at_end, hold, .. } = self;
        let mut left = left.into_inner()?;
        left.rewind()?;
        let release = async |line: std::io::Result<String>| -> Result<()> {
            let line = line?;
            let (id, pop_receipt) = line.split_once(' ').unwrap_or_default();
            let (id, pop_receipt) = (id.to_owned(), pop_receipt.to_owned());
            let message = ReceivedMessage { id, pop_receipt, ..ReceivedMessage::default() };
            let released = patiently(async || queue.release(&message).await).await;
            released.with_context(|| format!("what was read may stay hidden for {} s", hold.as_secs()))
        };
        let mut progress = Progress::new("shown again");
        let mut released =
            stream::iter(BufReader::new(left).lines()).map(release).buffer_unordered(AT_ONCE).enumerate();
        while let Some((index, released)) = released.next().await {
            released?;
            progress.show(index as u64 + 1);
        }
        let (held_by_others, unread) = if is_at_end { (rest?, 0) } else { (0, rest?) };
        Ok(Unseen { interrupted: is_interrupted() && !is_at_end, unread, held_by_others })
    }
}

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

/// Notes that the command is to end, by Ctrl-C or SIGTERM. The second time it ends at once.
fn watch_signals() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        tokio::spawn(async {
            wait_for_signal().await;
            IS_INTERRUPTED.store(true, Ordering::Relaxed);
            tell("stopping, and showing again what was read; once more to stop at once");
            wait_for_signal().await;
            exit(1);
        });
    });
}

async fn wait_for_signal() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return pending().await };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
