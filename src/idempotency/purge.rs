//! Purging costs in proportion to what has expired.
//!
//! The time of expiry is the key of an index row beside each record, so finding what is due is the read of a range,
//! whatever the size of the table. An index row is never deleted while its record stands; without a record it is
//! harmless. Nothing is remembered between ticks: what is due and left is found again.
//!
//! Fifty records cost fifty reads, which find their `ETag`s, and one transaction; a hundred index rows come with one query.

use super::{
    key::buckets,
    ledger::{Error, Ledger, Progress},
    outbox::BUCKETS_AT_ONCE,
};
use crate::{attempt::Attempt, storage::batch::MAX_OPERATIONS};
use futures::{StreamExt, stream};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// Time for which a record is kept beyond its retention. The retention counts from the request that inserts it, by the
/// clock of its worker, but that may arrive late, and the clocks of two workers differ. This covers half an hour for a lost
/// request, and clocks ten minutes off each way.
pub const PURGE_MARGIN: Duration = Duration::hours(1);

/// Result of a purge.
#[derive(Debug, Default)]
pub struct Purged {
    /// Number of records deleted.
    pub records: usize,
    /// Number of buckets for which there was not enough time.
    pub backlog: usize,
    /// Reason in one of the buckets that could not be purged.
    pub cause: Option<Error>,
}

/// Deletes the records that are past their retention and [`PURGE_MARGIN`], as many as can be until `stop`, in all
/// buckets but `kept`.
pub async fn purge(ledger: &Ledger, attempt: &Attempt, stop: Instant, kept: &[u8]) -> Purged {
    let before = attempt.time() - PURGE_MARGIN;
    let buckets = buckets(attempt.began).filter(|bucket| !kept.contains(bucket));
    let purges = buckets.map(|bucket| purge_bucket(ledger, bucket, before, stop));
    let mut results = stream::iter(purges).buffer_unordered(BUCKETS_AT_ONCE);
    let mut purged = Purged::default();
    while let Some(Progress { done, stopped_by }) = results.next().await {
        purged.records += done;
        match stopped_by {
            Some(Error::OutOfTime) => purged.backlog += 1,
            cause => purged.cause = purged.cause.or(cause),
        }
    }
    purged
}

async fn purge_bucket(ledger: &Ledger, bucket: u8, before: OffsetDateTime, stop: Instant) -> Progress {
    let mut purged = Progress::default();
    let mut pages = ledger.expired(bucket, before);
    loop {
        if Instant::now() >= stop {
            return purged.stop(Error::OutOfTime);
        }
        let page = match pages.next().await {
            Some(Ok(page)) => page,
            Some(Err(error)) if !ledger.is_new(&error) => return purged.stop(error.into()),
            Some(Err(_)) | None => return purged,
        };
        // Two rows for each record, in one transaction.
        for index_rows in page.chunks(MAX_OPERATIONS / 2) {
            if Instant::now() >= stop {
                return purged.stop(Error::OutOfTime);
            }
            match ledger.delete_expired(bucket, index_rows).await {
                Ok(records) => purged.done += records,
                Err(error) => return purged.stop(error.into()),
            }
        }
    }
}
