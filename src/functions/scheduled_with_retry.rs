//! Timer trigger, every five minutes: purges what is past its retention.
//!
//! A transient failure fails the attempt, so that the host repeats the tick: three times, every five seconds, as `function.json`
//! says. Nothing is remembered between attempts or ticks, and each may be repeated or cut off at any point.

use crate::{
    attempt::Attempt,
    idempotency::{Ledger, ledger},
};
use tracing::info;

/// What the timer trigger delivers.
#[derive(Debug, PartialEq, Eq)]
pub struct TimerTick {
    /// Whether the tick comes later than its schedule says.
    pub past_due: bool,
    /// How often this tick failed before.
    pub retry_count: u32,
    /// How often it may fail before the host gives it up.
    pub max_retry_count: u32,
}

/// Serves one attempt at one tick.
///
/// # Errors
///
/// Something is left to do that may succeed in the next attempt.
pub async fn run(ledger: &Ledger, tick: &TimerTick, attempt: &Attempt) -> Result<(), ledger::Error> {
    info!("Timer fired. past_due={}. This function retries up to 3 times every 5 seconds.", tick.past_due);
    if tick.retry_count > 0 {
        info!("Retry {} of {} of this tick.", tick.retry_count, tick.max_retry_count);
    }
    let purged = ledger.purge(attempt).await?;
    info!("Purged {purged} expired records.");
    Ok(())
}
