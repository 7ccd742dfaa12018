//! One step: so many orders, so many at a time, each delivered when the one before it on its connection is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{client::Client, orders::Orders};

/// An invocation in flight gets this long when the time of a step is up; the handler gives itself 5 s for a request.
const GRACE: Duration = Duration::from_secs(60);

/// The work of a step.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) port: u16,
    pub(super) concurrency: usize,
    pub(super) orders: u64,
    /// It is cut off after this.
    pub(super) limit: Duration,
}

/// The result of a step.
pub(super) struct Done {
    pub(super) elapsed: Duration,
    /// All of them, sorted.
    pub(super) latencies: Vec<Duration>,
    pub(super) duplicates: u64,
}

/// The state that the connections share.
struct Work {
    orders: Orders,
    next: AtomicU64,
    count: u64,
    end: Instant,
}

pub(super) async fn run(step: Step, orders: Orders) -> Result<Done> {
    let start = Instant::now();
    let end = start + step.limit;
    let work = Arc::new(Work { orders, next: AtomicU64::new(0), count: step.orders, end });
    let mut connections = JoinSet::new();
    for _ in 0..step.concurrency {
        connections.spawn(deliver(Client::connect(step.port).await?, Arc::clone(&work)));
    }
    let mut latencies = Vec::with_capacity(usize::try_from(step.orders)?);
    let mut collect = async || {
        while let Some(connection) = connections.join_next().await {
            latencies.extend(connection??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(step.limit + GRACE, collect()).await.context("the handler hangs")??;
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    let delivered = latencies.len() as u64;
    let duplicates = (0..delivered).filter(|number| work.orders.is_duplicate(*number)).count() as u64;
    Ok(Done { elapsed, latencies, duplicates })
}

/// Delivers one order after the other until there are no more; says how long each took.
async fn deliver(mut client: Client, work: Arc<Work>) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < work.end {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.count {
            break;
        }
        let (invocation, body) = (Uuid::from_u128(number.into()), work.orders.body(number));
        let start = Instant::now();
        client.order(invocation, body).await.with_context(|| format!("order {number}"))?;
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}
