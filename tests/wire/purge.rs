//! The purge: which rows are read and deleted after each answer of the table.

use crate::{
    azure,
    ledger::{attempt, ledger, page, throttled},
    scripted::{Script, Step},
};
use handler::idempotency::{
    ledger::Error,
    purge::{Purged, purge},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const BUCKET: u8 = 7;

/// Purges one bucket.
async fn purge_one(script: &Arc<Script>) -> Purged {
    let others: Vec<u8> = (0..64).filter(|bucket| *bucket != BUCKET).collect();
    purge(&ledger(script), &attempt(), Instant::now() + Duration::from_secs(60), &others).await
}

/// An index row of the record `hash`, of the first life of that record.
fn index(hash: &str) -> String {
    format!("expiry~001761000000~{hash}~first")
}

fn index_rows(hashes: &[&str]) -> Step {
    let rows: Vec<_> = hashes.iter().map(|hash| index(hash)).collect();
    page(&rows.iter().map(String::as_str).collect::<Vec<_>>())
}

fn record(commit_id: &str, schema: i32) -> Step {
    azure::entity(&json!({ "odata.etag": "W/\"seen\"", "schema": schema, "commit_id": commit_id })).into()
}

fn absent() -> Step {
    azure::refused(404, "ResourceNotFound").into()
}

fn deleted(rows: usize) -> Step {
    match rows {
        1 => azure::entity(&json!({})).into(),
        _ => azure::batch(&vec![azure::inserted(); rows]).into(),
    }
}

#[tokio::test(start_paused = true)]
async fn records_and_index_rows_that_are_due_are_deleted_together_and_as_seen() {
    let script = Script::new([index_rows(&["a", "b"]), record("first", 1), record("first", 1), deleted(4)]);
    assert_eq!(purge_one(&script).await.records, 2);
    assert_eq!(script.kinds(), ["query", "get", "get", "batch"]);
    let received = script.received();
    let query = azure_core::Url::parse(&received[0].url).unwrap();
    let filter = query.query_pairs().find(|(name, _)| name == "$filter").unwrap().1.into_owned();
    // An hour earlier than the tick.
    assert_eq!(filter, "PartitionKey eq 'bucket~07' and RowKey ge 'expiry~' and RowKey lt 'expiry~001795252800~'");
    let deletes: Vec<_> = received[3].body.lines().filter(|line| line.starts_with("DELETE ")).collect();
    let keys = ["record~a", &index("a"), "record~b", &index("b")];
    assert!(deletes.len() == 4 && deletes.iter().zip(keys).all(|(line, key)| line.contains(key)), "{deletes:#?}");
    assert_eq!(received[3].body.matches("if-match: W/\"seen\"").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_index_row_whose_record_is_gone_or_was_committed_anew_is_deleted_alone() {
    for answer in [absent(), record("second", 1)] {
        let script = Script::new([index_rows(&["a"]), answer, deleted(1)]);
        let purged = purge_one(&script).await;
        assert_eq!((purged.records, purged.cause.is_none()), (0, true));
        assert_eq!(script.kinds(), ["query", "get", "delete"]);
        assert!(script.received()[2].url.contains("expiry"), "{}", script.received()[2].url);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_of_a_later_version_or_damaged_stays_with_its_index_row_and_keeps_no_other() {
    for unreadable in [
        json!({ "odata.etag": "W/\"1\"", "schema": 2, "commit_id": "first" }),
        json!({ "odata.etag": "W/\"1\"", "schema": "1", "commit_id": "first" }),
        json!({ "odata.etag": "W/\"1\"", "commit_id": "first" }),
        json!({ "odata.etag": "W/\"1\"", "schema": 1, "commit_id": ["first"] }),
        json!({ "schema": 1, "commit_id": "first" }),
    ] {
        let answer = azure::entity(&unreadable).into();
        let script = Script::new([index_rows(&["a", "b"]), answer, record("first", 1), deleted(2)]);
        let purged = purge_one(&script).await;
        assert_eq!(
            (purged.records, purged.unreadable, purged.unreadable_row),
            (1, 1, Some(index("a"))),
            "{unreadable}"
        );
        assert!(!script.received()[3].body.contains("record~a"), "{unreadable}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_row_of_a_later_version_or_under_another_key_stays_without_a_look_at_its_record() {
    let due = |row_key: &str, schema: i32| json!({ "RowKey": row_key, "odata.etag": "W/\"1\"", "schema": schema });
    let rows = [due(&index("a"), 2), due("expiry~000", 1), due("expiry~001~a", 1), due(&index("b"), 1)];
    let page = azure::entity(&json!({ "value": rows })).into();
    let script = Script::new([page, record("first", 1), deleted(2)]);
    let purged = purge_one(&script).await;
    assert_eq!((purged.records, purged.unreadable, purged.unfinished), (1, 3, 63));
    assert!(script.received()[0].url.contains("select=RowKey%2Cschema"), "{}", script.received()[0].url);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_keeps_its_index_row() {
    let script = Script::new([index_rows(&["a"]), throttled()]);
    let purged = purge_one(&script).await;
    assert!(matches!(purged.cause, Some(Error::Storage(error)) if error.is_transient()));
    assert_eq!(script.kinds(), ["query", "get"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_rows_are_deleted_in_two_transactions() {
    let hashes: Vec<_> = (0..100).map(|n| format!("{n:03}")).collect();
    let rows = index_rows(&hashes.iter().map(String::as_str).collect::<Vec<_>>());
    let half = || (0..50).map(|_| record("first", 1)).chain([deleted(100)]);
    let script = Script::new([rows].into_iter().chain(half()).chain(half()));
    assert_eq!(purge_one(&script).await.records, 100);
    assert_eq!(script.kinds().iter().filter(|kind| **kind == "batch").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_somebody_else_deleted_does_not_keep_the_others() {
    let gone = azure::batch(&[azure::refused_operation("404 Not Found", 0, "ResourceNotFound")]);
    let script = Script::new([index_rows(&["a"]), record("first", 1), gone.into(), absent(), deleted(1)]);
    let purged = purge_one(&script).await;
    assert_eq!((purged.records, purged.cause.is_none()), (1, true));
    assert_eq!(script.kinds(), ["query", "get", "batch", "delete", "delete"]);
}

#[tokio::test(start_paused = true)]
async fn an_index_row_stays_with_its_record_when_that_was_changed_meanwhile() {
    let changed =
        azure::batch(&[azure::refused_operation("412 Precondition Failed", 0, "UpdateConditionNotSatisfied")]);
    let refused = azure::refused(412, "UpdateConditionNotSatisfied").into();
    let script = Script::new([index_rows(&["a"]), record("first", 1), changed.into(), refused]);
    assert!(purge_one(&script).await.cause.is_none());
    assert_eq!(script.kinds(), ["query", "get", "batch", "delete"], "the record only");
}

#[tokio::test(start_paused = true)]
async fn two_index_rows_of_one_record_delete_it_once() {
    let copies = page(&["expiry~001~a~first", "expiry~002~a~first"]);
    let script = Script::new([copies, record("first", 1), record("first", 1), deleted(3)]);
    let purged = purge_one(&script).await;
    assert_eq!((purged.records, purged.cause.is_none()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_purge_ends_between_two_transactions_of_a_page_when_its_time_is_up() {
    let hashes: Vec<_> = (0..100).map(|n| format!("{n:03}")).collect();
    let rows = index_rows(&hashes.iter().map(String::as_str).collect::<Vec<_>>());
    let slow = Step::Slow(Duration::from_secs(120), azure::batch(&vec![azure::inserted(); 100]));
    let script = Script::new([rows].into_iter().chain((0..50).map(|_| record("first", 1))).chain([slow]));
    let purged = purge_one(&script).await;
    assert_eq!((purged.records, purged.out_of_time, purged.unfinished), (50, 1, 64));
}

#[tokio::test(start_paused = true)]
async fn only_rows_that_are_gone_or_changed_make_a_refused_delete_harmless() {
    for (answer, is_ok) in [
        (azure::refused(404, "ResourceNotFound"), true),
        (azure::refused(412, "UpdateConditionNotSatisfied"), true),
        (azure::refused(403, "AuthorizationFailure"), false),
    ] {
        let script = Script::new([index_rows(&["a"]), absent(), answer.into()]);
        assert_eq!(purge_one(&script).await.cause.is_none(), is_ok);
    }
    let script = Script::new([index_rows(&["a"]), record("first", 1), throttled()]);
    assert!(purge_one(&script).await.cause.is_some());
    assert_eq!(script.kinds(), ["query", "get", "batch"], "not taken apart");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_told_and_is_no_failure() {
    let script = Script::new([]);
    let purged = purge(&ledger(&script), &attempt(), Instant::now(), &[BUCKET]).await;
    assert_eq!(
        (purged.unfinished, purged.out_of_time, purged.cause.is_none(), script.kinds().len()),
        (64, 63, true, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_in_one_bucket_does_not_keep_the_others_from_being_purged() {
    let first: Step = azure::refused(403, "AuthorizationFailure").into();
    let script = Script::new(std::iter::once(first).chain((0..63).map(|_| page(&[]))));
    let purged = purge(&ledger(&script), &attempt(), Instant::now() + Duration::from_secs(60), &[]).await;
    assert_eq!((script.kinds().len(), purged.unfinished, purged.out_of_time), (64, 1, 0));
    assert!(matches!(purged.cause, Some(Error::Storage(error)) if !error.is_transient()));
}

#[tokio::test(start_paused = true)]
async fn without_a_table_or_without_expired_records_nothing_is_done() {
    for answer in [Step::Answer(azure::refused(404, "TableNotFound")), page(&[])] {
        let purged = purge_one(&Script::new([answer])).await;
        assert_eq!((purged.records, purged.cause.is_none()), (0, true));
    }
}

/// Nothing is repeated here: the host repeats the whole tick.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_is_left_to_the_next_attempt() {
    let script = Script::new([Step::NotSent]);
    assert!(matches!(purge_one(&script).await.cause, Some(Error::Storage(error)) if error.is_transient()));
    assert_eq!(script.received().len(), 1);
}
