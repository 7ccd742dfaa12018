//! The ledger commits operations and purges old records: the only writer of the table.
//!
//! Every request here may be lost, applied without an answer, or applied late, and a caller may be killed between any
//! two of them. What makes that harmless: a record is only ever *inserted*, with the commit id of its attempt, and only
//! ever deleted with the `ETag` under which it was seen. "The entity exists" means *look*, never *done*.
//!
//! Dropping a future of this module at any point is safe for the same reason: the next delivery looks.

use super::{
    Key,
    key::{expiry_row_key_before, partition_key},
    record::{IndexRow, Operation, RecordTag, SCHEMA, StoredRecord, edm_date_time, or_default, rows},
    verdict::{Verdict, verdict},
};
use crate::{
    attempt::Attempt,
    backoff::{Backoff, retry},
    outage::{self, Outage, StillAway},
    storage::{self, RowTag, Table, table::Pages},
};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::warn;

/// An event younger than this is about to be published by the invocation that committed it.
pub const PUBLISH_GRACE: Duration = Duration::seconds(30);

/// A duplicate publishes events left behind when its record is of this age: a crash brings the message back after the
/// `visibilityTimeout`, or after ten minutes when the host itself is gone. Before, the first delivery may be at work;
/// later, the timer has had its turn.
const REPUBLISH_AGE: Range<Duration> = PUBLISH_GRACE..Duration::minutes(15);

/// Time in which a commit is repeated, after which the message is put back: an invocation that waits for one partition takes
/// the place of another.
const COMMIT_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// Row that is inserted, or found to be there, to learn whether the table answers. Its partition is none of the buckets.
const PROBE: Probe = Probe { partition_key: "probe", row_key: "probe" };

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Probe {
    partition_key: &'static str,
    row_key: &'static str,
}

/// The records of all committed operations.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
    retention: Duration,
    /// Whether a table that is not there is created by the first commit. Elsewhere a missing table is an outage: an empty
    /// one knows none of the orders that took effect.
    creates_table: bool,
    /// What is known of the table.
    pub outage: Outage,
}

/// Why the ledger does not know, or did not do, what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table did not do it.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The table does nothing at all.
    #[error(transparent)]
    Away(#[from] StillAway),
    /// The row was written by something newer than this program, or is damaged. A version that cannot be read is 0.
    #[error("this program cannot read a row of schema version {0}")]
    UnknownSchema(i32),
    /// Nothing is wrong, but there was more to do.
    #[error("there was no time for the rest")]
    OutOfTime,
}

/// Result of a commit.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation took effect now; these events are to be published.
    Committed(Vec<OutboxEntry>),
    /// It had taken effect before.
    Duplicate {
        /// Answer to the first delivery.
        receipt: String,
        /// Time at which it took effect.
        committed_at: OffsetDateTime,
        /// Invocation in which it did, by the host's id.
        invocation: String,
        /// Events that the first delivery left behind.
        unpublished: Vec<OutboxEntry>,
    },
    /// Another operation with the same id had taken effect before.
    Conflict,
}

/// A committed event that is not known to be published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OutboxEntry {
    /// Partition in which it is stored.
    #[serde(rename = "PartitionKey")]
    pub partition_key: String,
    /// Row, as it was seen there.
    #[serde(flatten)]
    pub tag: RowTag,
    /// See [`SCHEMA`]: of a later version only this is known.
    #[serde(default, deserialize_with = "or_default")]
    pub schema: i32,
    /// Message to publish, which is never empty.
    #[serde(default, deserialize_with = "or_default")]
    pub body: String,
    /// Time at which it was committed, if that was asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: Option<String>,
}

impl Ledger {
    /// Makes a ledger in `table` that keeps records for `retention`. With `creates_table`, the first commit creates a table
    /// that is not there.
    #[must_use]
    pub fn new(table: Table, retention: Duration, creates_table: bool) -> Self {
        Self { table, retention, creates_table, outage: Outage::new("table") }
    }

    /// Waits while the table is away, for as long as the attempt may be held.
    ///
    /// # Errors
    ///
    /// It is still away.
    pub async fn wait(&self, attempt: &Attempt) -> Result<(), StillAway> {
        self.outage.wait(attempt.hold_until, attempt, async || self.probe().await).await
    }

    /// Commits `operation` unless it was committed before. While the table is away, it waits for as long as the attempt may
    /// be held.
    ///
    /// One request when it is new, two when it is a duplicate.
    ///
    /// # Errors
    ///
    /// It is not known to be committed, and the next delivery has to look again.
    pub async fn commit(&self, operation: &Operation, attempt: &Attempt) -> Result<Outcome, Error> {
        loop {
            self.wait(attempt).await?;
            let stop = attempt.deadline.min(Instant::now() + COMMIT_TIME);
            let delays = Backoff::IMPATIENT.delays(attempt.random());
            match retry(stop, delays, Error::wait_before_retry, async || self.try_commit(operation, attempt).await)
                .await
            {
                Err(Error::Away(_)) => {}
                result => return result,
            }
        }
    }

    async fn try_commit(&self, operation: &Operation, attempt: &Attempt) -> Result<Outcome, Error> {
        let rows = rows(operation, attempt.time(), self.retention);
        let error = match self.heard(self.insert(&operation.key.partition_key(), &rows).await, attempt).await {
            Ok(etags) => return Ok(Outcome::Committed(self.inserted(operation, etags).await)),
            Err(Error::Storage(error)) if error.is_conflict() || error.may_be_applied() => error,
            Err(error) => return Err(error),
        };
        let record = self.heard(self.read_record(&operation.key).await, attempt).await?;
        let record = record.map(StoredRecord::read).transpose().map_err(Error::UnknownSchema)?;
        match verdict(record, &operation.commit_id, &operation.fingerprint) {
            Verdict::Committed => {
                Ok(Outcome::Committed(self.unpublished_of(&operation.key, operation.events.len()).await))
            }
            Verdict::Duplicate(record) => Ok(self.duplicate(&operation.key, record, attempt.time()).await),
            Verdict::Conflict => Ok(Outcome::Conflict),
            Verdict::NotApplied => Err(error.into()),
        }
    }

    /// Notes what an answer says about the table. After a failure, asks whether the table is away.
    async fn heard<T>(&self, result: Result<T, storage::Error>, attempt: &Attempt) -> Result<T, Error> {
        match result {
            Err(error) if !error.is_conflict() => {
                if self.outage.is_away(attempt, self.probe()).await {
                    self.outage.now().map_or(Err(error.into()), |away| Err(away.into()))
                } else {
                    Err(error.into())
                }
            }
            result => {
                self.outage.succeeded();
                Ok(result?)
            }
        }
    }

    /// Asks whether the table does what a commit needs, in a partition of its own.
    async fn probe(&self) -> Result<(), storage::Error> {
        match self.insert(PROBE.partition_key, &[PROBE]).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Inserts rows, into a new table when there was none yet.
    async fn insert<R: Serialize>(
        &self,
        partition_key: &str,
        rows: &[R],
    ) -> Result<Vec<Option<String>>, storage::Error> {
        match self.table.insert_all(partition_key, rows).await {
            // A table that has answered before was deleted.
            Err(error) if self.is_new(&error) && !self.outage.has_succeeded() => {
                self.table.create().await?;
                warn!("The table did not exist and was created: every id is new to it.");
                self.table.insert_all(partition_key, rows).await
            }
            result => result,
        }
    }

    /// Whether the table is not there and will be created.
    pub(super) fn is_new(&self, error: &storage::Error) -> bool {
        self.creates_table && error.is_table_missing()
    }

    /// The events just inserted, as they were inserted: the answer has their `ETag`s, after those of record and index row.
    async fn inserted(&self, operation: &Operation, etags: Vec<Option<String>>) -> Vec<OutboxEntry> {
        let Operation { key, commit_id, events, .. } = operation;
        let entries = etags.into_iter().skip(2).zip(events).enumerate().map(|(index, (etag, body))| {
            let tag = RowTag { row_key: key.outbox_row_key(commit_id, index), etag: etag? };
            Some(OutboxEntry {
                partition_key: key.partition_key(),
                tag,
                schema: SCHEMA,
                body: body.clone(),
                created_at: None,
            })
        });
        match entries.collect::<Option<Vec<_>>>() {
            Some(entries) => entries,
            None => self.unpublished_of(key, events.len()).await,
        }
    }

    /// Reads the record of an operation whose insert was refused or not answered.
    async fn read_record(&self, key: &Key) -> Result<Option<serde_json::Value>, storage::Error> {
        self.table.get(&key.partition_key(), &key.record_row_key()).await
    }

    async fn duplicate(&self, key: &Key, record: StoredRecord, now: OffsetDateTime) -> Outcome {
        let may_be_left = REPUBLISH_AGE.contains(&(now - record.committed_at));
        let unpublished = if may_be_left { self.unpublished_of(key, record.events).await } else { Vec::new() };
        let StoredRecord { receipt, committed_at, invocation, .. } = record;
        Outcome::Duplicate { receipt, committed_at, invocation, unpublished }
    }

    /// Lists the events of an operation that are not published. The operation stands whether or not they can be read.
    async fn unpublished_of(&self, key: &Key, events: usize) -> Vec<OutboxEntry> {
        if events == 0 {
            return Vec::new();
        }
        let (partition_key, (start, end)) = (key.partition_key(), key.outbox_range());
        let range = format!("PartitionKey eq '{partition_key}' and RowKey ge '{start}' and RowKey lt '{end}'");
        self.pages_of_events(range).try_concat().await.unwrap_or_else(|error| {
            warn!("The events of this order are left to the timer: {error}");
            Vec::new()
        })
    }

    /// Lists the events of a bucket that were committed before `now` less [`PUBLISH_GRACE`], page by page.
    pub fn unpublished_events(&self, bucket: u8, now: OffsetDateTime) -> Pages<'_, OutboxEntry> {
        let (partition_key, before) = (partition_key(bucket), edm_date_time(now - PUBLISH_GRACE));
        self.pages_of_events(format!(
            "PartitionKey eq '{partition_key}' and RowKey ge 'outbox~' and RowKey lt 'outbox~~' and created_at lt datetime'{before}'"
        ))
    }

    fn pages_of_events(&self, filter: String) -> Pages<'_, OutboxEntry> {
        self.table.query(filter, "PartitionKey,RowKey,schema,body,created_at")
    }

    /// Deletes the outbox rows of `entries` of one partition, which have been published.
    ///
    /// # Errors
    ///
    /// Some may be left, to be published again under the same id.
    pub async fn delete_published(&self, entries: &[&OutboxEntry]) -> Result<(), storage::Error> {
        let Some(OutboxEntry { partition_key, .. }) = entries.first() else { return Ok(()) };
        self.delete(partition_key, &entries.iter().map(|entry| &entry.tag).collect::<Vec<_>>()).await
    }

    /// Lists the index rows of a bucket whose records expired before this time, page by page and the oldest first.
    pub(super) fn expired(&self, bucket: u8, before: OffsetDateTime) -> Pages<'_, IndexRow> {
        let (partition_key, end) = (partition_key(bucket), expiry_row_key_before(before));
        let range = format!("PartitionKey eq '{partition_key}' and RowKey ge 'expiry~' and RowKey lt '{end}'");
        self.table.query(range, "RowKey,schema")
    }

    /// Reads the record in this row as a purge has to know it; `None` when there is none.
    pub(super) async fn record_to_purge(&self, bucket: u8, row_key: &str) -> Result<Option<RecordTag>, storage::Error> {
        self.table.get(&partition_key(bucket), row_key).await
    }

    /// Deletes rows of a bucket, each index row behind its record.
    pub(super) async fn delete_purged(&self, bucket: u8, rows: &[&RowTag]) -> Result<(), storage::Error> {
        self.delete(&partition_key(bucket), rows).await
    }

    /// Deletes rows of one partition as they were seen. One that is gone was deleted by another instance. One that was
    /// changed stays, and with it the index row behind it.
    async fn delete(&self, partition_key: &str, rows: &[&RowTag]) -> Result<(), storage::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.table.delete_all(partition_key, rows).await {
            Err(error) if error.is_changed_or_gone() && rows.len() > 1 => {
                let mut is_kept = false;
                for row in rows {
                    if std::mem::take(&mut is_kept) && row.row_key.starts_with("expiry~") {
                        continue;
                    }
                    let deleted = self.table.delete_all(partition_key, &[row]).await;
                    is_kept = matches!(&deleted, Err(error) if !error.is_row_missing());
                    deleted.or_else(ignore_gone)?;
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

impl From<outage::Error> for Error {
    fn from(error: outage::Error) -> Self {
        match error {
            outage::Error::Away(away) => Self::Away(away),
            outage::Error::Storage(error) => Self::Storage(error),
        }
    }
}

impl Error {
    /// Whether the request was refused for what is in it: to wait does not help.
    #[must_use]
    pub const fn is_about_the_request(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_about_the_request())
    }

    /// Another attempt helps when the storage recovers, when a table that was just created can be seen, and when a
    /// record that an insert met was purged before it could be read.
    fn wait_before_retry(&self) -> Option<std::time::Duration> {
        match self {
            Self::Storage(error) if error.is_table_missing() || error.is_conflict() => {
                Some(error.retry_after().unwrap_or_default())
            }
            Self::Storage(error) => error.wait_before_retry(),
            Self::UnknownSchema(_) | Self::OutOfTime | Self::Away(_) => None,
        }
    }
}
