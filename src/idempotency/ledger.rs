//! The ledger, in which operations are [committed](super::commit) and from which old records are purged: the only writer of
//! the table.
//!
//! A record is only ever inserted, and only ever deleted with the `ETag` under which it was seen.

use super::{
    Key,
    key::{BUCKETS, expiry_row_key_before, partition_key},
    record::{IndexRow, RecordTag, edm_date_time, or_default},
};
use crate::{
    outage::{self, Outage, StillAway},
    storage::{self, RowTag, Table, table::Pages},
};
use futures::TryStreamExt;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use tracing::warn;

/// An event younger than this is left to the process that committed it, which publishes it within seconds.
pub const PUBLISH_GRACE: Duration = Duration::minutes(2);

/// The records of all committed operations.
#[derive(Debug)]
pub struct Ledger {
    pub(super) table: Table,
    pub(super) retention: Duration,
    /// Whether a table that is not there is created by the first commit. Elsewhere a missing table is an outage: an empty
    /// one knows none of the orders that took effect.
    creates_table: bool,
    /// What is known of the table.
    pub outage: Outage,
    /// What is known of each of its partitions while the table is there.
    partitions: Vec<Outage>,
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
    /// The table does nothing in this partition.
    #[error(transparent)]
    PartitionAway(StillAway),
    /// The row was written by something newer than this program, or is damaged. A version that cannot be read is 0.
    #[error("this program cannot read a row of schema version {0}")]
    UnknownSchema(i32),
    /// Nothing is wrong, but there was more to do.
    #[error("there was no time for the rest")]
    OutOfTime,
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
    /// See [`SCHEMA`](super::record::SCHEMA): of a later version only this is known.
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
        let partitions = (0..BUCKETS).map(|bucket| Outage::silent(format!("partition {}", partition_key(bucket))));
        Self { table, retention, creates_table, outage: Outage::new("table"), partitions: partitions.collect() }
    }

    /// What is known of the partition of a key.
    pub(super) fn partition(&self, key: &Key) -> &Outage {
        &self.partitions[usize::from(key.bucket())]
    }

    /// Whether the table is not there and will be created.
    pub(super) fn is_new(&self, error: &storage::Error) -> bool {
        self.creates_table && error.is_table_missing()
    }

    /// Lists the events of an operation that are not published. The operation stands whether or not they can be read.
    pub async fn unpublished_of(&self, key: &Key, events: usize) -> Vec<OutboxEntry> {
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

    /// Deletes outbox rows of one partition, whose events have been published.
    ///
    /// # Errors
    ///
    /// Some may be left, to be published again under the same id.
    pub async fn delete_published(&self, partition_key: &str, rows: &[&RowTag]) -> Result<(), storage::Error> {
        self.delete(partition_key, rows).await
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

    /// Forgets an operation on purpose: deletes its record, its index row and its events, all that are given, or none if one
    /// of them is no longer as it was seen. The next message with this id takes effect.
    ///
    /// # Errors
    ///
    /// None was deleted, unless the error [may be applied](storage::Error::may_be_applied).
    pub async fn forget(&self, key: &Key, rows: &[&RowTag]) -> Result<(), storage::Error> {
        self.table.delete_all(&key.partition_key(), rows).await
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
    pub(super) fn wait_before_retry(&self) -> Option<std::time::Duration> {
        match self {
            Self::Storage(error) if error.is_table_missing() || error.is_conflict() => {
                Some(error.retry_after().unwrap_or_default())
            }
            Self::Storage(error) => error.wait_before_retry(),
            Self::UnknownSchema(_) | Self::OutOfTime | Self::Away(_) | Self::PartitionAway(_) => None,
        }
    }
}
