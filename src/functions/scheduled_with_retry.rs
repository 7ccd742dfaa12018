//! Timer trigger, every five minutes: publishes what a crash or an outage left unpublished, and purges what is past its
//! retention.
//!
//! It does as much as it can, and fails the attempt if an error left something undone or events had to wait for want of
//! time, so that the host repeats the tick: three times, every five seconds, as `function.json` says. Records that are left
//! for want of time are no failure. Nothing is remembered between attempts or ticks: what is done is no longer in the
//! table, and what is in the table is to be done. Each may be repeated or cut off at any point, and two instances may do it
//! at once.

use super::App;
use crate::{
    attempt::Attempt,
    idempotency::{ledger::Error, outbox, purge::purge},
};
use tokio::time::Instant;
use tracing::info;

/// One delivery of the timer trigger.
#[derive(Debug, PartialEq, Eq)]
pub struct TimerTick {
    /// Whether the tick comes later than its schedule says.
    pub past_due: bool,
    /// Number of attempts at this tick that failed before.
    pub retry_count: u32,
    /// Number of retries after which the host gives it up; -1 when it never does.
    pub max_retry_count: i64,
}

/// Serves one attempt at one tick.
///
/// # Errors
///
/// Something is left to do that may succeed in the next attempt; a backlog of the purge is none.
pub async fn run(app: &App, tick: &TimerTick, attempt: &Attempt) -> Result<(), Error> {
    let TimerTick { past_due, max_retry_count, .. } = tick;
    info!("Timer fired. past_due={past_due}. This function retries up to {max_retry_count} times every 5 seconds.");
    if tick.retry_count > 0 {
        info!("Retry {} of {} of this tick.", tick.retry_count, tick.max_retry_count);
    }
    // A third of the time for each of the two, so that both end well before the host would end them.
    let third = attempt.deadline.saturating_duration_since(Instant::now()) / 3;
    let relayed = outbox::relay(&app.ledger, &app.events, attempt, Instant::now() + third).await;
    // A record outlives its events: without it, the next copy of the order would be committed anew.
    let purged = purge(&app.ledger, attempt, Instant::now() + third, &relayed.unfinished).await;
    let (published, unfinished) = (relayed.events, relayed.unfinished.len());
    info!(
        "Relayed {published} events, {unfinished} buckets unfinished; purged {} expired records, {} buckets have more.",
        purged.records, purged.backlog
    );
    relayed.cause.or(purged.cause).map_or(Ok(()), Err)
}
