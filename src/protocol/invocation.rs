//! From the body of an invocation to what the trigger delivers.
//!
//! The host copies the top-level members of a JSON message over the `Metadata` of a queue message, so its sender may
//! decide what it says. What the host itself says of the message is told from that by its form: a member of the message
//! arrives in quotation marks of its own. The retry context of a timer cannot be forged that way.

use crate::{functions::scheduled_with_retry::TimerTick, quarantine::QueueMessage};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// An invocation that does not follow the contract.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON of the expected shape.
    #[error("at {path}: {problem}")]
    Shape {
        /// Where, as a JSON path.
        path: String,
        /// Problem there; the text never repeats what was sent.
        problem: String,
    },
    /// The queue binding has no value.
    #[error("at Data.msg: no message text")]
    NoMessage,
}

/// The queue message that `body` carries, its text exactly as it is on the queue.
///
/// The host sends it as a JSON string in a JSON string. A host that follows the published samples instead, with the
/// text or a JSON value directly, is understood too, but only when the strict reading is impossible.
///
/// # Errors
///
/// The body does not carry a queue message.
pub fn queue_message(body: &[u8]) -> Result<QueueMessage, DecodeError> {
    #[derive(Deserialize)]
    struct QueueData<'a> {
        #[serde(borrow)]
        msg: &'a RawValue,
    }
    /// Read as whatever they are: a message may have members of these names.
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct QueueMetadata {
        dequeue_count: serde_json::Value,
        insertion_time: serde_json::Value,
    }
    let Envelope { data, metadata } = decode::<Envelope<QueueData<'_>, QueueMetadata>>(body)?;
    Ok(QueueMessage {
        text: text(data.msg.get())?,
        dequeue_count: metadata.dequeue_count.as_str().and_then(|count| count.parse().ok()),
        inserted: metadata.insertion_time.as_str().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok()),
    })
}

fn text(raw: &str) -> Result<String, DecodeError> {
    let Ok(once) = serde_json::from_str::<String>(raw) else {
        return if raw == "null" { Err(DecodeError::NoMessage) } else { Ok(raw.to_owned()) };
    };
    match serde_json::from_str::<Option<String>>(&once) {
        Ok(Some(twice)) => Ok(twice),
        Ok(None) => Err(DecodeError::NoMessage),
        Err(_) => Ok(once),
    }
}

/// The timer tick that `body` carries.
///
/// # Errors
///
/// The body does not carry a timer tick.
pub fn timer_tick(body: &[u8]) -> Result<TimerTick, DecodeError> {
    #[derive(Deserialize)]
    struct TimerData {
        timer: Timer,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Timer {
        is_past_due: bool,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct TimerMetadata {
        retry_context: Option<RetryContext>,
    }
    /// `Exception` is left out: several kilobytes of no stable shape.
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct RetryContext {
        retry_count: u32,
        max_retry_count: i64,
    }
    let envelope = decode::<Envelope<TimerData, TimerMetadata>>(body)?;
    let retry = envelope.metadata.retry_context.unwrap_or_default();
    Ok(TimerTick {
        past_due: envelope.data.timer.is_past_due,
        retry_count: retry.retry_count,
        max_retry_count: retry.max_retry_count,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<D, M> {
    data: D,
    #[serde(default)]
    metadata: M,
}

/// Decodes a body, once more when it is wrong: to know where costs as much as all the rest.
fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        DecodeError::Shape { path, problem: problem(error.inner()) }
    })?;
    deserializer.end().map_err(|error| DecodeError::Shape { path: "the end".to_owned(), problem: problem(&error) })?;
    Ok(value)
}

/// The kind of a JSON error and its place: the full text would repeat what was sent.
fn problem(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "the body is truncated",
        serde_json::error::Category::Data => "a member is missing or has the wrong type",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
    };
    format!("{kind} (line {} column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    /// An invocation of the host, whose Metadata is overwritten by the message's own members.
    fn from_the_host(message: &str) -> Vec<u8> {
        let twice = serde_json::to_string(message).unwrap();
        serde_json::json!({
            "Data": { "msg": twice },
            "Metadata": {
                "DequeueCount": "\"99\"", "Id": "\"forged\"", "PopReceipt": "\"AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=\"",
                "sys": { "MethodName": "queue_with_idempotency", "UtcNow": "2026-11-21T10:15:31.2103812Z" },
            },
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_queue_message_is_decoded_twice() {
        let body = br#"{"Data":{"msg":"\"{\\\"id\\\":\\\"order-123\\\",\\\"amount\\\":42}\""},"Metadata":{"DequeueCount":"1"}}"#;
        assert_eq!(queue_message(body).unwrap().text, r#"{"id":"order-123","amount":42}"#);
    }

    #[test]
    fn the_metadata_of_the_host_cannot_be_forged_by_a_message() {
        let read = |metadata: &str| {
            let body = format!(r#"{{"Data":{{"msg":"\"{{}}\""}},"Metadata":{metadata}}}"#);
            let QueueMessage { dequeue_count, inserted, .. } = queue_message(body.as_bytes()).unwrap();
            (dequeue_count, inserted)
        };
        let genuine = r#"{"DequeueCount":"3","InsertionTime":"2026-11-28T08:27:29+00:00"}"#;
        assert_eq!(read(genuine), (Some(3), Some(datetime!(2026-11-28 08:27:29 UTC))));
        for forged in [
            r#"{"DequeueCount":"\"3\"","InsertionTime":"\"2026-11-28T08:27:29+00:00\""}"#,
            r#"{"DequeueCount":{"a":1},"InsertionTime":[]}"#,
            r#"{"DequeueCount":3}"#,
            "{}",
        ] {
            assert_eq!(read(forged), (None, None), "{forged}");
        }
    }

    #[test]
    fn a_message_that_is_itself_a_json_string_is_decoded_only_as_often_as_it_was_encoded() {
        assert_eq!(queue_message(&from_the_host(r#""hello""#)).unwrap().text, r#""hello""#);
        assert_eq!(queue_message(&from_the_host(r#""\"{}\"""#)).unwrap().text, r#""\"{}\"""#);
    }

    #[test]
    fn hosts_that_follow_the_published_samples_are_understood() {
        for (data, message) in [
            (r#""{\"id\":\"order-123\"}""#, r#"{"id":"order-123"}"#),
            (r#"{"id":"order-123","amount":1.10}"#, r#"{"id":"order-123","amount":1.10}"#),
            (r#""plain text""#, "plain text"),
            ("42", "42"),
        ] {
            let body = format!(r#"{{"Data":{{"msg":{data}}}}}"#);
            assert_eq!(queue_message(body.as_bytes()).unwrap().text, message);
        }
    }

    #[test]
    fn an_invocation_without_a_message_is_an_error() {
        for data in ["null", r#""null""#] {
            let body = format!(r#"{{"Data":{{"msg":{data}}},"Metadata":{{}}}}"#);
            assert!(matches!(queue_message(body.as_bytes()), Err(DecodeError::NoMessage)), "{data}");
        }
    }

    #[test]
    fn errors_name_the_place_and_repeat_nothing() {
        for (body, path, problem) in [
            (r#"{"Data":{"message":"4111"},"Metadata":{}}"#, "Data", "a member is missing or has the wrong type"),
            (r#"{"Metadata":{"msg":"4111"}}"#, ".", "a member is missing or has the wrong type"),
            (r#"{"Data":"4111"}"#, "Data", "a member is missing or has the wrong type"),
            (r#"{"Data":{"msg":"4111"}"#, "?", "the body is truncated"),
            ("", ".", "the body is truncated"),
            (r#"{"Data":{"msg":"4111"}}}"#, "the end", "not JSON"),
        ] {
            let error = queue_message(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("at {path}: {problem} (line 1 column ")), "{body}: {error}");
            assert!(!error.contains("4111"), "{error}");
        }
    }

    #[test]
    fn a_timer_tick_carries_its_attempt() {
        let body = br#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"0001-01-01T00:00:00","Next":"2026-11-21T10:20:00+00:00","LastUpdated":"2026-11-21T10:15:00.1234567+00:00"},"IsPastDue":true}},"Metadata":{"sys":{"MethodName":"scheduled_with_retry"},"RetryContext":{"RetryCount":1,"MaxRetryCount":3,"Exception":{"InnerException":{"StatusCode":500,"Data":{}}},"Instance":null,"State":{}}}}"#;
        assert_eq!(timer_tick(body).unwrap(), TimerTick { past_due: true, retry_count: 1, max_retry_count: 3 });
        let endless = br#"{"Data":{"timer":{"IsPastDue":false}},"Metadata":{"RetryContext":{"RetryCount":7,"MaxRetryCount":-1}}}"#;
        assert_eq!(timer_tick(endless).unwrap(), TimerTick { past_due: false, retry_count: 7, max_retry_count: -1 });
    }

    #[test]
    fn a_timer_tick_needs_neither_monitor_nor_retry_policy() {
        for metadata in ["", r#","Metadata":{}"#, r#","Metadata":{"RetryContext":null}"#] {
            let body = format!(r#"{{"Data":{{"timer":{{"ScheduleStatus":null,"IsPastDue":false}}}}{metadata}}}"#);
            assert_eq!(
                timer_tick(body.as_bytes()).unwrap(),
                TimerTick { past_due: false, retry_count: 0, max_retry_count: 0 },
                "{metadata}"
            );
        }
    }

    #[test]
    fn an_error_in_a_timer_tick_names_its_path() {
        let error = timer_tick(br#"{"Data":{"timer":{"IsPastDue":"no"}}}"#).unwrap_err().to_string();
        assert!(error.starts_with("at Data.timer.IsPastDue: "), "{error}");
    }

    proptest! {
        #[test]
        fn every_message_text_arrives_unchanged(message: String) {
            prop_assert_eq!(queue_message(&from_the_host(&message)).unwrap().text, message);
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = queue_message(&body);
            let _ = timer_tick(&body);
        }
    }
}
