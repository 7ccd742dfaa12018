//! Committing an operation: one insert, and a look at what is stored when it does not simply succeed.
//!
//! Every request here may be lost, applied without an answer, or applied late, and a caller may be killed between any
//! two of them. What makes that harmless: a record is only ever *inserted*, with the commit id of its attempt. "The entity
//! exists" means *look*, never *done*. Dropping a future of this module at any point is safe for the same reason: the next
//! delivery looks.
//!
//! After a failure it is found out whether the table is away, or this partition, or whether this request was refused for
//! what is in it. The caller waits, puts the message back, or fails accordingly.

use super::{
    Key,
    ledger::{Error, Ledger, OutboxEntry},
    record::{Operation, SCHEMA, StoredRecord, rows},
    verdict::{Verdict, verdict},
};
use crate::{
    attempt::Attempt,
    backoff::{Backoff, retry},
    outage::StillAway,
    storage::{self, RowTag},
};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::warn;

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
        /// Number of its events.
        events: usize,
    },
    /// Another operation with the same id had taken effect before.
    Conflict,
}

impl Ledger {
    /// Waits while the table is away, for as long as the attempt may be held.
    ///
    /// # Errors
    ///
    /// It is still away.
    pub async fn wait(&self, attempt: &Attempt) -> Result<(), StillAway> {
        self.wait_until(attempt.hold_until, attempt).await
    }

    /// The same until this time.
    ///
    /// # Errors
    ///
    /// It is still away.
    pub async fn wait_until(&self, until: Instant, attempt: &Attempt) -> Result<(), StillAway> {
        self.outage.wait(until, attempt, async || self.probe().await).await
    }

    /// Commits `operation` unless it was committed before. While the table is away, it waits for as long as the attempt may
    /// be held.
    ///
    /// One request when it is new, two when it is a duplicate. The bodies of the events move into the answer.
    ///
    /// # Errors
    ///
    /// It is not known to be committed, and the next delivery has to look again.
    pub async fn commit(&self, operation: &mut Operation, attempt: &Attempt) -> Result<Outcome, Error> {
        let partition = self.partition(&operation.key);
        loop {
            self.wait(attempt).await?;
            if let Some(away) = partition.now().filter(|_| !partition.is_open(attempt)) {
                return Err(Error::PartitionAway(away));
            }
            let begin = Instant::now();
            let stop = attempt.deadline.min(Instant::now() + COMMIT_TIME);
            let delays = Backoff::IMPATIENT.delays(attempt.random());
            let try_commit = async || self.try_commit(operation, attempt).await;
            match retry(stop, delays, Error::wait_before_retry, try_commit).await {
                Err(Error::Away(_)) if Instant::now() < attempt.hold_until => {}
                result => {
                    match &result {
                        Ok(_) => partition.succeeded(),
                        Err(Error::Storage(error)) if !error.is_conflict() => {
                            partition.note(begin, &Err(error.clone()), attempt);
                        }
                        Err(_) => {}
                    }
                    return result;
                }
            }
        }
    }

    async fn try_commit(&self, operation: &mut Operation, attempt: &Attempt) -> Result<Outcome, Error> {
        let rows = rows(operation, attempt.time(), self.retention);
        let inserted = self.insert(&rows).await;
        let error = match self.heard(inserted, attempt).await {
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
            Verdict::Duplicate(StoredRecord { receipt, committed_at, invocation, events, .. }) => {
                Ok(Outcome::Duplicate { receipt, committed_at, invocation, events })
            }
            Verdict::Conflict => Ok(Outcome::Conflict),
            Verdict::NotApplied => Err(error.into()),
        }
    }

    /// Notes what the answer to a request says about the table. After a failure, asks whether the table is away.
    pub(super) async fn heard<T>(&self, result: Result<T, storage::Error>, attempt: &Attempt) -> Result<T, Error> {
        match result {
            Err(error) if !error.is_conflict() => {
                let is_away = self.outage.is_away(attempt, self.probe()).await;
                let away = self.outage.now().filter(|_| is_away);
                Err(away.map_or(error.into(), Error::from))
            }
            result => {
                self.outage.succeeded();
                Ok(result?)
            }
        }
    }

    /// Asks whether the table does what a commit needs, in a partition of its own.
    ///
    /// # Errors
    ///
    /// It does not, for now or for want of rights.
    pub async fn probe(&self) -> Result<(), storage::Error> {
        match self.insert(&[PROBE]).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Inserts rows, into a new table when there was none yet.
    async fn insert<R: Serialize>(&self, rows: &[R]) -> Result<Vec<Option<String>>, storage::Error> {
        match self.table.insert_all(rows).await {
            // A table that has answered before was deleted.
            Err(error) if self.is_new(&error) && !self.outage.has_succeeded() => {
                self.table.create().await?;
                warn!("The table did not exist and was created: every id is new to it.");
                self.table.insert_all(rows).await
            }
            result => result,
        }
    }

    /// The events just inserted, as they were inserted: the answer has their `ETag`s, after those of record and index row.
    async fn inserted(&self, operation: &mut Operation, etags: Vec<Option<String>>) -> Vec<OutboxEntry> {
        let events = std::mem::take(&mut operation.events);
        let Operation { key, commit_id, .. } = operation;
        let count = events.len();
        let entries = etags.into_iter().skip(2).zip(events).enumerate().map(|(index, (etag, body))| {
            let tag = RowTag { row_key: key.outbox_row_key(commit_id, index), etag: etag? };
            Some(OutboxEntry { partition_key: key.partition_key(), tag, schema: SCHEMA, body, created_at: None })
        });
        match entries.collect::<Option<Vec<_>>>() {
            Some(entries) => entries,
            None => self.unpublished_of(key, count).await,
        }
    }

    /// Reads the record of an operation whose insert was refused or not answered.
    async fn read_record(&self, key: &Key) -> Result<Option<serde_json::Value>, storage::Error> {
        self.table.get(&key.partition_key(), &key.record_row_key()).await
    }
}
