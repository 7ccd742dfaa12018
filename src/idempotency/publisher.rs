//! Publishing behind the answer: an order is answered when it is committed, and this process publishes its events right after
//! that.
//!
//! The host kills the process without notice, so little is under way here at a time, and not for long. What is lost with the
//! process is in the outbox, where the timer finds it. Beyond the bound an invocation waits before it answers.
//!
//! The outbox rows of published events are deleted together with others of their bucket, in one transaction. When no more
//! orders come they are deleted at once: the host kills a handler a tenth of a second after its last answer, and each
//! event whose row is left is published again, under the same id.

use super::{
    ledger::{Ledger, OutboxEntry},
    outbox::{BUCKETS_AT_ONCE, Events, Outbox, PUBLISH_TIME, left_to_the_timer, publish},
};
use crate::{
    attempt::Attempt,
    storage::{RowTag, batch::MAX_OPERATIONS},
};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    select,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::info;

/// Number of operations whose events may be on their way to the queue. The events of one are put one after the other.
pub const OPERATIONS_AT_ONCE: usize = 32;

/// Size of the bodies of these events, in KiB.
const BODIES: usize = 4 * 1024;

/// Number of events whose rows may wait for their deletion, after which no more are published.
const UNDELETED: usize = 2 * GATHERED;

/// Time in which the rows of one bucket are gathered.
const GATHERING: Duration = Duration::from_secs(1);

/// Number of rows in all buckets above which the oldest are deleted earlier: a crash repeats the events of all.
const GATHERED: usize = 1_000;

/// Time without another order after which they are not gathered any longer.
const QUIET: Duration = Duration::from_millis(50);

/// The events that are being published behind the answers.
#[derive(Debug)]
pub struct Publisher {
    /// Operations whose events are on their way to the queue, out of [`OPERATIONS_AT_ONCE`].
    putting: Limit,
    /// Their size in KiB, out of [`BODIES`].
    bodies: Limit,
    /// Events that are in the outbox although they may be on the queue.
    undeleted: Limit,
    sender: mpsc::UnboundedSender<Publication>,
    handed_over: Mutex<mpsc::UnboundedReceiver<Publication>>,
    is_stopping: AtomicBool,
}

/// The events of one operation, which was answered.
#[derive(Debug)]
struct Publication {
    entries: Vec<OutboxEntry>,
    attempt: Attempt,
    putting: [OwnedSemaphorePermit; 2],
    undeleted: OwnedSemaphorePermit,
}

impl Publisher {
    /// Makes a publisher that has the events of at most so many operations on their way to the queue.
    #[must_use]
    pub fn new(operations_at_once: usize) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            putting: Limit::new(operations_at_once),
            bodies: Limit::new(BODIES),
            undeleted: Limit::new(UNDELETED),
            sender,
            handed_over: Mutex::new(receiver),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Hands over the events of a committed operation, of which the message may then be answered. It waits while too many are
    /// under way, and leaves them to the timer while the queue is away.
    pub async fn hand_over(&self, (ledger, events): (&Ledger, &Events), entries: Vec<OutboxEntry>, attempt: &Attempt) {
        if entries.is_empty() {
            return;
        }
        if self.is_stopping.load(Ordering::Relaxed) {
            return publish(ledger, events, &entries, attempt).await;
        }
        let Ok(Some((putting, undeleted))) = timeout_at(attempt.hold_until, self.acquire(&entries)).await else {
            return left_to_the_timer((0, entries.len()), "too many are under way");
        };
        if events.outage.is_open(attempt) {
            let attempt = attempt.follow_up(PUBLISH_TIME);
            // There is a receiver for as long as there is a sender.
            let _ = self.sender.send(Publication { entries, attempt, putting, undeleted });
        } else if let Some(away) = events.outage.now() {
            left_to_the_timer((0, entries.len()), away);
        }
    }

    /// Waits until there is room for these events.
    async fn acquire(&self, entries: &[OutboxEntry]) -> Option<([OwnedSemaphorePermit; 2], OwnedSemaphorePermit)> {
        let operation = self.putting.acquire(1).await?;
        let bodies: usize = entries.iter().map(|entry| entry.body.len()).sum();
        let bodies = self.bodies.acquire(bodies.div_ceil(1024)).await?;
        Some(([operation, bodies], self.undeleted.acquire(entries.len()).await?))
    }

    /// Returns whether nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.putting.is_free() && self.undeleted.is_free()
    }

    /// Waits for events to publish, and publishes until nothing is left to do. To drop this future is to crash here.
    pub async fn run(&self, ledger: &Ledger, events: &Events) {
        let mut handed_over = self.handed_over.lock().await;
        let (mut puts, mut deletions) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut gathered = Gathered { batches: BTreeMap::new(), rows: 0, last_order: Instant::now() };
        loop {
            // Nothing else uses the partitions while no orders come, and the process may be killed.
            let is_quiet = gathered.last_order.elapsed() >= QUIET;
            let due = if is_quiet || deletions.len() < BUCKETS_AT_ONCE { gathered.due() } else { None };
            select! {
                biased;
                Some(batch) = gathered.take(due) => deletions.push(delete(ledger, events, batch)),
                Some(publication) = handed_over.recv() => {
                    gathered.last_order = Instant::now();
                    puts.push(put(ledger, events, publication));
                }
                Some(published) = puts.next() => {
                    deletions.extend(gathered.add(published).map(|full| delete(ledger, events, full)));
                }
                Some(()) = deletions.next() => {}
            }
            if handed_over.is_empty() && puts.is_empty() && deletions.is_empty() && gathered.batches.is_empty() {
                return;
            }
        }
    }

    /// Lets every invocation publish before it answers from now on, and waits until nothing is under way.
    pub async fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let _ = (self.putting.acquire(usize::MAX).await, self.undeleted.acquire(usize::MAX).await);
    }
}

/// A number that is not exceeded.
#[derive(Debug)]
struct Limit {
    free: Arc<Semaphore>,
    most: usize,
}

impl Limit {
    fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }

    fn is_free(&self) -> bool {
        self.free.available_permits() == self.most
    }

    /// Waits until there is room for so much, or until all is free for what is more.
    async fn acquire(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let permits = count.min(self.most).try_into().ok()?;
        self.free.clone().acquire_many_owned(permits).await.ok()
    }
}

/// Rows of one bucket whose events are on the queue.
struct Batch {
    rows: Vec<RowTag>,
    partition_key: String,
    since: Instant,
    attempt: Attempt,
    undeleted: OwnedSemaphorePermit,
}

/// Puts the events of one operation on the queue, and returns their rows.
async fn put(ledger: &Ledger, events: &Events, publication: Publication) -> Option<Batch> {
    let Publication { entries, attempt, putting, undeleted } = publication;
    let outbox = Outbox { ledger, events, attempt: &attempt, stop: attempt.deadline };
    let (published, stopped_by) = outbox.put_all(&entries).await;
    if let Some(error) = stopped_by {
        // The line is of no invocation any more.
        let cause = format_args!("{error} invocation={}", attempt.invocation_id);
        left_to_the_timer((published.len(), entries.len()), cause);
    }
    drop(putting);
    let partition_key = published.first()?.partition_key.clone();
    let rows = published.iter().map(|entry| entry.tag.clone()).collect();
    Some(Batch { rows, partition_key, since: Instant::now(), attempt, undeleted })
}

/// Deletes rows. Those that are left are published again by the timer.
async fn delete(ledger: &Ledger, events: &Events, batch: Batch) {
    let Batch { mut rows, partition_key, attempt, undeleted: _undeleted, .. } = batch;
    // A redelivery publishes what is under way once more, and no transaction may name a row twice.
    rows.sort_unstable_by(|one, other| one.row_key.cmp(&other.row_key));
    rows.dedup_by(|one, other| one.row_key == other.row_key);
    let outbox = Outbox { ledger, events, attempt: &attempt, stop: Instant::now() + PUBLISH_TIME };
    if let Err(error) = outbox.delete(&partition_key, &rows.iter().collect::<Vec<_>>()).await {
        let one = rows.first().map_or("", |row| &row.row_key);
        info!("Published events are left in the outbox: rows={} one={one} cause={error}", rows.len());
    }
}

/// The rows that wait to be deleted with others of their bucket.
struct Gathered {
    batches: BTreeMap<String, Batch>,
    /// Number of rows in them.
    rows: usize,
    last_order: Instant,
}

impl Gathered {
    /// Adds rows, and returns those of their bucket that fill a transaction without them.
    fn add(&mut self, published: Option<Batch>) -> Option<Batch> {
        let new = published?;
        self.rows += new.rows.len();
        let Some(batch) = self.batches.get_mut(&new.partition_key) else {
            self.batches.insert(new.partition_key.clone(), new);
            return None;
        };
        if batch.rows.len() + new.rows.len() > MAX_OPERATIONS {
            let full = std::mem::replace(batch, new);
            self.rows -= full.rows.len();
            return Some(full);
        }
        batch.rows.extend(new.rows);
        batch.undeleted.merge(new.undeleted);
        None
    }

    /// Returns the bucket that is to be deleted next, and when.
    fn due(&self) -> Option<(Instant, String)> {
        let (partition_key, batch) = self.batches.iter().min_by_key(|(_, batch)| batch.since)?;
        let at =
            if self.rows > GATHERED { batch.since } else { (batch.since + GATHERING).min(self.last_order + QUIET) };
        Some((at, partition_key.clone()))
    }

    /// Waits until this bucket is due, and takes its rows.
    async fn take(&mut self, due: Option<(Instant, String)>) -> Option<Batch> {
        let (at, partition_key) = due?;
        sleep_until(at).await;
        let batch = self.batches.remove(&partition_key)?;
        self.rows -= batch.rows.len();
        Some(batch)
    }
}
