//! The body of a published event: [CloudEvents
//! 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) in JSON.
//!
//! A body is composed and encoded once, before the commit, and stored with the record as it will lie on the queue: every
//! put of the event has the same bytes, whatever the settings are by then.

use crate::{
    attempt::Attempt,
    decision::Event,
    idempotency::{Key, record::edm_date_time},
    json::xml_safe,
    storage::MessageEncoding,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// The operation of an event.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Identity of the operation.
    pub key: &'a Key,
    /// `source`.
    pub source: &'a str,
    /// `subject`: the id of the operation.
    pub subject: &'a str,
    /// `traceparent`: the trace to which the operation belongs.
    pub traceparent: Option<&'a str>,
}

/// Room for a trace, in bytes of JSON. It is kept free in an event without one, so that the size of an event depends on its
/// order alone: a copy that comes with a trace must not be too large where the first one was not.
const ROOM_FOR_TRACE: &str = ",'traceparent':'00-00000000000000000000000000000000-0000000000000000-00'";

/// Returns the room that `events` of this origin keep free, in bytes as they are published.
#[must_use]
pub fn room_for_trace(origin: Origin<'_>, encoding: MessageEncoding) -> usize {
    if origin.traceparent.is_some() { 0 } else { encoding.encode(ROOM_FOR_TRACE.to_owned()).len() }
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    subject: &'a str,
    datacontenttype: &'static str,
    /// [Extension attribute](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md).
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: &'a RawValue,
}

/// Composes the bodies of `events`, in the `encoding` of their queue, for the case that this attempt commits their
/// operation.
#[must_use]
pub fn bodies(events: &[Event], origin: Origin<'_>, attempt: &Attempt, encoding: MessageEncoding) -> Vec<String> {
    // Of fixed length, so that an event has the same size in every delivery.
    let time = edm_date_time(attempt.time());
    let body = |(index, event): (usize, &Event)| {
        let event = CloudEvent {
            specversion: "1.0",
            id: origin.key.event_id(&attempt.commit_id, index),
            source: origin.source,
            kind: event.kind,
            time: time.clone(),
            subject: origin.subject,
            datacontenttype: "application/json",
            traceparent: origin.traceparent,
            data: &event.data,
        };
        encoding.encode(xml_safe(serde_json::to_string(&event).unwrap_or_default()))
    };
    events.iter().enumerate().map(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use time::macros::datetime;
    use tokio::time::Instant;

    proptest! {
        #[test]
        fn every_event_is_a_cloud_event_with_what_was_decided(subject: String, notes: [String; 2]) {
            let data = |note: &String| serde_json::value::to_raw_value(note).unwrap();
            let events = notes.each_ref().map(|note| Event { kind: "order.accepted", data: data(note) });
            let key = Key::new("orders", &subject);
            let origin = Origin { key: &key, source: "/orders", subject: &subject, traceparent: Some("00-a-b-01") };
            let now = datetime!(2026-11-21 10:20 UTC);
            let attempt = Attempt::new(String::new(), now, Instant::now(), 0xc0ffee);
            let bodies = bodies(&events, origin, &attempt, MessageEncoding::Base64);
            prop_assert_eq!(bodies.len(), notes.len());
            for (index, (body, note)) in bodies.iter().zip(&notes).enumerate() {
                let body = String::from_utf8(BASE64_STANDARD.decode(body).unwrap()).unwrap();
                prop_assert_eq!(&xml_safe(body.clone()), &body);
                let event: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert!(event["time"].as_str().unwrap().starts_with("2026-11-21T10:20:0"));
                prop_assert_eq!(&event, &serde_json::json!({
                    "specversion": "1.0",
                    "id": key.event_id("00000000000000000000000000c0ffee", index),
                    "source": "/orders",
                    "type": "order.accepted",
                    "time": event["time"],
                    "subject": subject,
                    "datacontenttype": "application/json",
                    "traceparent": "00-a-b-01",
                    "data": note,
                }));
            }
        }
    }
}
