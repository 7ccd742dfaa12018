//! Mistakes that a maintainer could make in the protocol, and what notices each.

/// One mistake.
#[derive(Debug)]
pub struct Mutation {
    /// What is done wrong.
    pub name: &'static str,
    /// Where, below `src/`.
    pub file: &'static str,
    /// An expression that stands there once.
    pub original: &'static str,
    /// What is evaluated in its place.
    pub mutant: &'static str,
    /// The first evidence against it that was found.
    pub killed_by: Killer,
}

/// What shows that a mutation breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killer {
    /// The history of this seed.
    Seed(u64),
    /// These choices in the exploration of this name.
    Choices(&'static str, &'static [u8]),
    /// The keys that are fixed for ever.
    Keys,
    /// Nothing yet: `cargo test --package mutants -- --ignored --nocapture` searches.
    Unknown,
}

use Killer::{Choices, Keys, Seed};

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "a 409 is taken as done",
        file: "idempotency/ledger.rs",
        original: "self.insert(operation.key, &rows).await",
        mutant: "self.insert(operation.key, &rows).await.or_else(|error| if error.is_conflict() { Ok(Vec::new()) } else { Err(error) })",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "a time-out is taken as done",
        file: "functions/queue_with_idempotency.rs",
        original: "ledger.commit(&operation, attempt).await?",
        mutant: "match ledger.commit(&operation, attempt).await { Err(crate::idempotency::ledger::Error::Storage(error)) if error.may_be_applied() => Outcome::Committed(Vec::new()), outcome => outcome? }",
        killed_by: Seed(5),
    },
    Mutation {
        name: "a lost reply to the commit is taken as done",
        file: "idempotency/ledger.rs",
        original: "self.look(operation, &commit_id).await?",
        mutant: "if error.may_be_applied() { Verdict::Committed } else { self.look(operation, &commit_id).await? }",
        killed_by: Choices("two deliveries, two faults", &[0, 3]),
    },
    Mutation {
        name: "no record found is taken as done",
        file: "idempotency/ledger.rs",
        original: "verdict(stored, commit_id, operation.fingerprint)",
        mutant: "if stored.is_none() { Verdict::Committed } else { verdict(stored, commit_id, operation.fingerprint) }",
        killed_by: Choices("two deliveries, two faults", &[0, 3]),
    },
    Mutation {
        name: "the commit id is not recognised",
        file: "idempotency/verdict.rs",
        original: "record.commit_id == commit_id",
        mutant: "false",
        killed_by: Choices("two deliveries, two faults", &[0, 0, 0, 4]),
    },
    Mutation {
        name: "every commit id is one's own",
        file: "idempotency/ledger.rs",
        original: "format!(\"{:032x}\", random.u128(..))",
        mutant: "String::from(\"0\")",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the fingerprint is not compared",
        file: "idempotency/verdict.rs",
        original: "record.fingerprint != fingerprint.as_str()",
        mutant: "false",
        killed_by: Choices("two orders under one id, a fault and a crash", &[]),
    },
    Mutation {
        name: "the fingerprint is not compared after a lost reply",
        file: "idempotency/ledger.rs",
        original: "self.conclude(operation, verdict, (error, attempt.now)).await",
        mutant: "match verdict { Verdict::Conflict if error.may_be_applied() => Ok(Outcome::Committed(Vec::new())), verdict => self.conclude(operation, verdict, (error, attempt.now)).await }",
        killed_by: Choices("two orders under one id, a fault and a crash", &[0, 0, 1, 4]),
    },
    Mutation {
        name: "the fingerprint is of the text as it was sent",
        file: "idempotency/key.rs",
        original: "object.canonical_without(id)",
        mutant: "object.text().to_owned()",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the record is not the first row of the transaction",
        file: "idempotency/ledger.rs",
        original: "std::iter::once(record).chain(events.iter().enumerate().map(event)).collect()",
        mutant: "events.iter().enumerate().map(event).chain(std::iter::once(record)).collect()",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "record and events are two transactions",
        file: "storage/table.rs",
        original: "transaction.into_future().await?.operation_responses",
        mutant: "{ let mut responses = Vec::new(); for entity in entities { let one = self.client.partition_key_client(partition_key).transaction().insert(entity)?; responses.extend(one.into_future().await?.operation_responses); } responses }",
        killed_by: Choices("two deliveries, two faults", &[0, 0, 0, 4]),
    },
    Mutation {
        name: "the record is upserted",
        file: "storage/table.rs",
        original: "transaction.insert(entity)?",
        mutant: "transaction.insert_or_replace(serde_json::to_value(entity).unwrap()[\"RowKey\"].as_str().unwrap(), entity)?",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the answer to a transaction is not looked into",
        file: "storage/transport.rs",
        original: "batch::check_answer(content_type, &body, batch::count_operations(sent))?",
        mutant: "()",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "a duplicate is answered with its own receipt",
        file: "functions/queue_with_idempotency.rs",
        original: "Ok(receipt)",
        mutant: "Ok(decision.receipt)",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "a conflict is answered as a duplicate",
        file: "functions/queue_with_idempotency.rs",
        original: "Err(conflict(&order).into())",
        mutant: "Ok(decision.receipt)",
        killed_by: Choices("two orders under one id, a fault and a crash", &[]),
    },
    Mutation {
        name: "all orders have one key",
        file: "functions/queue_with_idempotency.rs",
        original: "Key::new(order::SCOPE, order.id.as_str())",
        mutant: "Key::new(order::SCOPE, \"order\")",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the parts of a key run together",
        file: "idempotency/key.rs",
        original: "sha.update((part.len() as u64).to_be_bytes())",
        mutant: "()",
        killed_by: Keys,
    },
    Mutation {
        name: "events are published before the commit",
        file: "functions/queue_with_idempotency.rs",
        original: "check_size(&decision.receipt, &bodies)",
        mutant: "{ for body in &bodies { let _ = events.put(body).await; } check_size(&decision.receipt, &bodies) }",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "an event has another id in every delivery",
        file: "outbox.rs",
        original: "key.event_id(index)",
        mutant: "format!(\"{:x}-{index}\", attempt.random.clone().u64(..))",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "an event is taken out of the outbox before it is put on the queue",
        file: "outbox.rs",
        original: "Vec::with_capacity(pending.len())",
        mutant: "{ let _ = ledger.published(&pending.iter().collect::<Vec<_>>()).await; Vec::new() }",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "an event counts as published although it could not be put on the queue",
        file: "outbox.rs",
        original: "put(queue, event, (attempt, stop)).await",
        mutant: "{ let _ = put(queue, event, (attempt, stop)).await; Ok::<_, ledger::Error>(()) }",
        killed_by: Seed(31),
    },
    Mutation {
        name: "events are never taken out of the outbox",
        file: "outbox.rs",
        original: "ledger.published(&published).await",
        mutant: "Ok(())",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the timer leaves the outbox alone",
        file: "functions/scheduled_with_retry.rs",
        original: "outbox::relay(ledger, events, attempt, Instant::now() + third).await",
        mutant: "outbox::Relayed::default()",
        killed_by: Choices("two deliveries, two faults", &[0, 0, 0, 4, 0, 2]),
    },
    Mutation {
        name: "rows are deleted whatever they are by now",
        file: "storage/table.rs",
        original: "IfMatchCondition::Etag(Etag::from(row.etag.clone()))",
        mutant: "IfMatchCondition::Any",
        killed_by: Choices("an expired record, two ticks at once, and the order once more", &[0, 1, 1, 1, 2, 2, 2, 1]),
    },
    Mutation {
        name: "the retention is ignored",
        file: "idempotency/ledger.rs",
        original: "edm_date_time(attempt.now - MARGIN)",
        mutant: "edm_date_time(attempt.now + self.retention)",
        killed_by: Seed(44),
    },
    Mutation {
        name: "records expire early",
        file: "idempotency/ledger.rs",
        original: "now.saturating_add(self.retention)",
        mutant: "now.saturating_add(self.retention / 2)",
        killed_by: Seed(71),
    },
    Mutation {
        name: "a record is purged while events of it may be left",
        file: "functions/scheduled_with_retry.rs",
        original: "relayed.unfinished.contains(&bucket_of_the_tick(attempt.now))",
        mutant: "false",
        killed_by: Seed(140),
    },
    Mutation {
        name: "an order is answered although it is not committed",
        file: "idempotency/ledger.rs",
        original: "Err(failed(error))",
        mutant: "Ok(Outcome::Committed(Vec::new()))",
        killed_by: Choices("two deliveries, two faults", &[0, 2]),
    },
    Mutation {
        name: "nothing is published after the commit",
        file: "outbox.rs",
        original: "put_and_forget(ledger, queue, pending, (attempt, stop)).await",
        mutant: "(0_usize, Ok::<(), ledger::Error>(()))",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "there is no time to publish after the commit",
        file: "outbox.rs",
        original: "Instant::now() + PUBLISH_TIME",
        mutant: "Instant::now()",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
    Mutation {
        name: "the timer looks into half of the buckets",
        file: "outbox.rs",
        original: "(first + step) % BUCKETS",
        mutant: "step / 2",
        killed_by: Seed(4),
    },
    Mutation {
        name: "a query of the outbox that failed is taken for an empty one",
        file: "outbox.rs",
        original: "!error.is_table_missing()",
        mutant: "false",
        killed_by: Seed(140),
    },
    Mutation {
        name: "requests to publish are not made",
        file: "outbox.rs",
        original: "request().await",
        mutant: "Ok::<(), storage::Error>(())",
        killed_by: Choices("two deliveries, two faults", &[]),
    },
];
