//! The seam between the library and a domain: what is handed in, and what it hands back.
//!
//! A domain is a value, not a trait: there is one in a process, `main` hands it in, and tests hand in others. Its code
//! is pure, because two workers may decide the same message at the same time. The ledger lets one of them commit; the
//! others answer with what was committed.

use crate::{message::Message, quarantine::Rejection};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// A kind of operation, and what accepting one means.
#[derive(Debug, Clone, Copy)]
pub struct Domain {
    /// Namespace of the ids: the same id in another scope is another operation. Another scope over a table in use makes
    /// every operation unknown.
    pub scope: &'static str,
    /// `source` of the events, as in
    /// [CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#source-1).
    pub event_source: &'static str,
    /// Member that identifies the operation: the producer's business key, the same in every copy of the message.
    /// Another member over a table in use makes every operation unknown.
    pub id_member: &'static str,
    /// Members at the top of a message that are not content: with other values in them it is still the same operation.
    /// Another list over a table in use turns redeliveries of earlier operations into conflicts.
    pub ignored: &'static [&'static str],
    /// Members at the top of a message that a log line may show beside the id, provided that they are numbers or
    /// booleans: a text may hold anything.
    pub printable: &'static [&'static str],
    /// Decides one message. It is pure: no I/O, no clock, no randomness.
    pub decide: fn(&Message<'_>) -> Result<Decision, Rejection>,
}

/// Consequences of accepting a message, as data: nothing has happened yet.
#[derive(Debug)]
pub struct Decision {
    /// Answer to this message and to every duplicate of it.
    pub receipt: Box<RawValue>,
    /// Events to publish, at least once each, after the operation is committed and never before.
    pub events: Vec<Event>,
}

/// Something that happened, for the queue of events.
#[derive(Debug)]
pub struct Event {
    /// `type` of the event, as in
    /// [CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type).
    pub kind: &'static str,
    /// `data` of the event.
    pub data: Box<RawValue>,
}

/// Writes a receipt or the data of an event as JSON.
///
/// # Errors
///
/// The value has no JSON form: a map whose keys are not texts, for example.
pub fn to_json(value: &impl Serialize) -> Result<Box<RawValue>, Rejection> {
    to_raw_value(value).map_err(|error| Rejection::invalid_order(error.to_string()))
}
