//! The checks on the journal of all changes, read from its begin.

use super::plan::RETENTION;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use test_storage::emulated::{Change, Row};

/// A change, its time since the start of the history, and the number of its request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    pub(crate) request: u32,
    pub(crate) change: Change,
}

/// Returns a property of a row, empty if there is none.
pub(crate) fn text<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).and_then(Value::as_str).unwrap_or_default()
}

/// The knowledge about records and events at some place of the journal.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// The stored records: when each was inserted, and its number of events.
    records: BTreeMap<&'a str, (Duration, u64)>,
    /// The bodies under which each event was committed, by its id; several when its record was purged in between.
    committed: BTreeMap<&'a str, Vec<&'a str>>,
    /// The ids of all events of all records.
    expected: BTreeSet<String>,
    /// The events that were put on the queue since they were committed last.
    published: BTreeSet<&'a str>,
    /// The events in the outbox.
    outbox: BTreeSet<&'a str>,
    /// The id under which each event was committed first, by its row key.
    ids: BTreeMap<&'a str, String>,
}

impl Known<'_> {
    /// Removes what matters only where records expire.
    pub(crate) fn forget_times(&mut self) {
        self.records.values_mut().for_each(|(at, _)| *at = Duration::ZERO);
    }
}

/// Checks that every change keeps the promises, and that every event is published in the end.
pub(crate) fn check(journal: &[Entry], violations: &mut Vec<String>) {
    let known = read(journal, violations);
    for id in known.expected.iter().filter(|id| !known.published.contains(id.as_str())) {
        violations.push(format!("never published: {id}"));
    }
}

/// Reads the changes in order, those of one transaction as one.
pub(crate) fn read<'a>(journal: &'a [Entry], violations: &mut Vec<String>) -> Known<'a> {
    let mut known = Known::default();
    for entries in journal.chunk_by(|one, other| one.request == other.request) {
        for Entry { at, change, .. } in entries {
            match change {
                Change::Inserted(row) if is_record(row) => record_inserted(row, *at, &mut known),
                Change::Deleted(row) if is_record(row) => record_purged(row, *at, &mut known, violations),
                Change::Replaced(row) => violations.push(format!("overwritten: {row:?}")),
                Change::Put(body) => event_published(body, &mut known, violations),
                Change::Inserted(_) | Change::Deleted(_) => {}
            }
        }
        for Entry { change, .. } in entries {
            match change {
                Change::Inserted(row) if !is_record(row) => event_committed(row, &mut known, violations),
                Change::Deleted(row) if !is_record(row) => event_deleted(row, &mut known, violations),
                _ => {}
            }
        }
    }
    known
}

fn record_inserted<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>) {
    let (row_key, events) = (text(row, "RowKey"), row["events"].as_u64().unwrap_or_default());
    known.records.insert(row_key, (at, events));
    known.expected.extend(event_ids(row_key, events));
}

fn record_purged<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let row_key = text(row, "RowKey");
    let (since, events) = known.records.remove(row_key).unwrap_or_default();
    if at < since + RETENTION {
        violations.push(format!("purged inside its retention, after {:?}: {row_key}", at - since));
    }
    let is_done = |id: &String| known.published.contains(id.as_str()) && !known.outbox.contains(id.as_str());
    for id in event_ids(row_key, events).filter(|id| !is_done(id)) {
        violations.push(format!("purged before its event was published and deleted: {id}"));
    }
}

fn event_committed<'a>(row: &'a Row, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let (id, body) = (text(row, "event_id"), text(row, "body"));
    if !known.records.contains_key(record_row_key(id).as_str()) {
        violations.push(format!("an event without a record: {id}"));
    }
    let published_id = published_id(body);
    let first = known.ids.entry(text(row, "RowKey")).or_insert_with(|| published_id.clone());
    if *first != published_id {
        violations.push(format!("an event under two ids: {first} and {published_id}"));
    }
    known.committed.entry(id).or_default().push(body);
    known.published.remove(id);
    known.outbox.insert(id);
}

fn event_published<'a>(body: &'a str, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let Some((id, bodies)) = known.committed.get_key_value(published_id(body).as_str()) else {
        return violations.push(format!("published before it was committed: {body}"));
    };
    if !bodies.contains(&body) {
        violations.push(format!("published otherwise than it was committed: {body}"));
    }
    if bodies.last() == Some(&body) {
        known.published.insert(id);
    }
}

fn event_deleted<'a>(row: &'a Row, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let id = text(row, "event_id");
    known.outbox.remove(id);
    if !known.published.contains(id) {
        violations.push(format!("deleted before it was published: {id}"));
    }
}

/// Returns the id that consumers see.
fn published_id(body: &str) -> String {
    let event: Value = serde_json::from_str(body).unwrap();
    event["id"].as_str().unwrap_or_default().to_owned()
}

/// Returns the ids of the events of a record.
fn event_ids(row_key: &str, events: u64) -> impl Iterator<Item = String> {
    let hash = row_key.trim_start_matches("record~");
    (0..events).map(move |index| format!("{hash}-{index}"))
}

pub(crate) fn is_record(row: &Row) -> bool {
    row.contains_key("receipt")
}

/// Returns the row key of the record to which an event belongs.
fn record_row_key(event_id: &str) -> String {
    format!("record~{}", event_id.split('-').next().unwrap_or_default())
}
