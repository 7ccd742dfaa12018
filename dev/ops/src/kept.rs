//! Messages as they are kept on the quarantine queue: one envelope each, or several that have to be joined.

use std::collections::HashMap;

use anyhow::Result;
use handler::{
    message::{Message, Text, printable},
    quarantine::digest,
    storage::queue::ReceivedMessage,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    order::DOMAIN,
    output::{print_json, print_line, rfc3339, serialize_time},
};

/// Longest time that a message which the host gave up may have waited before: seven days on its queue, and seven on the
/// poison queue. When it was put there, its envelope cannot say.
const LONGEST_BEFORE_QUARANTINE: Duration = Duration::days(14);

/// An envelope as the handler writes it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<[usize; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
    pub(crate) message: String,
}

/// What is kept, and the messages of the queue that hold it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    pub(crate) envelope: Envelope,
    pub(crate) held_in: Vec<ReceivedMessage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole message.
    Whole,
    /// A part of one, whose others are not there.
    Part,
    /// A message that is no envelope, in the place of what an envelope holds.
    Foreign,
}

/// Parts whose others were not read yet, by what they belong to.
#[derive(Debug, Default)]
pub(crate) struct Joiner(HashMap<(String, String), Vec<Kept>>);

impl Kept {
    /// Time since which the message waits: since it was put on the queue of orders, if that is known.
    pub(crate) fn since(&self) -> Option<OffsetDateTime> {
        self.first_seen().or_else(|| time(&self.envelope.time)).or_else(|| self.held_in.first()?.inserted)
    }

    /// The earliest time at which the message can have been put on the queue of orders.
    pub(crate) fn earliest(&self) -> Option<OffsetDateTime> {
        self.first_seen().or_else(|| Some(self.since()? - LONGEST_BEFORE_QUARANTINE))
    }

    fn first_seen(&self) -> Option<OffsetDateTime> {
        self.envelope.first_seen.as_deref().and_then(time)
    }

    /// The reason in the envelope, or that this is only a part.
    pub(crate) fn reason(&self) -> &str {
        if self.kind == Kind::Part { "part whose others are not there" } else { &self.envelope.reason }
    }

    pub(crate) fn id(&self) -> Option<String> {
        id_and_printable(&self.envelope.message).0
    }

    fn read(received: ReceivedMessage) -> Self {
        let (kind, envelope) = match serde_json::from_str::<Envelope>(&received.text) {
            Ok(envelope) if envelope.part.is_some() => (Kind::Part, envelope),
            Ok(envelope) => (Kind::Whole, envelope),
            Err(_) => {
                let (reason, message) = ("not written by the handler".to_owned(), received.text.clone());
                (Kind::Foreign, Envelope { reason, message, ..Envelope::default() })
            }
        };
        Self { kind, envelope, held_in: vec![received] }
    }
}

pub(crate) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

impl Joiner {
    /// Reads a message of the quarantine queue; `None` for a part whose others are to come.
    pub(crate) fn add(&mut self, received: ReceivedMessage) -> Option<Kept> {
        let kept = Kept::read(received);
        if kept.kind != Kind::Part {
            return Some(kept);
        }
        let key = (kept.envelope.invocation_id.clone(), kept.envelope.whole.clone().unwrap_or_default());
        let parts = self.0.entry(key.clone()).or_default();
        parts.push(kept);
        let message = joined(parts)?;
        let parts = self.0.remove(&key)?;
        let envelope = Envelope { message, part: None, whole: None, ..parts.first()?.envelope.clone() };
        Some(Kept { kind: Kind::Whole, envelope, held_in: parts.into_iter().flat_map(|part| part.held_in).collect() })
    }

    /// Returns the parts whose others are not there.
    pub(crate) fn rest(self) -> Vec<Kept> {
        self.0.into_values().flatten().collect()
    }
}

/// Joins the parts of a message if all are there, and make up the message they were cut from.
fn joined(parts: &[Kept]) -> Option<String> {
    let Envelope { part: Some([_, count]), whole, .. } = &parts.last()?.envelope else { return None };
    let text = |number| {
        let part = parts.iter().find(|part| part.envelope.part == Some([number, *count]));
        part.map(|part| part.envelope.message.as_str())
    };
    let message = (1..=*count).map(text).collect::<Option<String>>()?;
    (*whole == Some(digest(&message))).then_some(message)
}

/// Reads the id of a message, if it has a usable one, and what may be printed of it.
pub(crate) fn id_and_printable(text: &str) -> (Option<String>, String) {
    let Ok(text) = Text::decode(text) else { return (None, String::new()) };
    let Ok(object) = text.object() else { return (None, String::new()) };
    let shown = printable(&object, DOMAIN.id_member, DOMAIN.printable);
    (Message::new(object, DOMAIN.id_member).ok().map(|message| message.id().to_owned()), shown)
}

/// What is told of one thing.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<&'static str>,
    pub(crate) reason: String,
    #[serde(serialize_with = "serialize_time")]
    pub(crate) since: Option<OffsetDateTime>,
    pub(crate) id: Option<String>,
    pub(crate) printable: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Line {
    /// Tells what may be printed of a message, or all of it.
    pub(crate) fn new(reason: &str, since: Option<OffsetDateTime>, message: &str, shows: bool) -> Self {
        let (id, printable) = id_and_printable(message);
        let message = shows.then(|| message.to_owned());
        Self { reason: reason.to_owned(), since, id, printable, message, ..Self::default() }
    }

    /// Tells of what is kept.
    pub(crate) fn of(kept: &Kept, shows: bool) -> Self {
        let detail = shows.then(|| kept.envelope.detail.clone());
        Self { detail, ..Self::new(kept.reason(), kept.since(), &kept.envelope.message, shows) }
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json { print_json(self) } else { print_line(&self.text()) }
    }

    pub(crate) fn text(&self) -> String {
        let outcome = self.outcome.map(|outcome| format!("{outcome:14}  ")).unwrap_or_default();
        let since = self.since.map(rfc3339).unwrap_or_default();
        let mut text = format!("{outcome}{:14}  {since:20}  {}", self.reason, self.printable);
        text.extend(self.detail.iter().map(|detail| format!("  {detail}")));
        text.extend(self.message.iter().map(|message| format!("  {message:?}")));
        text
    }
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
            assert!(joiner.add(part).is_none());
        }
        let kept = joiner.add(part(1, "a", &one)).unwrap();
        assert_eq!((kept.envelope.message.as_str(), kept.held_in.len()), ("ab", 3));
        assert_eq!(joiner.rest().len(), 1);
    }

    #[test]
    fn parts_that_do_not_make_up_the_message_they_were_cut_from_are_not_joined() {
        let mut joiner = Joiner::default();
        for part in [part(1, "a", &digest("ab")), part(2, "x", &digest("ab"))] {
            assert!(joiner.add(part).is_none());
        }
    }
}
