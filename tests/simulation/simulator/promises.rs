//! The promises, checked against the journal of everything that changed and against every answer that was given.

use super::{
    call::Row,
    plan::{Message, RETENTION, Verdict},
    storage::{Change, Storage, What},
    world::{End, Place, World},
};
use handler::idempotency::Key;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) fn check(world: &World, broken: &mut Vec<String>) {
    let state = world.network.state();
    let journal = &state.storage.journal;
    let retention = RETENTION.unsigned_abs() - world.plan.skew.unsigned_abs() * 2;
    check_journal(journal, retention, broken);
    for end in &world.ends {
        check_end(end, &journal[..end.journal], broken);
    }
    if world.plan.budget.leaps == 0 && world.plan.expired == 0 {
        check_receipts(world, &state.storage, broken);
    }
    for (index, queued) in world.messages.iter().enumerate() {
        if queued.place != Place::Gone || !world.ends.iter().any(|end| end.message == queued.message) {
            broken.push(format!("message {index} was never answered: {queued:?}"));
        }
    }
}

fn text<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).and_then(Value::as_str).unwrap_or_default()
}

/// What is known of an id when the journal is read up to some place.
#[derive(Default)]
struct Known<'a> {
    /// When each record that is there was inserted.
    records: BTreeMap<&'a str, Duration>,
    /// The bodies of every event that was ever committed, by its id: more than one when its order was forgotten and
    /// committed again.
    committed: BTreeMap<&'a str, Vec<&'a str>>,
    /// The ids of all events of all records.
    expected: BTreeSet<String>,
    /// Events that were put on the queue since they were committed last.
    published: BTreeSet<&'a str>,
}

fn check_journal(journal: &[Change], retention: Duration, broken: &mut Vec<String>) {
    let mut known = Known::default();
    for Change { at, what } in journal {
        match what {
            What::Inserted(row) => inserted(row, *at, &mut known, broken),
            What::Overwritten(row) => broken.push(format!("overwritten: {row:?}")),
            What::Deleted(row) => deleted(row, (*at, retention), &mut known, broken),
            What::Put(body) => put(body, &mut known, broken),
        }
    }
    for id in known.expected.iter().filter(|id| !known.published.contains(id.as_str())) {
        broken.push(format!("never published: {id}"));
    }
}

fn inserted<'a>(row: &'a Row, at: Duration, known: &mut Known<'a>, broken: &mut Vec<String>) {
    if row.contains_key("receipt") {
        let (row_key, events) = (text(row, "RowKey"), row["events"].as_u64().unwrap_or_default());
        known.records.insert(row_key, at);
        known.expected.extend((0..events).map(|index| format!("{}-{index}", row_key.replace("record~", ""))));
        return;
    }
    let id = text(row, "event_id");
    if !known.records.contains_key(record_of(id).as_str()) {
        broken.push(format!("an event without a record: {id}"));
    }
    known.committed.entry(id).or_default().push(text(row, "body"));
    known.published.remove(id);
}

fn deleted<'a>(row: &'a Row, (at, retention): (Duration, Duration), known: &mut Known<'a>, broken: &mut Vec<String>) {
    if !row.contains_key("receipt") {
        if !known.published.contains(text(row, "event_id")) {
            broken.push(format!("forgotten before it was published: {}", text(row, "event_id")));
        }
        return;
    }
    let since = known.records.remove(text(row, "RowKey")).unwrap_or_default();
    if at < since + retention {
        broken.push(format!("purged inside its retention, after {:?}: {row:?}", at - since));
    }
}

fn put<'a>(body: &'a str, known: &mut Known<'a>, broken: &mut Vec<String>) {
    let event: Value = serde_json::from_str(body).unwrap();
    let id = event["id"].as_str().unwrap_or_default();
    let Some((id, bodies)) = known.committed.get_key_value(id) else {
        return broken.push(format!("published before it was committed: {body}"));
    };
    if !bodies.contains(&body) {
        broken.push(format!("published otherwise than it was committed: {body}"));
    }
    if bodies.last() == Some(&body) {
        known.published.insert(id);
    }
}

/// `RowKey` of the record to which an event belongs.
fn record_of(event_id: &str) -> String {
    format!("record~{}", event_id.split('-').next().unwrap_or_default())
}

/// There is a record behind every answer, at the moment at which it is given.
fn check_end(end: &End, journal: &[Change], broken: &mut Vec<String>) {
    let row_key = end.message.key().record_row_key();
    let records = journal.iter().filter_map(|change| match &change.what {
        What::Inserted(row) | What::Overwritten(row) if row["RowKey"] == *row_key => Some(text(row, "receipt")),
        _ => None,
    });
    let is_kept = match &end.verdict {
        Verdict::Answered(receipt) => {
            end.message.is_receipt(receipt) && records.clone().any(|record| record == receipt)
        }
        Verdict::Quarantined(_) => {
            end.verdict.is_conflict() && records.clone().any(|record| !end.message.is_receipt(record))
        }
    };
    if !is_kept {
        broken.push(format!("{end:?} with these records: {:?}", records.collect::<Vec<_>>()));
    }
}

/// Where no record expires, every order takes effect once, and all of its copies are answered alike.
fn check_receipts(world: &World, storage: &Storage, broken: &mut Vec<String>) {
    let orders: BTreeSet<u8> = world.messages.iter().map(|queued| queued.message.order).collect();
    for order in orders {
        let key: Key = Message { order, amount: 0, spelling: 0 }.key();
        let record = storage.table.iter().flatten().find(|((_, row_key), _)| *row_key == key.record_row_key());
        let Some((_, record)) = record else {
            broken.push(format!("order-{order} is not committed"));
            continue;
        };
        let receipt = text(record, "receipt");
        let inserts = storage.journal.iter().filter(|change| is_insert(&change.what, &key)).count();
        if inserts != 1 {
            broken.push(format!("order-{order} took effect {inserts} times"));
        }
        for end in world.ends.iter().filter(|end| end.message.order == order) {
            let fits = end.message.is_receipt(receipt);
            if fits != (end.verdict == Verdict::Answered(receipt.to_owned())) || fits == end.verdict.is_conflict() {
                broken.push(format!("{end:?}, but the receipt is {receipt}"));
            }
        }
    }
}

fn is_insert(what: &What, key: &Key) -> bool {
    matches!(what, What::Inserted(row) | What::Overwritten(row) if row["RowKey"] == *key.record_row_key())
}

/// Without faults every delivery makes these requests and no others, creating things apart.
pub(crate) fn check_budget(world: &World, broken: &mut Vec<String>) {
    const NEW: &[&str] = &["batch", "put", "delete"];
    const REPEATED: [&[&str]; 2] = [&["batch", "get"], &["batch", "get", "query"]];
    let state = world.network.state();
    let mut commits = BTreeMap::<u8, u32>::new();
    for end in &world.ends {
        let calls = state.answered.iter().filter(|answered| answered.task == end.task);
        // Table and queue are created by the request that misses them, which is made again.
        let calls: Vec<_> = calls.filter(|answered| answered.call != "create" && answered.status != 404).collect();
        let kinds: Vec<_> = calls.iter().map(|answered| answered.call).collect();
        let is_new = calls.first().is_some_and(|first| first.status < 300);
        *commits.entry(end.message.order).or_default() += u32::from(is_new);
        if is_new && kinds != NEW || !is_new && !REPEATED.contains(&&kinds[..]) {
            broken.push(format!("{end:?} cost {kinds:?}"));
        }
    }
    if commits.values().any(|count| *count != 1) {
        broken.push(format!("commits of each order: {commits:?}"));
    }
}
