//! The promises, checked against the journal of everything that changed and against every answer that was given.

use super::{
    host::{End, Place},
    journal::{self, text},
    plan::{Message, Verdict},
    storage::{Change, Storage, What},
    world::World,
};
use handler::idempotency::Key;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn check(world: &World, broken: &mut Vec<String>) {
    let state = world.network.state();
    let journal = &state.storage.journal;
    broken.extend(world.broken.iter().cloned());
    journal::check(journal, broken);
    for end in &world.ends {
        check_end(end, &journal[..end.journal], broken);
    }
    if !world.plan.is_long() {
        check_receipts(world, &state.storage, broken);
    }
    for (index, queued) in world.messages.iter().enumerate() {
        if queued.place != Place::Gone || !world.ends.iter().any(|end| end.message == queued.message) {
            broken.push(format!("never answered: message {index}, {queued:?}"));
        }
    }
}

/// There is a record behind every answer, at the moment at which it is given.
pub(crate) fn check_end(end: &End, journal: &[Change], broken: &mut Vec<String>) {
    let row_key = end.message.key().record_row_key();
    let records = journal.iter().filter_map(|change| match &change.what {
        What::Inserted(row) | What::Overwritten(row) if row["RowKey"] == *row_key => Some(text(row, "receipt")),
        _ => None,
    });
    let is_kept = match &end.verdict {
        Verdict::Answered(receipt) => records.clone().any(|record| record == receipt),
        Verdict::Quarantined(_) => {
            end.verdict.is_conflict() && records.clone().any(|record| !end.message.is_receipt(record))
        }
    };
    if !is_kept {
        broken.push(format!("answered without its record: {end:?}, {:?}", records.collect::<Vec<_>>()));
    }
    if matches!(&end.verdict, Verdict::Answered(receipt) if !end.message.is_receipt(receipt)) {
        broken.push(format!("answered with the receipt of something else: {end:?}"));
    }
}

/// Where no record expires, every order takes effect once, and all of its copies are answered alike.
fn check_receipts(world: &World, storage: &Storage, broken: &mut Vec<String>) {
    let orders: BTreeSet<u8> = world.messages.iter().map(|queued| queued.message.order).collect();
    for order in orders {
        let key: Key = Message { order, amount: 0, spelling: 0, events: 0 }.key();
        let record = storage.table.iter().flatten().find(|((_, row_key), _)| *row_key == key.record_row_key());
        let Some((_, record)) = record else {
            broken.push(format!("not committed: order-{order}"));
            continue;
        };
        let receipt = text(record, "receipt");
        let inserts = storage.journal.iter().filter(|change| is_insert(&change.what, &key)).count();
        if inserts != 1 {
            broken.push(format!("took effect {inserts} times: order-{order}"));
        }
        for end in world.ends.iter().filter(|end| end.message.order == order) {
            let fits = end.message.is_receipt(receipt);
            if fits != (end.verdict == Verdict::Answered(receipt.to_owned())) || fits == end.verdict.is_conflict() {
                broken.push(format!("copies are answered differently: {end:?}, but the receipt is {receipt}"));
            }
        }
    }
}

fn is_insert(what: &What, key: &Key) -> bool {
    matches!(what, What::Inserted(row) | What::Overwritten(row) if row["RowKey"] == *key.record_row_key())
}

/// Without faults every delivery makes these requests and no others, creating things apart.
pub(crate) fn check_budget(world: &World, broken: &mut Vec<String>) {
    let state = world.network.state();
    let mut commits = BTreeMap::<u8, u32>::new();
    for end in &world.ends {
        let calls = state.answered.iter().filter(|answered| answered.task == end.task);
        // Table and queue are created by the request that misses them, which is made again.
        let calls: Vec<_> = calls.filter(|answered| answered.call != "create" && answered.status != 404).collect();
        let kinds: Vec<_> = calls.iter().map(|answered| answered.call).collect();
        let is_new = calls.first().is_some_and(|first| first.status < 300);
        *commits.entry(end.message.order).or_default() += u32::from(is_new);
        if is_new && kinds != of_new(end.message.events) || !is_new && !OF_REPEATED.contains(&&kinds[..]) {
            broken.push(format!("cost {kinds:?}: {end:?}"));
        }
    }
    if commits.values().any(|count| *count != 1) {
        broken.push(format!("commits of each order: {commits:?}"));
    }
}

/// The requests of a repeated delivery: a young one looks for events left behind.
const OF_REPEATED: [&[&str]; 2] = [&["batch", "get"], &["batch", "get", "query"]];

/// The requests of the first delivery of an order with so many events.
fn of_new(events: u8) -> Vec<&'static str> {
    let forgotten = match events {
        0 => None,
        1 => Some("delete"),
        _ => Some("batch"),
    };
    std::iter::once("batch").chain((0..events).map(|_| "put")).chain(forgotten).collect()
}
