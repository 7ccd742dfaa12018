//! Commits operations and purges old records: the only writer of the table.
//!
//! Every request here may be lost, applied without an answer, or applied late, and a caller may be killed between
//! any two of them. What makes that harmless: a record is only ever *inserted*, with the commit id of its attempt, and only
//! ever deleted with the `ETag` under which it was seen. "The entity exists" means *look*, never *done*.
//!
//! Dropping a future of this module at any point is safe for the same reason: the next delivery looks.

use super::{
    Fingerprint, Key,
    key::{bucket_of_the_tick, partition_key},
    record::{Lifetime, Record, StoredRecord, edm_date_time},
    verdict::{Verdict, verdict},
};
use crate::{
    attempt::Attempt,
    retry::{Backoff, Failed, until},
    storage::{self, RowTag, Table},
};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::Instant;

/// Deleting old records ends after this long, whatever is left: the next round through the buckets goes on.
const PURGE_TIME: Duration = Duration::from_secs(60);

/// The records of all committed operations.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
    retention: time::Duration,
}

/// Why the ledger does not know, or did not do, what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table did not do it.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The record was written by something newer than this program.
    #[error("the record of this order has schema version {0}, which this program does not know")]
    UnknownSchema(i32),
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
}

/// How a commit ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation took effect now.
    Committed,
    /// It had taken effect before, with this receipt.
    Duplicate(String),
    /// Another operation with the same id had taken effect before.
    Conflict,
}

impl Ledger {
    /// A ledger in `table` that keeps records for `retention`.
    #[must_use]
    pub const fn new(table: Table, retention: time::Duration) -> Self {
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
        let lifetime = Lifetime { committed_at: attempt.now, expires_at: attempt.now.saturating_add(self.retention) };
        let content = (operation.fingerprint, operation.receipt);
        let record = Record::new(operation.key, content, &commit_id, lifetime);
        until(attempt.deadline, Backoff::PATIENT.pauses(random), async || {
            match self.insert(operation.key, &record).await {
                Ok(()) => Ok(Outcome::Committed),
                Err(error) if error.is_conflict() || error.may_be_applied() => {
                    self.look(operation, &commit_id, error).await
                }
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// Inserts the record, into a new table when there is none yet.
    async fn insert(&self, key: &Key, record: &Record<'_>) -> Result<(), storage::Error> {
        let (partition_key, rows) = (key.partition_key(), std::slice::from_ref(record));
        match self.table.insert_all(&partition_key, rows).await {
            Err(error) if error.is_table_missing() => {
                self.table.create().await?;
                self.table.insert_all(&partition_key, rows).await
            }
            result => result,
        }
    }

    /// Reads what is stored for an operation whose insert ended with `refusal`: refused, or without an answer.
    async fn look(
        &self,
        operation: &Operation<'_>,
        commit_id: &str,
        refusal: storage::Error,
    ) -> Result<Outcome, Failed<Error>> {
        let (partition_key, row_key) = (operation.key.partition_key(), operation.key.record_row_key());
        let stored = match self.table.get::<StoredRecord>(&partition_key, &row_key).await {
            Err(error) if error.is_table_missing() => None,
            result => result.map_err(failed)?,
        };
        match verdict(stored, commit_id, operation.fingerprint) {
            Verdict::Committed => Ok(Outcome::Committed),
            Verdict::Duplicate(receipt) => Ok(Outcome::Duplicate(receipt)),
            Verdict::Conflict => Ok(Outcome::Conflict),
            Verdict::NotApplied => Err(Failed::Transient { retry_after: refusal.retry_after(), cause: refusal.into() }),
            Verdict::UnknownSchema(version) => Err(Failed::Permanent(Error::UnknownSchema(version))),
        }
    }

    /// Deletes the records of this tick's bucket that are past their retention, and says how many.
    ///
    /// # Errors
    ///
    /// Some may be left; the host repeats the tick.
    pub async fn purge(&self, attempt: &Attempt) -> Result<usize, Error> {
        let partition_key = partition_key(bucket_of_the_tick(attempt.now));
        let filter = format!(
            "PartitionKey eq '{partition_key}' and RowKey ge 'record~' and RowKey lt 'record~~' and expires_at lt datetime'{}'",
            edm_date_time(attempt.now)
        );
        let pauses = Backoff::IMPATIENT.pauses(attempt.random.clone());
        let mut purged = 0;
        until(attempt.deadline, pauses, async || {
            self.purge_pages(&partition_key, &filter, &mut purged).await.map_err(failed)
        })
        .await?;
        Ok(purged)
    }

    async fn purge_pages(&self, partition_key: &str, filter: &str, purged: &mut usize) -> Result<(), storage::Error> {
        let stop = Instant::now() + PURGE_TIME;
        let mut pages = self.table.row_tags(filter);
        while let Some(page) = pages.next().await {
            match page {
                Err(error) if error.is_table_missing() => return Ok(()),
                page => *purged += self.delete(partition_key, &page?).await?,
            }
            if Instant::now() >= stop {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn delete(&self, partition_key: &str, rows: &[RowTag]) -> Result<usize, storage::Error> {
        if !rows.is_empty() {
            self.table.delete_all(partition_key, rows).await?;
        }
        Ok(rows.len())
    }
}

/// Another attempt helps when the storage recovers, and when a row that was to be deleted is gone already.
fn failed(error: storage::Error) -> Failed<Error> {
    if error.is_transient() || error.is_precondition_failed() {
        Failed::Transient { retry_after: error.retry_after(), cause: error.into() }
    } else {
        Failed::Permanent(error.into())
    }
}
