//! Reading a queue through. A queue shows 32 messages at the most to who only looks, so messages are received: for a while
//! nobody else sees them. What a command leaves on the queue it shows again at its end; a command that is killed leaves that
//! to time.
//!
//! What is to be shown again is noted in a file, so that a million messages take no memory.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Seek, Write},
    time::Duration,
};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use handler::storage::{Queue, queue::ReceivedMessage};
use time::OffsetDateTime;

use crate::{account::patiently, output::Progress};

/// Requests that are made at the same time.
pub(crate) const AT_ONCE: usize = 32;

/// One reading of a queue, up to what was put there after the command began.
pub(crate) struct Walk<'a> {
    queue: &'a Queue,
    hold: Duration,
    began: OffsetDateTime,
    left: BufWriter<File>,
    first_left: Option<String>,
    seen: u64,
    /// Number of messages that were put there after the command began, and are left alone.
    pub(crate) newer: u64,
    progress: Progress,
}

impl<'a> Walk<'a> {
    /// Begins to read a queue. Nobody else sees for `hold` what is read, by default for as long as it surely takes.
    pub(crate) async fn begin(queue: &'a Queue, hold: Option<u64>, began: OffsetDateTime) -> Result<Self> {
        let length = patiently(async || queue.length().await).await?;
        let hold = Duration::from_secs(hold.unwrap_or(60 + length / 100).min(7 * 24 * 3600));
        let left = BufWriter::new(tempfile::tempfile()?);
        Ok(Self { queue, hold, began, left, first_left: None, seen: 0, newer: 0, progress: Progress::new("read") })
    }

    /// Reads some messages; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ReceivedMessage>>> {
        let page = patiently(async || self.queue.receive(self.hold).await).await?;
        let is_empty = page.is_empty();
        let is_second_time = page.iter().any(|message| self.first_left.as_ref() == Some(&message.id));
        let is_newer = |message: &ReceivedMessage| message.inserted.is_some_and(|inserted| inserted > self.began);
        let (newer, page): (Vec<_>, Vec<_>) = page.into_iter().partition(is_newer);
        self.newer += newer.len() as u64;
        for message in &newer {
            self.leave(message)?;
        }
        self.seen += page.len() as u64;
        self.progress.show(self.seen);
        if is_second_time {
            for message in &page {
                self.leave(message)?;
            }
        }
        Ok(Some(page).filter(|page| !is_empty && !is_second_time && !page.is_empty()))
    }

    /// Leaves a message where it is.
    pub(crate) fn leave(&mut self, message: &ReceivedMessage) -> Result<()> {
        self.first_left.get_or_insert_with(|| message.id.clone());
        Ok(writeln!(self.left, "{} {}", message.id, message.pop_receipt)?)
    }

    /// Shows what was left to others again, and counts what somebody else holds, about.
    pub(crate) async fn end(self) -> Result<u64> {
        let Self { queue, left, .. } = self;
        let mut left = left.into_inner()?;
        left.rewind()?;
        let lines = stream::iter(BufReader::new(left).lines()).map_err(anyhow::Error::from);
        let release = async |line: String| -> Result<u64> {
            let (id, pop_receipt) = line.split_once(' ').unwrap_or_default();
            let message = ReceivedMessage {
                id: id.to_owned(),
                pop_receipt: pop_receipt.to_owned(),
                ..ReceivedMessage::default()
            };
            patiently(async || queue.release(&message).await).await?;
            Ok(1)
        };
        let released = lines.map(async |line| release(line?).await).buffer_unordered(AT_ONCE);
        let released: u64 = released.try_fold(0, async |sum, one| Ok(sum + one)).await?;
        let length = patiently(async || queue.length().await).await?;
        Ok(length.saturating_sub(released))
    }
}
