//! The timer: what it purges, what it leaves alone, and that its failures reach the host's retry.

use crate::{
    app::{App, LIMIT, TABLE, TIMER, is_signed, text, tick_line},
    host::local_only,
};
use serde_json::json;
use test_storage::{Fault, Kind, Row};

/// A second in 2020, and one in 2099.
const PAST: u64 = 1_577_836_800;
const FUTURE: u64 = 4_070_908_800;

/// Inserts a record that expires at this second into a bucket, and its index row.
async fn insert_record(app: &App, bucket: u8, name: &str, expires_at: u64) {
    let partition_key = format!("bucket~{bucket:02x}");
    let record = json!({
        "PartitionKey": partition_key, "RowKey": format!("record~{name}"), "schema": 1, "commit_id": "c0ffee",
    });
    let index_row = json!({ "PartitionKey": partition_key, "RowKey": format!("expiry~{expires_at:012}~{name}~c0ffee"), "schema": 1 });
    for row in [record, index_row] {
        app.account.insert_row(TABLE, row.as_object().unwrap()).await.unwrap();
    }
}

async fn fill_all_buckets(app: &App, name: &str, expires_at: u64) {
    app.account.create_table(TABLE).await.unwrap();
    for bucket in 0..64 {
        insert_record(app, bucket, name, expires_at).await;
    }
}

/// Counts the rows, records and index rows, of one name.
fn count(rows: &[Row], name: &str) -> usize {
    rows.iter().filter(|row| text(row, "RowKey").split('~').any(|part| part == name)).count()
}

#[tokio::test]
async fn a_tick_is_logged_and_succeeds_without_a_table() {
    let app = App::start().await;
    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(tick.succeeded, "{tick:?}");
    let fired = "Timer fired. past_due=false. This function retries up to 3 times every 5 seconds.";
    assert!(tick.logs.iter().any(|line| line == fired), "{tick:?}");
    let queues = "State: orders=0 orders-poison=0 orders-quarantine=0 order-events=0 oldest_s=0";
    app.host.wait_for_line(&(queues.to_owned() + &tick_line(0, 0, 0)), LIMIT).await.unwrap();
    assert_eq!(app.tables.kinds(), [Kind::Query; 64 + 64]);
    let mut of_queues: Vec<_> =
        app.queues.requests().into_iter().filter(is_signed).map(|request| request.kind).collect();
    of_queues.sort();
    assert_eq!(of_queues, [[Kind::GetMessages; 2], [Kind::GetQueue; 2], [Kind::GetQueue; 2]].concat());
}

#[tokio::test]
async fn a_tick_purges_what_has_expired_in_every_bucket_and_no_other_row() {
    let app = App::start().await;
    fill_all_buckets(&app, "expired", PAST).await;
    fill_all_buckets(&app, "live", FUTURE).await;
    let foreign = json!({ "PartitionKey": "elsewhere", "RowKey": "expiry~001577836800~expired~c0ffee" });
    app.account.insert_row(TABLE, foreign.as_object().unwrap()).await.unwrap();
    let unreadable = json!({ "PartitionKey": "bucket~07", "RowKey": "expiry~001577836800~damaged", "schema": 1 });
    app.account.insert_row(TABLE, unreadable.as_object().unwrap()).await.unwrap();

    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(tick.succeeded, "{tick:?}");
    app.host.wait_for_line(&tick_line(0, 64, 0), LIMIT).await.unwrap();
    let rows = [app.rows().await, app.index_rows().await].concat();
    let counts = ["expired", "live", "damaged"].map(|name| count(&rows, name));
    assert_eq!(counts, [1, 2 * 64, 1]);
    let warning = "WARN Expired records are left that cannot be read: rows=1 one=expiry~001577836800~damaged";
    app.host.wait_for_line(warning, LIMIT).await.unwrap();
}

#[tokio::test]
async fn more_records_than_fit_into_one_page_are_purged_in_one_tick_with_few_requests() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    for n in 0..120 {
        insert_record(&app, 7, &format!("{n:03}"), PAST).await;
    }
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    app.host.wait_for_line(&tick_line(0, 120, 0), LIMIT).await.unwrap();
    assert!(app.rows().await.is_empty() && app.index_rows().await.is_empty());
    let requests = app.tables.kinds();
    assert_eq!(requests.iter().filter(|kind| **kind == Kind::Batch).count(), 3);
    // The reads of the records, one page more, and an idle tick.
    assert_eq!(requests.len(), 3 + 120 + 1 + 128);
}

#[tokio::test]
async fn a_record_that_was_deleted_by_hand_and_committed_anew_outlives_its_first_index_row() {
    let app = App::start().await;
    assert!(app.send(r#"{"id":"order-123","amount":42}"#).await.succeeded);
    let record = app.rows().await.into_iter().find(|row| text(row, "RowKey").starts_with("record~")).unwrap();
    app.account.delete_row(TABLE, &record).await.unwrap();
    assert!(app.send(r#"{"id":"order-123","amount":42}"#).await.succeeded);
    app.drain().await;

    assert_eq!((app.receipts().await.len(), app.index_rows().await.len()), (1, 2));
    let ids: Vec<_> = app.events().await.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1], "a consumer takes the event of the second life");
}

#[tokio::test]
async fn a_tick_that_fails_is_repeated_by_the_host_under_one_id_until_it_succeeds() {
    local_only!("only a scheduled tick keeps its id");
    let app = App::start().await;
    // Two attempts meet a service that is busy in one bucket only; the third finds it well.
    let mut busy = 2;
    app.tables.set_rule(move |request| {
        if busy == 0 || !request.target.contains("bucket%7E07") && !request.target.contains("bucket~07") {
            return Fault::Pass;
        }
        busy -= 1;
        Fault::Status(503, Vec::new(), String::new())
    });
    let last = app.host.fire_timer(TIMER).await.unwrap();
    assert!(last.succeeded && last.attempt == 2, "{last:?}");
    assert!(last.logs.contains(&"Retry 2 of 3 of this tick.".to_owned()), "{last:?}");

    let attempts = app.host.invocations();
    assert_eq!(attempts.iter().map(|attempt| attempt.succeeded).collect::<Vec<_>>(), [false, false, true]);
    assert!(attempts.iter().all(|attempt| attempt.id == last.id));
    assert_eq!(attempts[0].reason.as_deref(), Some("Storage is throttling"));
    assert_eq!(app.lines_with("Timer fired. past_due=false.").len(), 3);
    assert_eq!(app.lines_with(&tick_line(0, 0, 1)).len(), 2);
}

#[tokio::test]
async fn a_tick_that_keeps_failing_is_given_up_after_four_attempts() {
    let app = App::start().await;
    app.tables.fail_all(Fault::Status(403, Vec::new(), String::new()));
    let last = app.host.fire_timer(TIMER).await.unwrap();
    assert_eq!((last.succeeded, last.attempt), (false, 3));
    assert_eq!(app.host.invocations().len(), 4);
}

#[tokio::test]
async fn a_record_that_another_instance_purged_meanwhile_does_not_fail_the_tick() {
    let app = App::start().await;
    fill_all_buckets(&app, "expired", PAST).await;
    let other = app.second_instance().await;
    let (first, second) = tokio::join!(app.host.fire_timer(TIMER), other.fire_timer(TIMER));
    assert!(first.unwrap().succeeded && second.unwrap().succeeded);
    assert_eq!(count(&app.rows().await, "expired"), 0);
}
