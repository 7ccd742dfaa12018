//! Messages as they are kept on the quarantine queue: one envelope each, or several that have to be joined.

use std::collections::HashMap;

use handler::{
    message::{Message, Text, printable},
    quarantine::digest,
    storage::queue::ReceivedMessage,
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::order::DOMAIN;

/// An envelope as the handler writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Envelope {
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) invocation_id: String,
    #[serde(default)]
    pub(crate) time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dequeue_count: Option<u32>,
    #[serde(default, skip_serializing)]
    part: Option<[usize; 2]>,
    #[serde(default, skip_serializing)]
    whole: Option<String>,
    pub(crate) message: String,
}

/// A whole message, and the envelopes that hold it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) envelope: Envelope,
    pub(crate) held_in: Vec<ReceivedMessage>,
}

/// What a message of the quarantine queue turns out to be.
#[derive(Debug)]
pub(crate) enum Found {
    Whole(Kept),
    /// A part; others are to come.
    Part,
    /// It is no envelope.
    Foreign(ReceivedMessage),
}

/// Parts whose others were not read yet, by what they belong to.
#[derive(Debug, Default)]
pub(crate) struct Joiner(HashMap<(String, String), Vec<(Envelope, ReceivedMessage)>>);

impl Kept {
    /// Time since which the message waits: since it was put on the queue of orders, if that is known.
    pub(crate) fn since(&self) -> Option<OffsetDateTime> {
        let first_seen = self.envelope.first_seen.as_deref();
        first_seen.and_then(time).or_else(|| time(&self.envelope.time)).or_else(|| self.held_in.first()?.inserted)
    }
}

pub(crate) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

impl Joiner {
    /// Reads a message of the quarantine queue.
    pub(crate) fn add(&mut self, received: ReceivedMessage) -> Found {
        let Ok(envelope) = serde_json::from_str::<Envelope>(&received.text) else {
            return Found::Foreign(received);
        };
        let Some([_, count]) = envelope.part else {
            return Found::Whole(Kept { envelope, held_in: vec![received] });
        };
        let key = (envelope.invocation_id.clone(), envelope.whole.clone().unwrap_or_default());
        let parts = self.0.entry(key.clone()).or_default();
        parts.push((envelope, received));
        let Some(message) = joined(parts, count) else { return Found::Part };
        let parts = self.0.remove(&key).unwrap_or_default();
        let Some((envelope, _)) = parts.first() else { return Found::Part };
        let envelope = Envelope { message, ..envelope.clone() };
        Found::Whole(Kept { envelope, held_in: parts.into_iter().map(|(_, received)| received).collect() })
    }

    /// Returns the parts whose others are not there.
    pub(crate) fn rest(self) -> impl Iterator<Item = ReceivedMessage> {
        self.0.into_values().flatten().map(|(_, received)| received)
    }
}

/// Joins the parts of a message if all are there, and make up the message they were cut from.
fn joined(parts: &[(Envelope, ReceivedMessage)], count: usize) -> Option<String> {
    let text = |number| {
        let part = parts.iter().find(|(envelope, _)| envelope.part == Some([number, count]));
        part.map(|(envelope, _)| envelope.message.as_str())
    };
    let message = (1..=count).map(text).collect::<Option<String>>()?;
    let (first, _) = parts.first()?;
    (first.whole.as_ref() == Some(&digest(&message))).then_some(message)
}

/// Reads the id of a message, if it has a usable one, and what may be printed of it.
pub(crate) fn id_and_printable(text: &str) -> (Option<String>, String) {
    let Ok(text) = Text::decode(text) else { return (None, String::new()) };
    let Ok(object) = text.object() else { return (None, String::new()) };
    let shown = printable(&object, DOMAIN.id_member, DOMAIN.printable);
    (Message::new(object, DOMAIN.id_member).ok().map(|message| message.id().to_owned()), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: usize, message: &str, whole: &str) -> ReceivedMessage {
        let text = serde_json::json!({
            "reason": "exhausted", "invocation_id": "one tick", "part": [number, 2], "whole": whole, "message": message,
        });
        ReceivedMessage { text: text.to_string(), ..ReceivedMessage::default() }
    }

    #[test]
    fn parts_are_joined_in_any_order_and_those_of_two_messages_of_one_tick_are_not_mixed() {
        let (one, other) = (digest("ab"), digest("cd"));
        let mut joiner = Joiner::default();
        for part in [part(2, "b", &one), part(1, "c", &other), part(2, "b", &one)] {
            assert!(matches!(joiner.add(part), Found::Part));
        }
        let Found::Whole(kept) = joiner.add(part(1, "a", &one)) else { panic!("not whole") };
        assert_eq!((kept.envelope.message.as_str(), kept.held_in.len()), ("ab", 3));
        assert_eq!(joiner.rest().count(), 1);
    }

    #[test]
    fn parts_that_do_not_make_up_the_message_they_were_cut_from_are_not_joined() {
        let mut joiner = Joiner::default();
        for part in [part(1, "a", &digest("ab")), part(2, "x", &digest("ab"))] {
            assert!(matches!(joiner.add(part), Found::Part));
        }
    }
}
