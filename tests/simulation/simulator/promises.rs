//! The promises, checked on the journal of all changes and on every answer.

use super::{
    host::{GivenAnswer, Location},
    invocation::Begin,
    journal::{self, is_record, text},
    plan::{Answer, MARGIN, Message, RETENTION},
    storage::{Change, Storage, What},
    world::World,
};
use handler::idempotency::{
    Key,
    key::{bucket_to_purge, partition_key},
    ledger::PUBLISH_GRACE,
    record::edm_date_time,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Checks a history at its end.
pub(crate) fn check(world: &World, violations: &mut Vec<String>) {
    let state = world.network.state();
    let journal = &state.storage.journal;
    violations.extend(world.violations.iter().cloned());
    journal::check(journal, violations);
    for given in &world.answers {
        check_answer(given, &journal[..given.journal], violations);
    }
    if !world.plan.has_expiry() {
        check_effects(world, &state.storage, violations);
    }
    for (index, queued) in world.messages.iter().enumerate() {
        let is_answered = world.answers.iter().any(|given| given.message == queued.message);
        if queued.location != Location::Deleted || !is_answered {
            violations.push(format!("never answered: message {index}, {queued:?}"));
        }
    }
    drop(state);
    if world.plan.is_fault_free() {
        check_requests(world, violations);
    }
}

/// Checks that the record of an answer is stored when the answer is given.
pub(crate) fn check_answer(given: &GivenAnswer, journal: &[Change], violations: &mut Vec<String>) {
    let GivenAnswer { message, answer, .. } = given;
    let key = message.key();
    let receipts: Vec<_> = journal.iter().filter_map(|change| receipt_in(&change.what, &key)).collect();
    let is_recorded = match answer {
        Answer::Receipt(receipt) => receipts.contains(&receipt.as_str()),
        Answer::Quarantined(_) => answer.is_conflict() && receipts.iter().any(|receipt| !message.is_receipt(receipt)),
    };
    if !is_recorded {
        violations.push(format!("answered without its record: {given:?}, {receipts:?}"));
    }
    if matches!(answer, Answer::Receipt(receipt) if !message.is_receipt(receipt)) {
        violations.push(format!("answered with the receipt of something else: {given:?}"));
    }
}

/// Returns the receipt that a change writes for the operation `key`.
fn receipt_in<'a>(what: &'a What, key: &Key) -> Option<&'a str> {
    match what {
        What::Inserted(row) | What::Overwritten(row) if row["RowKey"] == *key.record_row_key() => {
            Some(text(row, "receipt"))
        }
        _ => None,
    }
}

/// Checks, where no record expires, that every order takes effect once and all of its copies are answered alike.
fn check_effects(world: &World, storage: &Storage, violations: &mut Vec<String>) {
    let orders: BTreeSet<u8> = world.messages.iter().map(|queued| queued.message.order).collect();
    for order in orders {
        let key = Message { order, amount: 0, spelling: 0, events: 0 }.key();
        let record = storage.table.iter().flatten().find(|((_, row_key), _)| *row_key == key.record_row_key());
        let Some((_, record)) = record else {
            violations.push(format!("not committed: order-{order}"));
            continue;
        };
        let receipt = text(record, "receipt");
        let effects = storage.journal.iter().filter(|change| receipt_in(&change.what, &key).is_some()).count();
        if effects != 1 {
            violations.push(format!("took effect {effects} times: order-{order}"));
        }
        for given in world.answers.iter().filter(|given| given.message.order == order) {
            let (is_same, answer) = (given.message.is_receipt(receipt), &given.answer);
            if is_same != (*answer == Answer::Receipt(receipt.to_owned())) || is_same == answer.is_conflict() {
                violations.push(format!("copies are answered differently: {given:?}, but the receipt is {receipt}"));
            }
        }
    }
}

/// Checks, where there are no faults, that every delivery makes the expected requests and no others, creating aside.
fn check_requests(world: &World, violations: &mut Vec<String>) {
    let state = world.network.state();
    let mut commits = BTreeMap::<u8, u32>::new();
    for given in &world.answers {
        let requests = state.answered.iter().filter(|answered| answered.invocation == given.invocation);
        // Table and queue are created by the request that misses them, which is made again.
        let requests: Vec<_> =
            requests.filter(|answered| answered.verb != "create" && answered.status != 404).collect();
        let verbs: Vec<_> = requests.iter().map(|answered| answered.verb).collect();
        let is_new = requests.first().is_some_and(|first| first.status < 300);
        *commits.entry(given.message.order).or_default() += u32::from(is_new);
        let is_expected = match is_new {
            true => verbs == requests_of_first(given.message.events),
            false => verbs == ["batch", "get"] || verbs == ["batch", "get", "query"],
        };
        if !is_expected {
            violations.push(format!("cost {verbs:?}: {given:?}"));
        }
    }
    if commits.values().any(|count| *count != 1) {
        violations.push(format!("commits of each order: {commits:?}"));
    }
}

/// Returns the requests of the first delivery of an order with so many events.
fn requests_of_first(events: u8) -> Vec<&'static str> {
    let delete = match events {
        0 => None,
        1 => Some("delete"),
        _ => Some("batch"),
    };
    std::iter::once("batch").chain((0..events).map(|_| "put")).chain(delete).collect()
}

/// Checks that a timer tick that succeeded did what there was to do when it began.
pub(crate) fn check_tick(world: &mut World, invocation: usize) {
    let Begin { at, now, journal } = world.invocations[invocation].begin;
    let state = world.network.state();
    let before = &state.storage.journal[..journal];
    let (bucket, is_published) = (partition_key(bucket_to_purge(now)), edm_date_time(now - PUBLISH_GRACE));
    // The clock that committed may be behind, and the one that purges too.
    let kept: time::Duration = RETENTION + MARGIN + world.plan.skew * 2;
    let mut violations = Vec::new();
    for row in state.storage.table.iter().flat_map(|table| table.values()) {
        let Some(inserted) = inserted_at(before, text(row, "odata.etag")) else { continue };
        let row_key = text(row, "RowKey");
        if !is_record(row) && text(row, "created_at") < is_published.as_str() {
            violations.push(format!("left in the outbox by a tick that succeeded: {row_key}"));
        }
        if is_record(row) && text(row, "PartitionKey") == bucket && inserted + kept.unsigned_abs() < at {
            violations.push(format!("not purged by a tick that succeeded: {row_key}"));
        }
    }
    drop(state);
    world.violations.append(&mut violations);
}

/// Returns when the row with this `ETag` was inserted, if this journal has it.
fn inserted_at(journal: &[Change], etag: &str) -> Option<Duration> {
    let is_insert = |change: &&Change| matches!(&change.what, What::Inserted(row) if text(row, "odata.etag") == etag);
    journal.iter().rev().find(is_insert).map(|change| change.at)
}
