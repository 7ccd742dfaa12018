//! Messages that no delivery will make acceptable: taken off the queue, and kept with the reason.
//!
//! A message that is wrong today is wrong tomorrow: to deliver it again does not help. It is put on a queue of its own
//! before the host is answered, where nothing expires. An output binding would write for seven days, and lose the message
//! without a word when somebody renames it.

use crate::{
    attempt::Attempt,
    backoff::{Backoff, retry},
    json::xml_safe,
    outage::{self, Outage},
    storage::{self, Queue, queue::fits},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// Why a message is rejected. All reasons stand here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is not a JSON object that every reader understands alike.
    InvalidJson,
    /// It has no id.
    MissingId,
    /// Its id cannot identify anything.
    InvalidId,
    /// Something else in it is not what it should be, or what follows from it is too large to commit.
    InvalidOrder,
    /// Its id belongs to an order with other content.
    Conflict,
    /// It was delivered too often, or ended the process that read it.
    Exhausted,
}

impl Reason {
    /// One word for it, in the envelope and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.texts().0
    }

    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidJson => ("invalid_json", "Invalid JSON; cannot apply idempotency."),
            Self::MissingId => ("missing_id", "Missing id field; cannot apply idempotency."),
            Self::InvalidId => ("invalid_id", "Invalid id field; cannot apply idempotency."),
            Self::InvalidOrder => ("invalid_order", "Invalid order; quarantining it."),
            Self::Conflict => ("conflict", "Conflicting message detected; quarantining it."),
            Self::Exhausted => ("exhausted", "Message given up; quarantining it."),
        }
    }
}

/// A message that no delivery can make acceptable.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Kind of the problem.
    pub reason: Reason,
    /// Text for the person who looks at the envelope. It may repeat parts of the message, so it is not logged.
    pub detail: String,
    /// Part of the message that the log line may repeat.
    pub printable: String,
}

impl Rejection {
    /// Rejects a message, of which nothing is known that may be printed.
    #[must_use]
    pub const fn new(reason: Reason, detail: String) -> Self {
        Self { reason, detail, printable: String::new() }
    }

    /// Rejects a message whose content the domain does not accept.
    #[must_use]
    pub const fn invalid_order(detail: String) -> Self {
        Self::new(Reason::InvalidOrder, detail)
    }

    /// The log line.
    #[must_use]
    pub fn warning(&self) -> String {
        let (reason, warning) = self.reason.texts();
        format!("{warning} {} reason={reason}", self.printable)
    }
}

/// The text of a message, and what its queue says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueMessage {
    /// Text, exactly as it was on the queue, or decoded where the host decodes it.
    pub text: String,
    /// Time at which it was put there.
    pub inserted: Option<OffsetDateTime>,
    /// Number of its deliveries, this one included.
    pub dequeue_count: Option<u32>,
}

impl QueueMessage {
    /// Whether an earlier delivery failed, or ended with its process.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.dequeue_count.is_some_and(|count| count > 1)
    }
}

/// Message on the quarantine queue, as JSON. A message that is too large for one of them is in several, cut between
/// characters.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    reason: &'static str,
    detail: &'a str,
    invocation_id: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dequeue_count: Option<u32>,
    /// Number of this part, from 1, and of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<[usize; 2]>,
    /// [Digest](digest) of the whole message, by which its parts find together.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<&'a str>,
    message: &'a str,
}

/// Bytes of a message that surely fit into an envelope, whatever they are: a control character has six in JSON, and the
/// whole is escaped once more in XML.
const PART: usize = 8 * 1024;

/// The most of a detail that is kept, in characters.
const MAX_DETAIL: usize = 1_000;

/// Writes the envelopes of a rejected message, which is kept character for character.
#[must_use]
pub fn envelopes(rejection: &Rejection, message: &QueueMessage, attempt: &Attempt) -> Vec<String> {
    let detail: String = rejection.detail.chars().take(MAX_DETAIL).collect();
    let envelope = |message_text: &str, part: Option<([usize; 2], &str)>| {
        let envelope = Envelope {
            reason: rejection.reason.as_str(),
            detail: &detail,
            invocation_id: &attempt.invocation_id,
            time: attempt.began.format(&Rfc3339).unwrap_or_default(),
            first_seen: message.inserted.and_then(|time| time.format(&Rfc3339).ok()),
            dequeue_count: message.dequeue_count,
            part: part.map(|(part, _)| part),
            whole: part.map(|(_, whole)| whole),
            message: message_text,
        };
        xml_safe(serde_json::to_string(&envelope).unwrap_or_default())
    };
    let whole = envelope(&message.text, None);
    if fits(&whole, 0) {
        return vec![whole];
    }
    let parts = parts(&message.text);
    let (count, whole) = (parts.len(), digest(&message.text));
    parts.into_iter().enumerate().map(|(index, part)| envelope(part, Some(([index + 1, count], &whole)))).collect()
}

/// Returns the SHA-256 of a message, in hexadecimal digits. Messages that one tick of the timer moves here have one
/// `invocation_id`.
#[must_use]
pub fn digest(message: &str) -> String {
    format!("{:x}", Sha256::digest(message))
}

/// Cuts a text between characters into parts of at most [`PART`] bytes.
fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        parts.push(part);
        text = rest;
    }
    parts
}

/// The queue on which rejected messages are kept.
#[derive(Debug)]
pub struct Quarantine {
    /// The queue.
    pub queue: Queue,
    /// What is known of it.
    pub outage: Outage,
}

impl Quarantine {
    /// Keeps messages on this queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self { queue, outage: Outage::new("quarantine queue") }
    }

    /// Keeps a rejected message. While the queue is away, it waits for as long as the attempt may be held.
    ///
    /// # Errors
    ///
    /// Not all of the message may be kept.
    pub async fn keep(
        &self,
        rejection: &Rejection,
        message: &QueueMessage,
        attempt: &Attempt,
    ) -> Result<(), outage::Error> {
        let try_keep = async || self.try_keep(rejection, message, attempt).await;
        self.outage.insist(attempt.hold_until, attempt, try_keep).await
    }

    /// Keeps a rejected message, and does not wait for a queue that is away.
    ///
    /// # Errors
    ///
    /// Not all of the message may be kept.
    pub async fn try_keep(
        &self,
        rejection: &Rejection,
        message: &QueueMessage,
        attempt: &Attempt,
    ) -> Result<(), storage::Error> {
        for envelope in envelopes(rejection, message, attempt) {
            self.put(&envelope, attempt).await?;
        }
        Ok(())
    }

    async fn put(&self, envelope: &str, attempt: &Attempt) -> Result<(), storage::Error> {
        let stop = attempt.deadline.min(Instant::now() + PUT_TIME);
        let (begin, delays) = (Instant::now(), Backoff::IMPATIENT.delays(attempt.random()));
        let put = async || self.queue.put(envelope).await;
        let result = retry(stop, delays, storage::Error::wait_before_retry, put).await;
        self.outage.note(begin, &result, attempt);
        result
    }
}

/// Time in which a put is repeated.
const PUT_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::queue::MAX_MESSAGE;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn quarantined(text: &str) -> Vec<serde_json::Value> {
        let rejection = Rejection::new(Reason::InvalidJson, "truncated".to_owned());
        let attempt = Attempt::new("5b0c1f4e".to_owned(), datetime!(2026-11-21 10:20:00 UTC), Instant::now(), 1);
        let message = QueueMessage {
            text: text.to_owned(),
            inserted: Some(datetime!(2026-11-20 08:00 UTC)),
            dequeue_count: Some(2),
        };
        let envelopes = envelopes(&rejection, &message, &attempt);
        assert!(envelopes.iter().all(|envelope| fits(envelope, 0) && envelope.len() <= MAX_MESSAGE));
        envelopes.iter().map(|envelope| serde_json::from_str(envelope).unwrap()).collect()
    }

    #[test]
    fn the_envelope_says_why_when_and_in_which_invocation() {
        assert_eq!(
            quarantined(r#"{"id":"order-124","#),
            [serde_json::json!({
                "reason": "invalid_json",
                "detail": "truncated",
                "invocation_id": "5b0c1f4e",
                "time": "2026-11-21T10:20:00Z",
                "first_seen": "2026-11-20T08:00:00Z",
                "dequeue_count": 2,
                "message": r#"{"id":"order-124","#,
            })]
        );
    }

    #[test]
    fn a_message_that_does_not_fit_with_its_reason_is_kept_in_parts() {
        assert_eq!(quarantined(&"x".repeat(60_000)).len(), 1);
        for text in ["x".repeat(MAX_MESSAGE), "\"".repeat(40_000), "€".repeat(21_840), "\u{1}".repeat(49_152)] {
            let parts = quarantined(&text);
            let numbers: Vec<_> = parts.iter().map(|part| part["part"].clone()).collect();
            let expected: Vec<_> = (1..=parts.len()).map(|part| serde_json::json!([part, parts.len()])).collect();
            assert_eq!(numbers, expected);
            let whole: String = parts.iter().filter_map(|part| part["message"].as_str()).collect();
            assert!(whole == text);
            assert!(parts.iter().all(|part| part["whole"] == digest(&text)));
        }
    }

    proptest! {
        #[test]
        fn the_message_is_kept_character_for_character(message: String) {
            let envelopes = quarantined(&message);
            prop_assert_eq!(envelopes[0]["message"].as_str(), Some(message.as_str()));
        }
    }
}
