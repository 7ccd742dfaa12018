//! Commit, then publish: the events of a committed operation reach the queue of events at least once each, always under
//! the same id and with the same bytes.
//!
//! The bodies are stored by the transaction that commits the operation, so an event exists exactly when its operation
//! does. They are published at once, [behind the answer](super::publisher); what a crash or an outage leaves behind, the
//! timer [relays](relay). Putting a message and deleting its row are two requests with a crash between them, hence *at
//! least* once: the consumer recognises a repetition by its id.

use super::{
    key::buckets,
    ledger::{Error, Ledger, OutboxEntry},
    record::SCHEMA,
};
use crate::{
    attempt::Attempt,
    backoff::{Backoff, retry},
    outage::Outage,
    storage::{self, MessageEncoding, Queue, RowTag},
};
use futures::{StreamExt, stream};
use std::{fmt::Display, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;
use tracing::{info, warn};

/// Time in which the events of one operation are published; the timer comes back to what is left.
pub(super) const PUBLISH_TIME: Duration = Duration::from_secs(10);

/// Number of buckets that a tick works on at the same time: commits share the partitions' rate.
pub(super) const BUCKETS_AT_ONCE: usize = 8;

/// The queue on which events are published.
#[derive(Debug)]
pub struct Events {
    /// The queue.
    pub queue: Queue,
    /// Encoding of the events on it.
    pub encoding: MessageEncoding,
    /// What is known of it.
    pub outage: Outage,
}

impl Events {
    /// Publishes on this queue, in this encoding.
    #[must_use]
    pub fn new(queue: Queue, encoding: MessageEncoding) -> Self {
        Self { queue, encoding, outage: Outage::new("events queue") }
    }
}

/// Publishes the events of one operation, for a short time, unless the queue is away. A failure is no failure of the
/// operation, which is committed: what is left stays in the outbox.
pub async fn publish(ledger: &Ledger, events: &Events, entries: &[OutboxEntry], attempt: &Attempt) {
    if entries.is_empty() {
        return;
    }
    let stop = attempt.deadline.min(Instant::now() + PUBLISH_TIME);
    let published = match events.outage.is_open(attempt) {
        true => Outbox { ledger, events, attempt, stop }.publish_and_delete(entries).await,
        false => Progress { stopped_by: events.outage.now().map(Into::into), ..Progress::default() },
    };
    if let Some(error) = published.stopped_by {
        left_to_the_timer((published.done, entries.len()), error);
    }
}

pub(super) fn left_to_the_timer((published, events): (usize, usize), cause: impl Display) {
    info!("Publishing is left to the timer: published={published} of={events} cause={cause}");
}

/// Result of a relay.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Number of events published.
    pub events: usize,
    /// Number of events that were seen and are left.
    pub left: usize,
    /// Time at which the oldest of them was committed.
    pub oldest_left: Option<OffsetDateTime>,
    /// Buckets in which something may be left.
    pub unfinished: Vec<u8>,
    /// Reason in one of them.
    pub cause: Option<Error>,
}

/// Work that may have been stopped before its end.
#[derive(Debug, Default)]
struct Progress {
    /// Number of events that are published.
    done: usize,
    /// Number of events that were seen and are left.
    left: usize,
    /// Time at which the oldest of them was committed.
    oldest_left: Option<OffsetDateTime>,
    /// Reason why something is left.
    stopped_by: Option<Error>,
}

impl Progress {
    fn stop(self, error: Error) -> Self {
        Self { stopped_by: Some(error), ..self }
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.left += other.left;
        self.oldest_left = self.oldest_left.into_iter().chain(other.oldest_left).min();
    }
}

/// Publishes the events left behind in all buckets, as many as can be until `stop`. While the table is away, it asks once
/// whether it is back.
pub async fn relay(ledger: &Ledger, events: &Events, attempt: &Attempt, stop: Instant) -> Relayed {
    // Each bucket finds out again, so the answer is not needed here.
    let _ = ledger.wait_until(Instant::now(), attempt).await;
    let outbox = &Outbox { ledger, events, attempt, stop };
    let relays = buckets(attempt.began).map(async |bucket| (bucket, outbox.relay_bucket(bucket).await));
    let (mut relayed, mut total) = (Relayed::default(), Progress::default());
    let mut results = stream::iter(relays).buffer_unordered(BUCKETS_AT_ONCE);
    while let Some((bucket, progress)) = results.next().await {
        total.add(&progress);
        if let Some(error) = progress.stopped_by {
            relayed.unfinished.push(bucket);
            // The first one: what comes last is that there was no time, whatever took it.
            relayed.cause.get_or_insert(error);
        }
    }
    Relayed { events: total.done, left: total.left, oldest_left: total.oldest_left, ..relayed }
}

/// The outbox, as one attempt empties it.
pub(super) struct Outbox<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) events: &'a Events,
    pub(super) attempt: &'a Attempt,
    /// No query and no put begins after this; the rows of what was put before are still deleted.
    pub(super) stop: Instant,
}

impl Outbox<'_> {
    /// Publishes what is left behind in one bucket.
    async fn relay_bucket(&self, bucket: u8) -> Progress {
        let mut relayed = Progress::default();
        let mut pages = self.ledger.unpublished_events(bucket, self.attempt.time());
        loop {
            if self.is_out_of_time() {
                return relayed.stop(Error::OutOfTime);
            }
            if let Some(away) = self.ledger.outage.now() {
                return relayed.stop(away.into());
            }
            let page = match pages.next().await {
                Some(Err(error)) if self.ledger.is_new(&error) => return relayed,
                Some(page) => match self.ledger.heard(page, self.attempt).await {
                    Ok(page) => page,
                    Err(error) => return relayed.stop(error),
                },
                None => return relayed,
            };
            let published = self.publish_and_delete(&page).await;
            relayed.add(&published);
            match published.stopped_by {
                Some(error) if !is_about_one_event(&error) => return relayed.stop(error),
                stopped_by => relayed.stopped_by = relayed.stopped_by.or(stopped_by),
            }
        }
    }

    /// Puts events of one partition on the queue, and deletes the rows of those that are there.
    async fn publish_and_delete(&self, entries: &[OutboxEntry]) -> Progress {
        let (published, stopped_by) = self.put_all(entries).await;
        let rows: Vec<_> = published.iter().map(|entry| &entry.tag).collect();
        let deleted = match published.first() {
            Some(first) => self.delete(&first.partition_key, &rows).await,
            None => Ok(()),
        };
        let is_left = |entry: &&OutboxEntry| !published.iter().any(|other| std::ptr::eq(*other, *entry));
        let created_at = |entry: &OutboxEntry| OffsetDateTime::parse(entry.created_at.as_deref()?, &Rfc3339).ok();
        Progress {
            done: published.len(),
            left: entries.len() - published.len(),
            oldest_left: entries.iter().filter(is_left).filter_map(created_at).min(),
            stopped_by: stopped_by.or(deleted.err().map(Into::into)),
        }
    }

    /// Puts events on the queue, and returns those that are there. An event that cannot be published stays, and does not
    /// hold up the others; when the queue cannot be used, the others wait too.
    pub(super) async fn put_all<'e>(&self, entries: &'e [OutboxEntry]) -> (Vec<&'e OutboxEntry>, Option<Error>) {
        let mut published = Vec::with_capacity(entries.len());
        let mut stopped_by = None;
        for entry in entries {
            match self.put(entry).await {
                Ok(()) => published.push(entry),
                Err(error) if is_about_one_event(&error) => {
                    warn!("An event cannot be published: row={} cause={error}", entry.tag.row_key);
                    stopped_by = Some(error);
                }
                Err(error) => {
                    stopped_by = Some(error);
                    break;
                }
            }
        }
        (published, stopped_by)
    }

    /// Deletes the rows of events of one partition that are on the queue.
    pub(super) async fn delete(&self, partition_key: &str, rows: &[&RowTag]) -> Result<(), storage::Error> {
        self.with_retries(async || self.ledger.delete_published(partition_key, rows).await).await
    }

    async fn put(&self, entry: &OutboxEntry) -> Result<(), Error> {
        if entry.schema != SCHEMA || entry.body.is_empty() {
            return Err(Error::UnknownSchema(entry.schema));
        }
        if self.is_out_of_time() {
            return Err(Error::OutOfTime);
        }
        let begin = Instant::now();
        let put = self.with_retries(async || self.events.queue.put(&entry.body).await).await;
        self.events.outage.note(begin, &put, self.attempt);
        Ok(put?)
    }

    fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.stop
    }

    /// Makes a request, and repeats it a few times while it fails for the moment and there is time: the timer comes
    /// back to what is left.
    async fn with_retries(&self, request: impl AsyncFn() -> Result<(), storage::Error>) -> Result<(), storage::Error> {
        let delays = Backoff::IMPATIENT.delays(self.attempt.random());
        retry(self.stop, delays, storage::Error::wait_before_retry, request).await
    }
}

fn is_about_one_event(error: &Error) -> bool {
    match error {
        Error::Storage(error) => error.is_about_the_request(),
        Error::UnknownSchema(_) => true,
        Error::Away(_) | Error::PartitionAway(_) | Error::OutOfTime => false,
    }
}
