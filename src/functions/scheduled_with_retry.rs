//! Timer trigger, every five minutes: publishes what a crash or an outage left unpublished, purges what is past its
//! retention, moves what the host gave up to quarantine, and says how things stand.
//!
//! It does as much as it can, and fails the attempt if an error left something undone or events had to wait for want of
//! time, so that the host repeats the tick: three times, every five seconds, as `function.json` says. Records that are left
//! for want of time are no failure. Nothing is remembered between attempts or ticks: what is done is no longer in the
//! table, and what is in the table is to be done. Each may be repeated or cut off at any point, and two instances may do it
//! at once.

use super::App;
use crate::{
    attempt::Attempt,
    idempotency::{
        key::BUCKETS,
        ledger::Error,
        outbox::{self, Relayed},
        purge::{Purged, purge},
    },
    quarantine::{QueueMessage, Reason, Rejection},
    storage,
};
use futures::future::{join, join_all};
use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

/// A message that is being moved to quarantine is not seen by another tick for so long.
const PARKING_TIME: Duration = Duration::from_secs(5 * 60);

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

/// Serves one attempt at one tick. After a third of its time it publishes no more, after two fifths it purges no more, and
/// after half of it, it moves no more messages.
///
/// # Errors
///
/// Something is left to do that may succeed in the next attempt; a backlog of the purge is none.
pub async fn run(app: &App, tick: &TimerTick, attempt: &Attempt) -> Result<(), Error> {
    info!("{}", fired(tick, app.retry_delay));
    if tick.retry_count > 0 {
        info!("Retry {} of {} of this tick.", tick.retry_count, tick.max_retry_count);
    }
    let (start, limit) = (Instant::now(), attempt.deadline.saturating_duration_since(Instant::now()));
    let relayed = outbox::relay(&app.ledger, &app.events, attempt, start + limit / 3).await;
    // A record outlives its events: without it, the next copy of the order would be committed anew.
    let purged = purge(&app.ledger, attempt, start + limit * 2 / 5, &relayed.unfinished).await;
    let parked = park(app, attempt, start + limit / 2).await;
    report(app, &relayed, &purged, attempt).await;
    if purged.out_of_time > 0 {
        warn!("The purge does not keep up: {} of {BUCKETS} buckets are left to the next ticks.", purged.out_of_time);
    }
    if let Some(row) = &purged.unreadable_row {
        warn!("Expired records are left that cannot be read: rows={} one={row}", purged.unreadable);
    }
    relayed.cause.or(purged.cause).or(parked.err().map(Error::from)).map_or(Ok(()), Err)
}

/// Tells when the timer fired, and how often and how soon the host repeats a tick that fails.
fn fired(tick: &TimerTick, delay: Option<Duration>) -> String {
    let every = delay.map(|delay| format!(" every {} seconds", delay.as_secs_f64())).unwrap_or_default();
    let times = if tick.max_retry_count < 0 {
        "without end".to_owned()
    } else {
        format!("up to {} times", tick.max_retry_count)
    };
    format!("Timer fired. past_due={}. This function retries {times}{every}.", tick.past_due)
}

/// Moves what the host gave up from the poison queue, where it would expire, to quarantine. What is left at `stop`, the
/// next tick moves.
async fn park(app: &App, attempt: &Attempt, stop: Instant) -> Result<(), storage::Error> {
    let rejection = Rejection::new(Reason::Exhausted, "the host delivered it too often".to_owned());
    while Instant::now() < stop {
        let messages = app.poison.receive(PARKING_TIME).await?;
        if messages.is_empty() {
            break;
        }
        warn!("{} messages={}", rejection.warning(), messages.len());
        for received in messages {
            if Instant::now() >= stop {
                break;
            }
            let text = app.orders_encoding.decode(received.text.clone());
            // It was put there by the host: when it was first seen, nobody knows.
            let message = QueueMessage { text, ..QueueMessage::default() };
            app.quarantine.try_keep(&rejection, &message, attempt).await?;
            app.poison.delete(&received).await?;
        }
    }
    Ok(())
}

/// Says in one line how things stand. It warns for as long as somebody has to look. The line is of no invocation: the host
/// keeps those of a failed one back, and Application Insights may be told to keep only warnings of the others.
async fn report(app: &App, relayed: &Relayed, purged: &Purged, attempt: &Attempt) {
    let queues = [&app.orders, &app.poison, &app.quarantine.queue, &app.events.queue];
    let lengths = join_all(queues.map(|queue| async { queue.length().await.ok() }));
    let (lengths, next) = join(lengths, app.orders.peek()).await;
    let age = |since: Option<OffsetDateTime>| since.map_or(0, |since| (attempt.time() - since).whole_seconds().max(0));
    let oldest = next.ok().map(|message| age(message.and_then(|message| message.inserted)));
    let outages = [&app.ledger.outage, &app.quarantine.outage, &app.events.outage];
    let away: Vec<_> = outages.iter().filter_map(|outage| outage.now()).map(|away| away.service).collect();
    let given_back: u64 = outages.iter().map(|outage| outage.take_given_back()).sum();
    let queues: String =
        queues.iter().zip(&lengths).map(|(queue, length)| format!(" {}={}", queue.name(), Known(*length))).collect();
    let line = format!(
        "State:{queues} oldest_s={} published={} unpublished={} unpublished_oldest_s={} purged={} due={} \
         given_back={given_back} away={}",
        Known(oldest),
        relayed.events,
        relayed.left,
        age(relayed.oldest_left),
        purged.records,
        purged.unfinished,
        if away.is_empty() { "none".to_owned() } else { away.join(",") },
    );
    if lengths[1..=2].iter().any(|length| length.is_none_or(|length| length > 0)) {
        warn!(parent: None, "{line}");
    } else {
        info!(parent: None, "{line}");
    }
}

/// A number, or a question mark.
struct Known<T>(Option<T>);

impl<T: Display> Display for Known<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(number) => number.fmt(formatter),
            None => formatter.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_tick_says_what_function_json_says() {
        for (max_retry_count, delay, expected) in [
            (3, Some(5_000), "This function retries up to 3 times every 5 seconds."),
            (3, Some(60_000), "This function retries up to 3 times every 60 seconds."),
            (-1, Some(500), "This function retries without end every 0.5 seconds."),
            (2, None, "This function retries up to 2 times."),
        ] {
            let tick = TimerTick { past_due: false, retry_count: 0, max_retry_count };
            let line = fired(&tick, delay.map(Duration::from_millis));
            assert_eq!(line, format!("Timer fired. past_due=false. {expected}"));
        }
    }
}
