//! The commit protocol, step by step: what is asked of the service after each answer, and what is concluded.

use crate::{
    azure,
    scripted::{Script, Step},
};
use futures::StreamExt;
use handler::{
    attempt::Attempt,
    functions::queue_with_idempotency,
    idempotency::{
        Fingerprint, Key, Ledger, Operation, Outcome,
        ledger::{Error, OutboxEntry},
    },
    json::Object,
    quarantine::QueueMessage,
};
use std::{sync::Arc, time::Duration};
use time::macros::datetime;
use tokio::time::Instant;

pub(crate) fn attempt() -> Attempt {
    attempt_until(Instant::now() + Duration::from_secs(290))
}

pub(crate) fn attempt_until(deadline: Instant) -> Attempt {
    let now = datetime!(2026-11-21 10:20:00 UTC);
    Attempt::new("5b0c1f4e".to_owned(), now, deadline, 1)
}

pub(crate) fn ledger(script: &Arc<Script>) -> Ledger {
    Ledger::new(script.table(), time::Duration::days(30), true)
}

fn operation(content: &str, events: &[&str]) -> Operation {
    Operation {
        key: Key::new("orders", "order-123"),
        commit_id: attempt().commit_id,
        invocation: attempt().invocation_id,
        traceparent: None,
        fingerprint: Fingerprint::new(&Object::parse(content).unwrap(), &["id"]),
        receipt: "my receipt".to_owned(),
        events: events.iter().map(|body| (*body).to_owned()).collect(),
    }
}

async fn commit_content(script: &Arc<Script>, content: &str) -> Result<Outcome, Error> {
    ledger(script).commit(&mut operation(content, &[]), &attempt()).await
}

/// Commits an operation with two events.
async fn commit_with_events(script: &Arc<Script>) -> Result<Outcome, Error> {
    ledger(script).commit(&mut operation(SAME, &["first", "second"]), &attempt()).await
}

async fn commit(script: &Arc<Script>) -> Result<Outcome, Error> {
    commit_content(script, r#"{"id":"order-123","amount":42}"#).await
}

/// The answer to an operation without events: record and index row.
fn committed() -> Step {
    azure::batch(&[azure::inserted(), azure::inserted()]).into()
}

fn exists() -> Step {
    azure::batch(&[azure::refused_operation("409 Conflict", 0, "EntityAlreadyExists")]).into()
}

fn no_table() -> Step {
    azure::batch(&[azure::refused_operation("404 Not Found", 0, "TableNotFound")]).into()
}

fn absent() -> Step {
    azure::refused(404, "ResourceNotFound").into()
}

pub(crate) fn throttled() -> Step {
    azure::refused(503, "ServerBusy").into()
}

fn table_created() -> Step {
    azure::entity(&serde_json::json!({
        "odata.type": "shop.Tables",
        "odata.id": "https://shop.table.core.windows.net/Tables('idempotency')",
        "odata.editLink": "Tables('idempotency')",
        "TableName": "idempotency",
    }))
    .into()
}

fn stored(content: &str, commit_id: &str, schema: i32) -> Step {
    azure::entity(&record(content, commit_id, schema)).into()
}

fn record(content: &str, commit_id: &str, schema: i32) -> serde_json::Value {
    let fingerprint = Fingerprint::new(&Object::parse(content).unwrap(), &["id"]);
    serde_json::json!({
        "schema": schema, "fingerprint": fingerprint.as_str(), "receipt": "first receipt", "commit_id": commit_id,
        "committed_at": "2026-11-21T10:19:00.1234567Z", "invocation": "first invocation", "events": 0,
    })
}

fn duplicate() -> Outcome {
    Outcome::Duplicate {
        receipt: "first receipt".to_owned(),
        committed_at: datetime!(2026-11-21 10:19:00.1234567 UTC),
        invocation: "first invocation".to_owned(),
        events: 0,
    }
}

/// The commit ids that were sent.
fn commit_ids(script: &Script) -> Vec<String> {
    let batches = script.received().into_iter().filter(|request| request.url.ends_with("$batch"));
    batches.map(|batch| batch.entities()[0]["commit_id"].as_str().unwrap().to_owned()).collect()
}

const SAME: &str = r#"{"amount":42.0,"id":"order-123"}"#;
const OTHER: &str = r#"{"id":"order-123","amount":43}"#;

#[tokio::test(start_paused = true)]
async fn a_new_operation_costs_one_request() {
    let script = Script::new([committed()]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    assert_eq!(script.kinds(), ["batch"]);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_costs_two_requests_and_gets_the_first_receipt() {
    let script = Script::new([exists(), stored(SAME, "another attempt", 1)]);
    assert_eq!(commit(&script).await.unwrap(), duplicate());
    assert_eq!(script.kinds(), ["batch", "get"]);
}

#[tokio::test(start_paused = true)]
async fn other_content_under_the_same_id_is_a_conflict() {
    let script = Script::new([exists(), stored(OTHER, "another attempt", 1)]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_looked_at_and_the_own_write_recognised() {
    let script = Script::new([Step::Lost, Step::LastInserted]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    assert_eq!(script.kinds(), ["batch", "get"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_a_write_that_was_not_applied_leads_to_another_insert() {
    let script = Script::new([Step::Lost, absent(), committed()]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    assert_eq!(script.kinds(), ["batch", "get", "batch"]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_says_nothing_about_the_record() {
    let script = Script::new([exists(), throttled(), exists(), stored(SAME, "another attempt", 1)]);
    assert_eq!(commit(&script).await.unwrap(), duplicate());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_failed_and_asked_for_time_is_given_it() {
    let start = Instant::now();
    let failed = azure::refused(500, "InternalError").header("retry-after", "3");
    let script = Script::new([failed.into(), absent(), committed()]);
    commit(&script).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_applied_late_is_recognised_by_its_commit_id() {
    let script = Script::new([Step::Lost, absent(), exists(), Step::LastInserted]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    let ids: Vec<_> = commit_ids(&script);
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "one commit id for all requests of one commit");
}

#[tokio::test(start_paused = true)]
async fn a_reply_lost_to_another_workers_commit_is_a_duplicate() {
    let script = Script::new([Step::Lost, stored(SAME, "another attempt", 1)]);
    assert_eq!(commit(&script).await.unwrap(), duplicate());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_say_what_happened_is_looked_at() {
    let empty_202 = azure::batch(&[]);
    for unclear in [empty_202, azure::refused(500, "OperationTimedOut"), azure::refused(504, "")] {
        let script = Script::new([unclear.into(), Step::LastInserted]);
        assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_applied_is_repeated_without_looking() {
    for refused in [Step::NotSent, throttled(), azure::refused(429, "").into()] {
        let script = Script::new([refused, committed()]);
        assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
        assert_eq!(script.kinds(), ["batch", "batch"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_is_created_once_and_the_insert_repeated_at_once() {
    let start = Instant::now();
    let script = Script::new([no_table(), table_created(), committed()]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
    assert_eq!(script.kinds(), ["batch", "create table", "batch"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_another_worker_created_meanwhile_is_used() {
    let script = Script::new([no_table(), azure::refused(409, "TableAlreadyExists").into(), committed()]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_record_purged_between_refusal_and_look_leads_to_another_insert() {
    let script = Script::new([exists(), absent(), committed()]);
    assert_eq!(commit(&script).await.unwrap(), Outcome::Committed(vec![]));
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_bounded_and_end_in_a_failure() {
    for step in [Step::NotSent, throttled(), Step::Answer(azure::refused(500, "InternalError"))] {
        let script = Script::new(std::iter::repeat_n(step, 100));
        assert!(matches!(commit(&script).await, Err(Error::Storage(_))));
        assert!((3..=6).contains(&script.kinds().len()), "{}", script.kinds().len());
    }
    let flicker = [exists(), absent()].into_iter().cycle().take(100);
    let script = Script::new(flicker);
    assert!(matches!(commit(&script).await, Err(Error::Storage(error)) if error.is_conflict()));
    assert_eq!(script.kinds().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_pass_is_not_repeated() {
    for refused in [azure::refused(403, "AuthenticationFailed"), azure::refused(400, "PropertyValueTooLarge")] {
        let script = Script::new([refused.into()]);
        assert!(matches!(commit(&script).await, Err(Error::Storage(error)) if !error.is_transient()));
        assert_eq!(script.kinds(), ["batch"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_more_time_than_there_is_ends_the_attempt_at_once() {
    let start = Instant::now();
    let script = Script::new([azure::refused(503, "ServerBusy").header("retry-after", "600").into()]);
    assert!(commit(&script).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_later_version_stops_the_attempt_whatever_it_looks_like() {
    let reshaped = azure::entity(&serde_json::json!({ "schema": 2, "receipt_blob": "https://shop.example" }));
    let script = Script::new([exists(), reshaped.into()]);
    assert!(matches!(commit(&script).await, Err(Error::UnknownSchema(2))));
    let script = Script::new([exists(), stored(SAME, "another attempt", 2)]);
    assert!(matches!(commit(&script).await, Err(Error::UnknownSchema(2))));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_not_taken_for_an_absent_one() {
    let unreadable = || azure::entity(&serde_json::json!({ "receipt": "no version" })).into();
    let steps = [exists(), unreadable()].into_iter().cycle().take(100);
    let script = Script::new(steps);
    assert!(commit(&script).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_record_says_when_it_expires() {
    let script = Script::new([committed()]);
    commit(&script).await.unwrap();
    let record = &script.received()[0].entities()[0];
    assert_eq!(record["committed_at"], "2026-11-21T10:20:00.0000000Z");
    assert_eq!(record["expires_at"], "2026-12-21T10:20:00.0000000Z");
    assert_eq!(record["receipt"], "my receipt");
    assert_eq!(record["commit_id"], "00000000000000000000000000000001");
    let hash = record["RowKey"].as_str().unwrap().replace("record~", "");
    let index = &script.received()[0].entities()[1];
    assert_eq!(index["RowKey"], format!("expiry~001797848400~{hash}~00000000000000000000000000000001"));
}

#[tokio::test(start_paused = true)]
async fn the_record_names_the_invocation_that_committed_it_and_its_trace_if_it_has_one() {
    for traceparent in [None, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())] {
        let script = Script::new([committed()]);
        let mut operation = Operation { traceparent: traceparent.clone(), ..operation(SAME, &[]) };
        ledger(&script).commit(&mut operation, &attempt()).await.unwrap();
        let record = &script.received()[0].entities()[0];
        assert_eq!(record["invocation"], "5b0c1f4e");
        assert_eq!(record.get("traceparent").and_then(|value| value.as_str()), traceparent.as_deref());
    }
}

#[tokio::test(start_paused = true)]
async fn times_are_read_when_the_commit_is_sent() {
    let script = Script::new([committed()]);
    let attempt = attempt();
    tokio::time::advance(Duration::from_secs(60)).await;
    ledger(&script).commit(&mut operation(SAME, &[]), &attempt).await.unwrap();
    assert_eq!(script.received()[0].entities()[0]["committed_at"], "2026-11-21T10:21:00.0000000Z");
}

/// A page with others behind it.
fn more(page: Step) -> Step {
    match page {
        Step::Answer(answer) => Step::Answer(answer.header("x-ms-continuation-nextpartitionkey", "1!8!YnVja2V0")),
        step => step,
    }
}

/// A page of the outbox.
fn events(bodies: &[&str]) -> Step {
    let row = |body: &&str| {
        serde_json::json!({
            "PartitionKey": "bucket~00", "RowKey": format!("outbox~0~{body}"), "odata.etag": format!("W/\"{body}\""), "body": body, "schema": 1,
        })
    };
    azure::entity(&serde_json::json!({ "value": bodies.iter().map(row).collect::<Vec<_>>() })).into()
}

fn bodies(entries: &[OutboxEntry]) -> Vec<&str> {
    entries.iter().map(|event| event.body.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_inserted_behind_their_record_and_answered_as_they_were_inserted() {
    let script =
        Script::new([
            azure::batch(&[azure::inserted(), azure::inserted(), azure::inserted(), azure::inserted()]).into()
        ]);
    let Outcome::Committed(pending) = commit_with_events(&script).await.unwrap() else { panic!() };
    let rows = script.received()[0].entities();
    let keys: Vec<_> = rows.iter().map(|row| row["RowKey"].as_str().unwrap().split('~').next().unwrap()).collect();
    assert_eq!((keys, &rows[0]["events"]), (vec!["record", "expiry", "outbox", "outbox"], &2.into()));
    assert_eq!(bodies(&pending), ["first", "second"]);
    for (event, row) in pending.iter().zip(&rows[2..]) {
        assert_eq!(
            (event.tag.row_key.as_str(), event.body.as_str()),
            (row["RowKey"].as_str().unwrap(), row["body"].as_str().unwrap())
        );
        assert!(event.tag.etag.starts_with("W/"), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_commit_whose_reply_was_lost_are_read_back() {
    let script = Script::new([Step::Lost, Step::LastInserted, events(&["first", "second"])]);
    let Outcome::Committed(pending) = commit_with_events(&script).await.unwrap() else { panic!() };
    assert_eq!((script.kinds(), bodies(&pending)), (vec!["batch", "get", "query"], vec!["first", "second"]));
}

#[tokio::test(start_paused = true)]
async fn the_events_are_read_back_however_the_service_spreads_them_over_pages() {
    let pages = [more(events(&[])), more(events(&["first"])), events(&["second"])];
    let script = Script::new([Step::Lost, Step::LastInserted].into_iter().chain(pages));
    let Outcome::Committed(pending) = commit_with_events(&script).await.unwrap() else { panic!() };
    assert_eq!(bodies(&pending), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn the_events_are_read_back_when_the_answer_has_no_etags() {
    let bare = || "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
    let script = Script::new([azure::batch(&[bare(), bare(), bare(), bare()]).into(), events(&["first"])]);
    let Outcome::Committed(pending) = commit_with_events(&script).await.unwrap() else { panic!() };
    assert_eq!(bodies(&pending), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_stands_even_when_its_events_cannot_be_read_back() {
    let script = Script::new([Step::Lost, Step::LastInserted, Step::NotSent]);
    assert_eq!(commit_with_events(&script).await.unwrap(), Outcome::Committed(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_looks_for_events_left_behind_and_another_duplicate_does_not() {
    for (dequeue_count, events, looks) in
        [(Some(1), 1, false), (Some(2), 1, true), (Some(2), 0, false), (None, 1, false)]
    {
        let mut record = record(SAME, "another attempt", 1);
        record["events"] = events.into();
        let mut steps = vec![exists(), azure::entity(&record).into()];
        steps.extend(looks.then(|| self::events(&["left behind"])));
        let script = Script::new(steps);
        let (app, message) = (script.app(), QueueMessage { text: SAME.to_owned(), dequeue_count, inserted: None });
        assert!(queue_with_idempotency::run(&app, &message, &attempt()).await.is_ok());
        assert_eq!((script.kinds().len(), app.publisher.is_idle()), (2 + usize::from(looks), !looks));
    }
}

#[tokio::test(start_paused = true)]
async fn a_published_event_that_somebody_else_took_out_already_does_not_keep_the_others_in() {
    let gone = azure::batch(&[azure::refused_operation("404 Not Found", 1, "ResourceNotFound")]);
    let deleted = azure::entity(&serde_json::json!({}));
    let script = Script::new([
        events(&["first", "second"]),
        gone.into(),
        deleted.into(),
        azure::refused(404, "ResourceNotFound").into(),
    ]);
    let ledger = ledger(&script);
    let entries = ledger.unpublished_events(0, attempt().began).next().await.unwrap().unwrap();
    ledger
        .delete_published(&entries[0].partition_key, &entries.iter().map(|entry| &entry.tag).collect::<Vec<_>>())
        .await
        .unwrap();
    assert_eq!(script.kinds(), ["query", "batch", "delete", "delete"]);
    assert!(script.received()[0].url.contains("2026-11-21T10%3A18%3A00"), "older than the grace period");
}

pub(crate) fn page(rows: &[&str]) -> Step {
    let row = |row: &&str| serde_json::json!({ "RowKey": row, "odata.etag": format!("W/\"{row}\""), "schema": 1 });
    azure::entity(&serde_json::json!({ "value": rows.iter().map(row).collect::<Vec<_>>() })).into()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_may_not_be_read_is_not_taken_for_an_absent_one() {
    let script = Script::new([exists(), azure::refused(403, "AuthorizationFailure").into()]);
    assert!(matches!(commit(&script).await, Err(Error::Storage(error)) if !error.is_transient()));
    assert_eq!(script.kinds(), ["batch", "get"]);
}

/// Real Azure lists null for a property that a row does not have.
#[tokio::test(start_paused = true)]
async fn a_row_of_a_later_version_does_not_hide_the_others_of_its_page() {
    let row = |n: i32, schema: i32, body: Option<&str>| {
        serde_json::json!({
            "PartitionKey": "bucket~00", "RowKey": format!("outbox~0~{n}"), "odata.etag": "W/\"1\"", "schema": schema, "body": body,
        })
    };
    let page = serde_json::json!({ "value": [row(0, 2, None), row(1, 1, Some("mine"))] });
    let script = Script::new([azure::entity(&page).into()]);
    let ledger = ledger(&script);
    let pending = ledger.unpublished_events(0, attempt().began).next().await.unwrap().unwrap();
    assert_eq!((bodies(&pending), pending[0].schema), (vec!["", "mine"], 2));
}
