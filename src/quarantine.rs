//! Messages that no delivery will make acceptable: taken off the queue, and kept with the reason.
//!
//! The host's own way, five deliveries and then the poison queue, is for what may pass; a message that is wrong today
//! is wrong tomorrow, and on the poison queue nobody could say why it is there.

use crate::{attempt::Attempt, json::xml_safe, storage::queue::MAX_MESSAGE};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

/// Why a message is given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One word for it, in the envelope and in the log.
    pub reason: &'static str,
    /// What exactly is wrong, for the person who looks at the envelope. It may repeat parts of the message, so it is
    /// not logged.
    pub detail: String,
    /// The log line. It repeats nothing of the message but allow-listed members.
    pub warning: String,
}

/// What is put on the quarantine queue, as JSON.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    reason: &'static str,
    detail: &'a str,
    invocation_id: &'a str,
    time: String,
    message: &'a str,
}

/// The envelope of a rejected `message`, which is kept character for character; `None` when it would not fit into one
/// queue message.
#[must_use]
pub fn envelope(rejection: &Rejection, message: &str, attempt: &Attempt) -> Option<String> {
    let envelope = Envelope {
        reason: rejection.reason,
        detail: &rejection.detail,
        invocation_id: &attempt.invocation_id,
        time: attempt.now.format(&Rfc3339).unwrap_or_default(),
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
        let rejection = Rejection { reason: "invalid_json", detail: "truncated".to_owned(), warning: String::new() };
        let attempt = Attempt {
            invocation_id: "5b0c1f4e".to_owned(),
            now: datetime!(2026-11-21 10:20:00 UTC),
            deadline: tokio::time::Instant::now(),
            random: fastrand::Rng::with_seed(1),
        };
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
