//! The journal of everything that changed, read against the promises.

use super::{
    call::Row,
    plan::RETENTION,
    storage::{Change, What},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A property of a row, empty if there is none.
pub(crate) fn text<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).and_then(Value::as_str).unwrap_or_default()
}

/// What is known when the journal is read up to some place.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// When each record that is there was inserted, and how many events it has.
    records: BTreeMap<&'a str, (Duration, u64)>,
    /// The bodies of every event that was ever committed, by its id: more than one when its order was forgotten and
    /// committed again.
    committed: BTreeMap<&'a str, Vec<&'a str>>,
    /// The ids of all events of all records.
    expected: BTreeSet<String>,
    /// Events that were put on the queue since they were committed last.
    published: BTreeSet<&'a str>,
    /// The ids of events that are in the outbox.
    left: BTreeSet<&'a str>,
    /// Under which id each event was committed first, by its place in the outbox.
    ids: BTreeMap<&'a str, String>,
}

impl Known<'_> {
    /// Leaves out what matters only where records expire.
    pub(crate) fn forget_times(&mut self) {
        self.records.values_mut().for_each(|(at, _)| *at = Duration::ZERO);
    }
}

/// Every change keeps the promises, and in the end every event is published.
pub(crate) fn check(journal: &[Change], broken: &mut Vec<String>) {
    let known = read(journal, broken);
    for id in known.expected.iter().filter(|id| !known.published.contains(id.as_str())) {
        broken.push(format!("never published: {id}"));
    }
}

/// Reads the changes one after the other, those of one transaction as one.
pub(crate) fn read<'a>(journal: &'a [Change], broken: &mut Vec<String>) -> Known<'a> {
    let mut known = Known::default();
    for changes in journal.chunk_by(|one, other| one.request == other.request) {
        for Change { at, what, .. } in changes {
            match what {
                What::Inserted(row) if is_record(row) => inserted(row, *at, &mut known),
                What::Deleted(row) if is_record(row) => purged(row, *at, &mut known, broken),
                What::Overwritten(row) => broken.push(format!("overwritten: {row:?}")),
                What::Put(body) => put(body, &mut known, broken),
                What::Inserted(_) | What::Deleted(_) => {}
            }
        }
        for Change { what, .. } in changes {
            match what {
                What::Inserted(row) if !is_record(row) => committed(row, &mut known, broken),
                What::Deleted(row) if !is_record(row) => forgotten(row, &mut known, broken),
                _ => {}
            }
        }
    }
    known
}

fn inserted<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>) {
    let (row_key, events) = (text(row, "RowKey"), row["events"].as_u64().unwrap_or_default());
    known.records.insert(row_key, (at, events));
    known.expected.extend(ids(row_key, events));
}

fn committed<'a>(row: &'a Row, known: &mut Known<'a>, broken: &mut Vec<String>) {
    let (id, body) = (text(row, "event_id"), text(row, "body"));
    if !known.records.contains_key(record_of(id).as_str()) {
        broken.push(format!("an event without a record: {id}"));
    }
    let first = known.ids.entry(text(row, "RowKey")).or_insert_with(|| id_of(body));
    if *first != id_of(body) {
        broken.push(format!("an event under two ids: {first} and {}", id_of(body)));
    }
    known.committed.entry(id).or_default().push(body);
    known.published.remove(id);
    known.left.insert(id);
}

fn forgotten<'a>(row: &'a Row, known: &mut Known<'a>, broken: &mut Vec<String>) {
    let id = text(row, "event_id");
    known.left.remove(id);
    if !known.published.contains(id) {
        broken.push(format!("forgotten before it was published: {id}"));
    }
}

fn purged<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>, broken: &mut Vec<String>) {
    let row_key = text(row, "RowKey");
    let (since, events) = known.records.remove(row_key).unwrap_or_default();
    if at < since + RETENTION {
        broken.push(format!("purged inside its retention, after {:?}: {row_key}", at - since));
    }
    let is_done = |id: &String| known.published.contains(id.as_str()) && !known.left.contains(id.as_str());
    for id in ids(row_key, events).filter(|id| !is_done(id)) {
        broken.push(format!("purged before its event was published and forgotten: {id}"));
    }
}

fn put<'a>(body: &'a str, known: &mut Known<'a>, broken: &mut Vec<String>) {
    let Some((id, bodies)) = known.committed.get_key_value(id_of(body).as_str()) else {
        return broken.push(format!("published before it was committed: {body}"));
    };
    if !bodies.contains(&body) {
        broken.push(format!("published otherwise than it was committed: {body}"));
    }
    if bodies.last() == Some(&body) {
        known.published.insert(id);
    }
}

/// The id that consumers see.
fn id_of(body: &str) -> String {
    let event: Value = serde_json::from_str(body).unwrap();
    event["id"].as_str().unwrap_or_default().to_owned()
}

/// The ids of the events of a record.
fn ids(row_key: &str, events: u64) -> impl Iterator<Item = String> {
    let hash = row_key.trim_start_matches("record~");
    (0..events).map(move |index| format!("{hash}-{index}"))
}

pub(crate) fn is_record(row: &Row) -> bool {
    row.contains_key("receipt")
}

/// `RowKey` of the record to which an event belongs.
fn record_of(event_id: &str) -> String {
    format!("record~{}", event_id.split('-').next().unwrap_or_default())
}
