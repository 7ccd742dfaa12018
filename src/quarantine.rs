//! Messages that no delivery will make acceptable: taken off the queue, and kept with the reason.
//!
//! The host's own way, five deliveries and then the poison queue, is for what may pass; a message that is wrong today
//! is wrong tomorrow, and on the poison queue nobody could say why it is there.

use crate::{attempt::Attempt, json::xml_safe, storage::queue::MAX_MESSAGE};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

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

/// Message on the quarantine queue, as JSON.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    reason: &'static str,
    detail: &'a str,
    invocation_id: &'a str,
    time: String,
    message: &'a str,
}

/// Writes the envelope of a rejected `message`, which is kept character for character; `None` when it would not fit into
/// one queue message.
#[must_use]
pub fn envelope(rejection: &Rejection, message: &str, attempt: &Attempt) -> Option<String> {
    let envelope = Envelope {
        reason: rejection.reason.as_str(),
        detail: &rejection.detail,
        invocation_id: &attempt.invocation_id,
        time: attempt.began.format(&Rfc3339).unwrap_or_default(),
        message,
    };
    serde_json::to_string(&envelope).ok().map(xml_safe).filter(|text| text.len() <= MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn quarantined(message: &str) -> Option<serde_json::Value> {
        let rejection = Rejection::new(Reason::InvalidJson, "truncated".to_owned());
        let attempt =
            Attempt::new("5b0c1f4e".to_owned(), datetime!(2026-11-21 10:20:00 UTC), tokio::time::Instant::now(), 1);
        envelope(&rejection, message, &attempt).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_envelope_says_why_when_and_in_which_invocation() {
        assert_eq!(
            quarantined(r#"{"id":"order-124","#).unwrap(),
            serde_json::json!({
                "reason": "invalid_json",
                "detail": "truncated",
                "invocation_id": "5b0c1f4e",
                "time": "2026-11-21T10:20:00Z",
                "message": r#"{"id":"order-124","#,
            })
        );
    }

    #[test]
    fn a_message_that_does_not_fit_with_its_reason_is_not_cut() {
        assert!(quarantined(&"x".repeat(60_000)).is_some());
        assert_eq!(quarantined(&"x".repeat(MAX_MESSAGE)), None);
        assert_eq!(quarantined(&"\"".repeat(40_000)), None);
        assert_eq!(quarantined(&"€".repeat(22_000)), None, "bytes count, not characters");
    }

    proptest! {
        #[test]
        fn the_message_is_kept_character_for_character(message: String) {
            let envelope = quarantined(&message).unwrap();
            prop_assert_eq!(envelope["message"].as_str(), Some(message.as_str()));
        }
    }
}
