//! Purging costs in proportion to what has expired.
//!
//! The time of expiry is the key of an index row beside each record, so finding what is due is the read of a range,
//! whatever the size of the table. An index row is never deleted while its record stands; without a record it is
//! harmless. Nothing is remembered between ticks: what is due and left is found again.
//!
//! Fifty records cost fifty reads, which find their `ETag`s, and one transaction; a hundred index rows come with one query.

use super::{
    key::{buckets, expired_record},
    ledger::{Error, Ledger},
    outbox::BUCKETS_AT_ONCE,
    record::{IndexRow, RecordTag, SCHEMA},
};
use crate::{
    attempt::Attempt,
    storage::{self, RowTag, batch::MAX_OPERATIONS},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// Time for which a record is kept beyond its retention. The retention counts from the request that inserts it, by the
/// clock of its worker, but that may arrive late, and the clocks of two workers differ. This covers half an hour for a lost
/// request, and clocks ten minutes off each way.
pub const PURGE_MARGIN: Duration = Duration::hours(1);

/// Number of records of a bucket that a purge reads at the same time: its partition has some of its rate left for commits.
const READS_AT_ONCE: usize = 8;

/// Result of a purge.
#[derive(Debug, Default)]
pub struct Purged {
    /// Number of records deleted.
    pub records: usize,
    /// Number of buckets in which more may be due, for whatever reason.
    pub unfinished: usize,
    /// Number of those for which there was not enough time.
    pub out_of_time: usize,
    /// Number of index rows that are due and stay because they, or their records, cannot be read.
    pub unreadable: usize,
    /// One of these.
    pub unreadable_row: Option<String>,
    /// Reason in one of the buckets that could not be purged.
    pub cause: Option<Error>,
}

/// Deletes the records that are past their retention and [`PURGE_MARGIN`], as many as can be until `stop`, in all
/// buckets but `kept`.
pub async fn purge(ledger: &Ledger, attempt: &Attempt, stop: Instant, kept: &[u8]) -> Purged {
    let before = attempt.time() - PURGE_MARGIN;
    let buckets = buckets(attempt.began).filter(|bucket| !kept.contains(bucket));
    let purges = buckets.map(|bucket| Bucket { ledger, bucket, purged: Purged::default() }.purge(before, stop));
    let purged = Purged { unfinished: kept.len(), ..Purged::default() };
    stream::iter(purges).buffer_unordered(BUCKETS_AT_ONCE).fold(purged, async |all, one| all.and(one)).await
}

impl Purged {
    fn and(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            unfinished: self.unfinished + other.unfinished,
            out_of_time: self.out_of_time + other.out_of_time,
            unreadable: self.unreadable + other.unreadable,
            unreadable_row: self.unreadable_row.or(other.unreadable_row),
            cause: self.cause.or(other.cause),
        }
    }
}

/// One bucket, and what was purged of it.
struct Bucket<'a> {
    ledger: &'a Ledger,
    bucket: u8,
    purged: Purged,
}

/// Record to which an index row leads.
enum Found {
    Record(RowTag),
    /// It is gone, or was committed anew.
    Nothing,
    /// It is of a later version, or damaged.
    Unreadable,
}

impl Bucket<'_> {
    async fn purge(mut self, before: OffsetDateTime, stop: Instant) -> Purged {
        let result = self.purge_until(before, stop).await;
        self.purged.unfinished = usize::from(!matches!(result, Ok(true)));
        self.purged.out_of_time = usize::from(matches!(result, Ok(false)));
        self.purged.cause = result.err().map(Into::into);
        self.purged
    }

    /// Deletes what is due, and says whether that was all.
    async fn purge_until(&mut self, before: OffsetDateTime, stop: Instant) -> Result<bool, storage::Error> {
        let mut pages = self.ledger.expired(self.bucket, before);
        while Instant::now() < stop {
            let page = match pages.next().await {
                Some(Err(error)) if !self.ledger.is_new(&error) => return Err(error),
                Some(Ok(page)) => page,
                Some(Err(_)) | None => return Ok(true),
            };
            // Two rows for each record, in one transaction.
            for index_rows in page.chunks(MAX_OPERATIONS / 2) {
                if Instant::now() >= stop {
                    return Ok(false);
                }
                self.delete(index_rows).await?;
            }
        }
        Ok(false)
    }

    /// Deletes index rows, each together with the record that it leads to.
    async fn delete(&mut self, index_rows: &[IndexRow]) -> Result<(), storage::Error> {
        let reads = index_rows.iter().map(async |index| Ok::<_, storage::Error>((index, self.find(index).await?)));
        let found: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        let (mut rows, mut records) = (Vec::with_capacity(2 * found.len()), BTreeSet::new());
        for (IndexRow { tag, .. }, found) in &found {
            match found {
                Found::Unreadable => {
                    self.purged.unreadable += 1;
                    self.purged.unreadable_row = Some(tag.row_key.clone());
                    continue;
                }
                // A copied index row leads to the same record.
                Found::Record(record) if records.insert(&record.row_key) => rows.push(record),
                Found::Record(_) | Found::Nothing => {}
            }
            rows.push(tag);
        }
        self.ledger.delete_purged(self.bucket, &rows).await?;
        self.purged.records += records.len();
        Ok(())
    }

    async fn find(&self, IndexRow { tag, schema }: &IndexRow) -> Result<Found, storage::Error> {
        let (SCHEMA, Some((row_key, expired))) = (*schema, expired_record(&tag.row_key)) else {
            return Ok(Found::Unreadable);
        };
        Ok(match self.ledger.record_to_purge(self.bucket, &row_key).await? {
            None => Found::Nothing,
            Some(RecordTag { schema: SCHEMA, commit_id: Some(commit_id), .. }) if commit_id != expired => {
                Found::Nothing
            }
            Some(RecordTag { schema: SCHEMA, commit_id: Some(_), etag: Some(etag) }) => {
                Found::Record(RowTag { row_key, etag })
            }
            Some(_) => Found::Unreadable,
        })
    }
}
