//! Commit, then publish: the events of a committed operation reach the queue of events at least once each, always under
//! the same id and with the same bytes.
//!
//! The bodies are stored by the transaction that commits the operation, so an event exists exactly when its operation
//! does. The invocation that committed them [publishes](publish) them at once; what a crash or an outage leaves behind,
//! the timer [relays](relay). Putting a message and deleting its row are two requests with a crash between them, hence
//! *at least* once: the consumer recognises a repetition by its id.

use crate::{
    attempt::Attempt,
    idempotency::{
        Key, Ledger,
        key::{BUCKETS, bucket_of_the_tick},
        ledger::{self, Pending},
        record::{SCHEMA, edm_date_time},
    },
    json::xml_safe,
    order::Event,
    retry::{Backoff, Failed, until},
    storage::{self, Queue},
};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long an invocation publishes: its order is committed, and the host waits for the answer.
const PUBLISH_TIME: Duration = Duration::from_secs(10);

/// How many buckets are relayed at the same time.
const BUCKETS_AT_ONCE: usize = 8;

/// An event on the queue: [CloudEvents
/// 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) in JSON.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    subject: &'a str,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// The bodies of `events`, which happened to `subject`, for the operation `key`.
#[must_use]
pub fn bodies(events: &[Event], (source, subject): (&'static str, &str), key: &Key, attempt: &Attempt) -> Vec<String> {
    let body = |(index, event): (usize, &Event)| {
        let event = CloudEvent {
            specversion: "1.0",
            id: key.event_id(index),
            source,
            kind: event.kind,
            // Of fixed length, so that an event has the same size in every delivery.
            time: edm_date_time(attempt.now),
            subject,
            datacontenttype: "application/json",
            data: &event.data,
        };
        xml_safe(serde_json::to_string(&event).unwrap_or_default())
    };
    events.iter().enumerate().map(body).collect()
}

/// Publishes the events of one operation, for a short time. A failure is no failure of the operation, which is
/// committed: what is left stays in the outbox.
pub async fn publish(ledger: &Ledger, queue: &Queue, pending: &[Pending], attempt: &Attempt) {
    let stop = attempt.deadline.min(Instant::now() + PUBLISH_TIME);
    let outbox = Outbox { ledger, queue, attempt, stop };
    let (published, result) = outbox.put_and_forget(pending).await;
    if let Err(error) = result {
        warn!("Publishing is left to the timer: published={published} of={} cause={error}", pending.len());
    }
}

/// What a relay did.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Events published.
    pub events: usize,
    /// The buckets in which something may be left.
    pub unfinished: Vec<u8>,
    /// Why, in one of them.
    pub cause: Option<ledger::Error>,
}

/// Publishes the events left behind in all buckets, as many as can be until `stop`. It begins with the bucket whose
/// turn it is by the clock, so that no bucket is always the one for which there is no time.
pub async fn relay(ledger: &Ledger, queue: &Queue, attempt: &Attempt, stop: Instant) -> Relayed {
    let outbox = &Outbox { ledger, queue, attempt, stop };
    let first = bucket_of_the_tick(attempt.now);
    let buckets = (0..BUCKETS).map(|step| (first + step) % BUCKETS);
    let relays = buckets.map(async |bucket| (bucket, outbox.relay_bucket(bucket).await));
    let mut relayed = Relayed::default();
    let mut results = stream::iter(relays).buffer_unordered(BUCKETS_AT_ONCE);
    while let Some((bucket, (events, result))) = results.next().await {
        relayed.events += events;
        if let Err(error) = result {
            relayed.unfinished.push(bucket);
            // The first one: what comes last is that there was no time, whatever took it.
            relayed.cause.get_or_insert(error);
        }
    }
    relayed
}

/// The outbox, as one attempt empties it.
struct Outbox<'a> {
    ledger: &'a Ledger,
    queue: &'a Queue,
    attempt: &'a Attempt,
    /// No query and no put begins after this; what was put before is still forgotten.
    stop: Instant,
}

impl Outbox<'_> {
    /// Publishes what is left behind in one bucket, and says how much, also when something had to stay.
    async fn relay_bucket(&self, bucket: u8) -> (usize, Result<(), ledger::Error>) {
        let mut events = 0;
        let mut unfinished = Ok(());
        let mut pages = self.ledger.pending(bucket, self.attempt.now);
        loop {
            if self.is_out_of_time() {
                return (events, Err(ledger::Error::OutOfTime));
            }
            let page = match pages.next().await {
                Some(Ok(page)) => page,
                Some(Err(error)) if !error.is_table_missing() => return (events, Err(error.into())),
                Some(Err(_)) | None => return (events, unfinished),
            };
            let (published, result) = self.put_and_forget(&page).await;
            events += published;
            match result {
                Err(error) if !is_about_one_event(&error) => return (events, Err(error)),
                result => unfinished = unfinished.and(result),
            }
        }
    }

    /// Puts events of one partition on the queue, and takes those that are there out of the outbox; says how many are
    /// on the queue. An event that cannot be published stays, and does not hold up the others; when the queue cannot
    /// be used, the others wait too.
    async fn put_and_forget(&self, pending: &[Pending]) -> (usize, Result<(), ledger::Error>) {
        let mut published = Vec::with_capacity(pending.len());
        let mut result = Ok(());
        for event in pending {
            match self.put(event).await {
                Ok(()) => published.push(event),
                Err(error) if is_about_one_event(&error) => {
                    warn!("An event cannot be published: row={} cause={error}", event.tag.row_key);
                    result = Err(error);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let forgotten = self.patiently(async || self.ledger.published(&published).await).await;
        (published.len(), result.and(forgotten.map_err(Into::into)))
    }

    async fn put(&self, event: &Pending) -> Result<(), ledger::Error> {
        if event.schema != SCHEMA {
            return Err(ledger::Error::UnknownSchema(event.schema));
        }
        if self.is_out_of_time() {
            return Err(ledger::Error::OutOfTime);
        }
        Ok(self.patiently(async || self.queue.put(&event.body).await).await?)
    }

    fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.stop
    }

    /// Makes a request, and repeats it a few times when it failed in passing and there is time: the timer comes back
    /// to what is left.
    async fn patiently(&self, request: impl AsyncFn() -> Result<(), storage::Error>) -> Result<(), storage::Error> {
        let pauses = Backoff::IMPATIENT.pauses(self.attempt.random.clone());
        until(self.stop, pauses, async || {
            request().await.map_err(|error| match error.is_transient() {
                true => Failed::Transient { retry_after: error.retry_after(), cause: error },
                false => Failed::Permanent(error),
            })
        })
        .await
    }
}

fn is_about_one_event(error: &ledger::Error) -> bool {
    match error {
        ledger::Error::Storage(error) => error.is_about_the_message(),
        ledger::Error::UnknownSchema(_) => true,
        ledger::Error::OutOfTime => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn attempt() -> Attempt {
        Attempt {
            invocation_id: "5b0c1f4e".to_owned(),
            now: datetime!(2026-11-21 10:20 UTC),
            deadline: Instant::now(),
            random: fastrand::Rng::with_seed(1),
        }
    }

    proptest! {
        #[test]
        fn every_event_is_a_cloud_event_with_what_was_decided(subject: String, notes: [String; 2]) {
            let data = |note: &String| serde_json::value::to_raw_value(note).unwrap();
            let events = notes.each_ref().map(|note| Event { kind: "order.accepted", data: data(note) });
            let key = Key::new("orders", &subject);
            let bodies = bodies(&events, ("/orders", &subject), &key, &attempt());
            prop_assert_eq!(bodies.len(), notes.len());
            for (index, (body, note)) in bodies.iter().zip(&notes).enumerate() {
                prop_assert_eq!(&xml_safe(body.clone()), body);
                let event: serde_json::Value = serde_json::from_str(body).unwrap();
                prop_assert_eq!(event, serde_json::json!({
                    "specversion": "1.0",
                    "id": key.event_id(index),
                    "source": "/orders",
                    "type": "order.accepted",
                    "time": "2026-11-21T10:20:00.0000000Z",
                    "subject": subject,
                    "datacontenttype": "application/json",
                    "data": note,
                }));
            }
        }
    }
}
