//! The promises, checked on the journal of all changes and on every answer.

use super::{
    domain::Message,
    invocation::{Answer, Begin, GivenAnswer, Trigger},
    journal::{self, Entry, is_event, is_record, text},
    network::State,
    plan::{MARGIN, RETENTION},
    queue::Location,
    world::World,
};
use handler::idempotency::{Key, ledger::PUBLISH_GRACE, record::edm_date_time};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use test_storage::{
    Kind::{self, Batch, Delete, GetEntity, PutMessage},
    emulated::{Change, Row},
};

/// Checks a history at its end.
pub(crate) fn check(world: &World, violations: &mut Vec<String>) {
    let state = world.network.state();
    let journal = &state.journal;
    violations.extend(world.violations.iter().cloned());
    journal::check(journal, violations);
    for given in &world.answers {
        check_answer(given, &journal[..given.journal], violations);
    }
    if !world.plan.has_expiry() {
        check_effects(world, &state, violations);
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
pub(crate) fn check_answer(given: &GivenAnswer, journal: &[Entry], violations: &mut Vec<String>) {
    let GivenAnswer { message, answer, .. } = given;
    let key = message.key();
    let receipts: Vec<_> = journal.iter().filter_map(|entry| receipt_in(&entry.change, &key)).collect();
    let is_recorded = match answer {
        Answer::Receipt(receipt) => receipts.contains(&receipt.as_str()),
        Answer::Quarantined(_) => {
            let is_kept = journal.iter().any(|entry| is_quarantined(&entry.change, *message));
            is_kept && answer.is_conflict() && receipts.iter().any(|receipt| !message.is_receipt(receipt))
        }
        Answer::GivenBack => true,
    };
    if !is_recorded {
        violations.push(format!("answered without its record: {given:?}, {receipts:?}"));
    }
    if matches!(answer, Answer::Receipt(receipt) if !message.is_receipt(receipt)) {
        violations.push(format!("answered with the receipt of something else: {given:?}"));
    }
}

/// Tells whether a change keeps this message in quarantine.
fn is_quarantined(change: &Change, message: Message) -> bool {
    let Change::Put { queue, text, .. } = change else { return false };
    let envelope: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    queue == "orders-quarantine" && envelope["message"] == message.text()
}

/// Returns the receipt that a change writes for the operation `key`.
fn receipt_in<'a>(change: &'a Change, key: &Key) -> Option<&'a str> {
    match change {
        Change::Inserted(row) | Change::Replaced(row) if row["RowKey"] == *key.record_row_key() => {
            Some(text(row, "receipt"))
        }
        _ => None,
    }
}

/// Checks, where no record expires, that every order takes effect once and all of its copies are answered alike.
fn check_effects(world: &World, state: &State, violations: &mut Vec<String>) {
    let orders: BTreeSet<u8> = world.messages.iter().map(|queued| queued.message.order).collect();
    for order in orders {
        let key = Message { order, amount: 0, spelling: 0, events: 0 }.key();
        let record = state.storage.entities().find(|((_, row_key), _)| *row_key == key.record_row_key());
        let Some((_, record)) = record else {
            violations.push(format!("not committed: order-{order}"));
            continue;
        };
        let receipt = text(&record.row, "receipt");
        let effects = state.journal.iter().filter(|entry| receipt_in(&entry.change, &key).is_some()).count();
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
            requests.filter(|answered| !is_create(answered.kind) && answered.status != 404).collect();
        let kinds: Vec<_> = requests.iter().map(|answered| answered.kind).collect();
        let is_new = requests.first().is_some_and(|first| first.status < 300);
        *commits.entry(given.message.order).or_default() += u32::from(is_new);
        let is_expected = match is_new {
            true => kinds == [Batch],
            false if given.answer.is_conflict() => kinds == [Batch, GetEntity, PutMessage],
            false => kinds == [Batch, GetEntity],
        };
        if !is_expected {
            violations.push(format!("cost {kinds:?}: {given:?}"));
        }
    }
    check_publishing(world, &state, violations);
    if commits.values().any(|count| *count != 1) {
        violations.push(format!("commits of each order: {commits:?}"));
    }
}

/// Checks that each event was put once, and that rows were deleted in no more requests than there are orders.
fn check_publishing(world: &World, state: &State, violations: &mut Vec<String>) {
    let is_publisher = |invocation: usize| world.invocations[invocation].trigger == Trigger::Publisher;
    let requests = state.answered.iter().filter(|answered| is_publisher(answered.invocation) && answered.status < 300);
    let kinds = requests.map(|answered| answered.kind).filter(|kind| !is_create(*kind));
    let (puts, others): (Vec<_>, Vec<_>) = kinds.partition(|kind| *kind == PutMessage);
    let committed = world.messages.iter().map(|queued| (queued.message.order, queued.message.events));
    let committed: Vec<_> = BTreeMap::from_iter(committed).into_values().filter(|events| *events > 0).collect();
    let events: usize = committed.iter().map(|events| usize::from(*events)).sum();
    let is_deletion = |kind: &Kind| matches!(kind, Batch | Delete);
    if puts.len() != events || others.len() > committed.len() || !others.iter().all(is_deletion) {
        violations.push(format!("published {events} events by {} puts and {others:?}", puts.len()));
    }
}

const fn is_create(kind: Kind) -> bool {
    matches!(kind, Kind::CreateTable | Kind::CreateQueue)
}

/// Checks that a timer tick that succeeded did what there was to do when it began.
pub(crate) fn check_tick(world: &mut World, invocation: usize) {
    let Begin { at, now, journal } = world.invocations[invocation].begin;
    let state = world.network.state();
    let before = &state.journal[..journal];
    let is_published = edm_date_time(now - PUBLISH_GRACE);
    // The clock that committed may be behind, and the one that purges too. An index row counts in whole seconds.
    let kept: time::Duration = RETENTION + MARGIN + world.plan.skew * 2 + time::Duration::SECOND;
    let mut violations = Vec::new();
    for row in state.storage.entities().map(|(_, entity)| &*entity.row) {
        let Some(inserted) = inserted_at(before, row) else { continue };
        let row_key = text(row, "RowKey");
        if is_event(row) && text(row, "created_at") < is_published.as_str() {
            violations.push(format!("left in the outbox by a tick that succeeded: {row_key}"));
        }
        if is_record(row) && inserted + kept.unsigned_abs() < at {
            violations.push(format!("not purged by a tick that succeeded: {row_key}"));
        }
    }
    drop(state);
    world.violations.append(&mut violations);
}

/// Returns when this row was inserted, if this journal has it.
fn inserted_at(journal: &[Entry], row: &Row) -> Option<Duration> {
    let is_insert = |entry: &&Entry| matches!(&entry.change, Change::Inserted(inserted) if **inserted == *row);
    journal.iter().rev().find(is_insert).map(|entry| entry.at)
}
