//! Commits operations and purges old records: the only writer of the table.
//!
//! Every request here may be lost, applied without an answer, or applied late, and a caller may be killed between any
//! two of them. What makes that harmless: a record is only ever *inserted*, with the commit id of its attempt, and only
//! ever deleted with the `ETag` under which it was seen. "The entity exists" means *look*, never *done*.
//!
//! Dropping a future of this module at any point is safe for the same reason: the next delivery looks.

use super::{
    Fingerprint, Key,
    key::{bucket_of_the_tick, partition_key},
    record::{Content, Lifetime, OutboxRow, Record, Row, SCHEMA, StoredRecord, edm_date_time},
    verdict::{Verdict, verdict},
};
use crate::{
    attempt::Attempt,
    retry::{Backoff, Failed, until},
    storage::{self, RowTag, Table, table::Pages},
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Deserializer};
use std::ops::Range;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::warn;

/// An event younger than this is about to be published by the invocation that committed it.
pub const GRACE: Duration = Duration::seconds(30);

/// A duplicate looks for events left behind when its record is of this age: a crash brings the message back after the
/// `visibilityTimeout`, or after ten minutes when the host itself is gone. Before, the first delivery may be at work;
/// later, the timer has had its turn.
const LEFT_BEHIND: Range<Duration> = GRACE..Duration::minutes(15);

/// How much longer than its retention a record is kept. The retention counts from the beginning of the attempt, by the
/// clock of its worker, but the insert may come later, and the clocks of two workers differ. This covers the five minutes
/// of an attempt under `functionTimeout` as it is, half an hour for a lost request, and clocks ten minutes off each way.
pub const MARGIN: Duration = Duration::hours(1);

/// The records of all committed operations.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
    retention: Duration,
}

/// Why the ledger does not know, or did not do, what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table did not do it.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The record was written by something newer than this program.
    #[error("a record has schema version {0}, which this program does not know")]
    UnknownSchema(i32),
    /// Nothing is wrong, but there was more to do.
    #[error("there was no time for the rest")]
    OutOfTime,
}

/// An operation to commit.
#[derive(Debug)]
pub struct Operation<'a> {
    /// Which operation it is.
    pub key: &'a Key,
    /// What its message says.
    pub fingerprint: &'a Fingerprint,
    /// What to answer when it is committed, to this delivery and to all later ones.
    pub receipt: &'a str,
    /// The bodies of its events, to publish after the commit.
    pub events: &'a [String],
}

/// How a commit ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation took effect now; these events are to be published.
    Committed(Vec<Pending>),
    /// It had taken effect before.
    Duplicate {
        /// What the first delivery was answered.
        receipt: String,
        /// What the first delivery left behind.
        pending: Vec<Pending>,
    },
    /// Another operation with the same id had taken effect before.
    Conflict,
}

/// A committed event that is not known to be published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pending {
    /// Where it is stored.
    #[serde(rename = "PartitionKey")]
    pub partition_key: String,
    /// As it was seen there.
    #[serde(flatten)]
    pub tag: RowTag,
    /// See [`SCHEMA`]: of a later version only this is known.
    pub schema: i32,
    /// What to publish.
    #[serde(default, deserialize_with = "text_or_null")]
    pub body: String,
}

/// Asked for a property that a row does not have, the service answers with null; the emulator leaves it out.
fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Ledger {
    /// A ledger in `table` that keeps records for `retention`.
    #[must_use]
    pub const fn new(table: Table, retention: Duration) -> Self {
        Self { table, retention }
    }

    /// Commits `operation` unless it was committed before.
    ///
    /// One request when it is new, two when it is a duplicate.
    ///
    /// # Errors
    ///
    /// It is not known to be committed, and the next delivery has to look again.
    pub async fn commit(&self, operation: &Operation<'_>, attempt: &Attempt) -> Result<Outcome, Error> {
        let mut random = attempt.random.clone();
        let commit_id = format!("{:032x}", random.u128(..));
        let rows = self.rows(operation, &commit_id, attempt.now);
        until(attempt.deadline, Backoff::PATIENT.pauses(random), async || {
            match self.insert(operation.key, &rows).await {
                Ok(etags) => Ok(Outcome::Committed(self.inserted(operation, etags).await)),
                Err(error) if error.is_conflict() || error.may_be_applied() => {
                    let verdict = self.look(operation, &commit_id).await?;
                    self.conclude(operation, verdict, (error, attempt.now)).await
                }
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// The entities of the transaction; the record comes first, so that a refusal is about it.
    fn rows<'a>(&self, operation: &'a Operation<'_>, commit_id: &'a str, now: OffsetDateTime) -> Vec<Row<'a>> {
        let &Operation { key, fingerprint, receipt, events } = operation;
        let lifetime = Lifetime { committed_at: now, expires_at: now.saturating_add(self.retention) };
        let content = Content { fingerprint, receipt, events: events.len() };
        let record = Row::Record(Record::new(key, content, commit_id, lifetime));
        let event = |(index, body): (usize, &'a String)| Row::Outbox(OutboxRow::new(key, (index, body), now));
        std::iter::once(record).chain(events.iter().enumerate().map(event)).collect()
    }

    /// Inserts the rows, into a new table when there is none yet.
    async fn insert(&self, key: &Key, rows: &[Row<'_>]) -> Result<Vec<Option<String>>, storage::Error> {
        let partition_key = key.partition_key();
        match self.table.insert_all(&partition_key, rows).await {
            Err(error) if error.is_table_missing() => {
                self.table.create().await?;
                warn!("The table did not exist and was created: every id is new to it.");
                self.table.insert_all(&partition_key, rows).await
            }
            result => result,
        }
    }

    /// The events just inserted, as they were inserted: the answer has their `ETag`s, after that of the record.
    async fn inserted(&self, operation: &Operation<'_>, etags: Vec<Option<String>>) -> Vec<Pending> {
        let &Operation { key, events, .. } = operation;
        let pending = etags.into_iter().skip(1).zip(events).enumerate().map(|(index, (etag, body))| {
            let tag = RowTag { row_key: key.outbox_row_key(index), etag: etag? };
            Some(Pending { partition_key: key.partition_key(), tag, schema: SCHEMA, body: body.clone() })
        });
        match pending.collect::<Option<Vec<_>>>() {
            Some(pending) => pending,
            None => self.left_behind(key).await,
        }
    }

    /// Reads what is stored for an operation whose insert was refused or not answered.
    async fn look(&self, operation: &Operation<'_>, commit_id: &str) -> Result<Verdict, Failed<Error>> {
        let (partition_key, row_key) = (operation.key.partition_key(), operation.key.record_row_key());
        let stored = match self.table.get::<StoredRecord>(&partition_key, &row_key).await {
            Err(error) if error.is_table_missing() => None,
            result => result.map_err(failed)?,
        };
        Ok(verdict(stored, commit_id, operation.fingerprint))
    }

    /// What the verdict means for an insert that ended with `refusal`.
    async fn conclude(
        &self,
        operation: &Operation<'_>,
        verdict: Verdict,
        (refusal, now): (storage::Error, OffsetDateTime),
    ) -> Result<Outcome, Failed<Error>> {
        match verdict {
            Verdict::Committed if operation.events.is_empty() => Ok(Outcome::Committed(Vec::new())),
            Verdict::Committed => Ok(Outcome::Committed(self.left_behind(operation.key).await)),
            Verdict::Duplicate(record) => {
                let looks = record.events > 0 && LEFT_BEHIND.contains(&(now - record.committed_at));
                let pending = if looks { self.left_behind(operation.key).await } else { Vec::new() };
                Ok(Outcome::Duplicate { receipt: record.receipt, pending })
            }
            Verdict::Conflict => Ok(Outcome::Conflict),
            Verdict::NotApplied => Err(Failed::Transient { retry_after: refusal.retry_after(), cause: refusal.into() }),
            Verdict::UnknownSchema(version) => Err(Failed::Permanent(Error::UnknownSchema(version))),
        }
    }

    /// The events of one operation that are not published. The operation stands whether or not they can be read.
    async fn left_behind(&self, key: &Key) -> Vec<Pending> {
        let (start, end) = key.outbox_range();
        let range = format!("PartitionKey eq '{}' and RowKey ge '{start}' and RowKey lt '{end}'", key.partition_key());
        let pages = self.pages_of_events(range);
        pages.try_concat().await.unwrap_or_else(|error| {
            warn!("The events of this order are left to the timer: {error}");
            Vec::new()
        })
    }

    /// The events of a bucket that were committed before `now` less [`GRACE`], page by page.
    pub fn pending(&self, bucket: u8, now: OffsetDateTime) -> Pages<'_, Pending> {
        let (partition_key, before) = (partition_key(bucket), edm_date_time(now - GRACE));
        self.pages_of_events(format!(
            "PartitionKey eq '{partition_key}' and RowKey ge 'outbox~' and RowKey lt 'outbox~~' and created_at lt datetime'{before}'"
        ))
    }

    fn pages_of_events(&self, filter: String) -> Pages<'_, Pending> {
        self.table.query(filter, "PartitionKey,RowKey,schema,body")
    }

    /// Takes `events` of one partition, which are published, out of the outbox.
    ///
    /// # Errors
    ///
    /// Some may be left, to be published again under the same id.
    pub async fn published(&self, events: &[&Pending]) -> Result<(), storage::Error> {
        let Some(Pending { partition_key, .. }) = events.first() else { return Ok(()) };
        self.delete(partition_key, &events.iter().map(|event| &event.tag).collect::<Vec<_>>()).await
    }

    /// Deletes the records of this tick's bucket that are past their retention and [`MARGIN`], until `stop`. Says how
    /// many, also when some are left.
    pub async fn purge(&self, attempt: &Attempt, stop: Instant) -> (usize, Result<(), Error>) {
        let partition_key = partition_key(bucket_of_the_tick(attempt.now));
        let filter = format!(
            "PartitionKey eq '{partition_key}' and RowKey ge 'record~' and RowKey lt 'record~~' and expires_at lt datetime'{}'",
            edm_date_time(attempt.now - MARGIN)
        );
        let mut purged = 0;
        let mut pages = self.table.query::<RowTag>(filter, "RowKey");
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if error.is_table_missing() => break,
                Err(error) => return (purged, Err(error.into())),
            };
            if let Err(error) = self.delete(&partition_key, &page.iter().collect::<Vec<_>>()).await {
                return (purged, Err(error.into()));
            }
            purged += page.len();
            if Instant::now() >= stop {
                return (purged, Err(Error::OutOfTime));
            }
        }
        (purged, Ok(()))
    }

    /// Deletes rows of one partition as they were seen. One that is gone was deleted by another instance.
    async fn delete(&self, partition_key: &str, rows: &[&RowTag]) -> Result<(), storage::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.table.delete_all(partition_key, rows).await {
            Err(error) if error.is_changed_or_gone() && rows.len() > 1 => {
                for row in rows {
                    self.table.delete_all(partition_key, &[row]).await.or_else(ignore_gone)?;
                }
                Ok(())
            }
            result => result.or_else(ignore_gone),
        }
    }
}

fn ignore_gone(error: storage::Error) -> Result<(), storage::Error> {
    if error.is_changed_or_gone() { Ok(()) } else { Err(error) }
}

/// Another attempt helps when the storage recovers, and when a table that was just created can be seen.
fn failed(error: storage::Error) -> Failed<Error> {
    if error.is_transient() || error.is_table_missing() {
        Failed::Transient { retry_after: error.retry_after(), cause: error.into() }
    } else {
        Failed::Permanent(error.into())
    }
}
