//! The checks on the journal of all changes, read from its begin.

use super::plan::RETENTION;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use test_storage::emulated::{Change, Row};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The queue of events.
pub(crate) const EVENTS: &str = "order-events";

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
    /// The stored records, by their row key.
    records: BTreeMap<&'a str, Record>,
    /// The bodies under which each event was committed, by its id.
    committed: BTreeMap<&'a str, Vec<&'a str>>,
    /// The ids of all events of all records.
    expected: BTreeSet<String>,
    /// The row keys of the stored index rows.
    indexed: BTreeSet<&'a str>,
    /// The events that were put on the queue since they were committed last.
    published: BTreeSet<&'a str>,
    /// The events in the outbox.
    outbox: BTreeSet<&'a str>,
}

/// One life of a record.
#[derive(Debug)]
struct Record {
    inserted_at: Duration,
    index_row_key: String,
    events: Vec<String>,
}

impl Known<'_> {
    /// Removes what matters only where records expire.
    pub(crate) fn forget_times(&mut self) {
        self.records.values_mut().for_each(|record| record.inserted_at = Duration::ZERO);
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
                Change::Put { queue, text, .. } if queue == EVENTS => event_published(text, &mut known, violations),
                Change::Inserted(_) | Change::Deleted(_) | Change::Put { .. } => {}
            }
        }
        for Entry { change, .. } in entries {
            match change {
                Change::Inserted(row) if is_event(row) => event_committed(row, &mut known, violations),
                Change::Deleted(row) if is_event(row) => event_deleted(row, &mut known, violations),
                Change::Inserted(row) if is_index_row(row) => drop(known.indexed.insert(text(row, "RowKey"))),
                Change::Deleted(row) if is_index_row(row) => drop(known.indexed.remove(text(row, "RowKey"))),
                _ => {}
            }
        }
        let without = known.records.values().find(|record| !known.indexed.contains(record.index_row_key.as_str()));
        violations.extend(without.map(|record| format!("a record without its index row: {record:?}")));
    }
    known
}

fn record_inserted<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>) {
    let (row_key, commit_id) = (text(row, "RowKey"), text(row, "commit_id"));
    let hash = row_key.trim_start_matches("record~");
    let events = 0..row["events"].as_u64().unwrap_or_default();
    let events: Vec<_> = events.map(|index| format!("{hash}-{commit_id}-{index}")).collect();
    known.expected.extend(events.iter().cloned());
    let expires_at = OffsetDateTime::parse(text(row, "expires_at"), &Rfc3339).unwrap().unix_timestamp();
    let index_row_key = format!("expiry~{expires_at:012}~{hash}~{commit_id}");
    known.records.insert(row_key, Record { inserted_at: at, index_row_key, events });
}

fn record_purged<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let row_key = text(row, "RowKey");
    let Some(Record { inserted_at, events, .. }) = known.records.remove(row_key) else { return };
    if at < inserted_at + RETENTION {
        violations.push(format!("purged inside its retention, after {:?}: {row_key}", at - inserted_at));
    }
    let is_done = |id: &&String| known.published.contains(id.as_str()) && !known.outbox.contains(id.as_str());
    for id in events.iter().filter(|id| !is_done(id)) {
        violations.push(format!("purged before its event was published and deleted: {id}"));
    }
}

fn event_committed<'a>(row: &'a Row, known: &mut Known<'a>, violations: &mut Vec<String>) {
    let (id, body) = (text(row, "event_id"), text(row, "body"));
    if !known.records.contains_key(record_row_key(id).as_str()) {
        violations.push(format!("an event without a record: {id}"));
    }
    let published_id = published_id(body);
    if id != published_id {
        violations.push(format!("an event under two ids: {id} and {published_id}"));
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

pub(crate) fn is_record(row: &Row) -> bool {
    row.contains_key("receipt")
}

pub(crate) fn is_event(row: &Row) -> bool {
    row.contains_key("body")
}

fn is_index_row(row: &Row) -> bool {
    text(row, "RowKey").starts_with("expiry~")
}

/// Returns the row key of the record to which an event belongs.
fn record_row_key(event_id: &str) -> String {
    format!("record~{}", event_id.split('-').next().unwrap_or_default())
}
