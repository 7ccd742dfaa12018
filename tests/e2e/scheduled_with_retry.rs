//! The timer: what it purges, what it leaves alone, and that its failures reach the host's retry.

use crate::app::{App, TABLE, TIMER, text};
use handler::idempotency::key::bucket_to_purge;
use serde_json::json;
use std::collections::BTreeSet;
use test_storage::{Fault, Kind, Row};

/// Inserts a record into every bucket, so that the one whose turn it is has one too.
async fn fill_all_buckets(app: &App, expires_at: &str, name: &str) {
    app.account.create_table(TABLE).await.unwrap();
    for bucket in 0..64 {
        let row = json!({
            "PartitionKey": format!("bucket~{bucket:02x}"),
            "RowKey": format!("record~{name}"),
            "expires_at@odata.type": "Edm.DateTime",
            "expires_at": expires_at,
        });
        app.account.insert_row(TABLE, row.as_object().unwrap()).await.unwrap();
    }
}

fn count(rows: &[Row], name: &str) -> usize {
    rows.iter().filter(|row| text(row, "RowKey") == format!("record~{name}")).count()
}

#[tokio::test]
async fn a_tick_is_logged_and_succeeds_without_a_table() {
    let app = App::start().await;
    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(tick.succeeded, "{tick:?}");
    assert_eq!(
        tick.logs,
        [
            "Timer fired. past_due=false. This function retries up to 3 times every 5 seconds.",
            "Relayed 0 events, purged 0 expired records, 0 buckets unfinished."
        ]
    );
    assert_eq!(app.tables.kinds(), [Kind::Query; 64 + 1]);
}

#[tokio::test]
async fn a_tick_purges_the_expired_records_of_its_bucket_and_no_other_row() {
    let app = App::start().await;
    fill_all_buckets(&app, "2020-01-01T00:00:00Z", "expired").await;
    fill_all_buckets(&app, "2099-01-01T00:00:00Z", "live").await;
    let foreign = json!({ "PartitionKey": "elsewhere", "RowKey": "record~expired", "expires_at@odata.type": "Edm.DateTime", "expires_at": "2020-01-01T00:00:00Z" });
    app.account.insert_row(TABLE, foreign.as_object().unwrap()).await.unwrap();

    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(
        tick.logs.contains(&"Relayed 0 events, purged 1 expired records, 0 buckets unfinished.".to_owned()),
        "{tick:?}"
    );
    let rows = app.rows().await;
    assert_eq!((count(&rows, "expired"), count(&rows, "live")), (63 + 1, 64));
}

#[tokio::test]
async fn more_records_than_fit_into_one_batch_are_purged_in_one_tick() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    // The tick's bucket follows from the clock: fill this one's and the next one's.
    let now = time::OffsetDateTime::now_utc();
    let buckets: BTreeSet<_> =
        [0, 5].into_iter().map(|minutes| bucket_to_purge(now + time::Duration::minutes(minutes))).collect();
    for bucket in &buckets {
        for n in 0..250 {
            let row = json!({
                "PartitionKey": format!("bucket~{bucket:02x}"),
                "RowKey": format!("record~{n:03}"),
                "expires_at@odata.type": "Edm.DateTime",
                "expires_at": "2020-01-01T00:00:00Z",
            });
            app.account.insert_row(TABLE, row.as_object().unwrap()).await.unwrap();
        }
    }
    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(
        tick.logs.contains(&"Relayed 0 events, purged 250 expired records, 0 buckets unfinished.".to_owned()),
        "{tick:?}"
    );
    assert_eq!(app.rows().await.len(), 250 * (buckets.len() - 1));
    assert_eq!(app.tables.kinds().iter().filter(|kind| **kind == Kind::Batch).count(), 3);
}

#[tokio::test]
async fn a_tick_that_fails_is_repeated_by_the_host_under_one_id_until_it_succeeds() {
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
    let counts = app.lines_with("Relayed 0 events, purged 0 expired records, 1 buckets unfinished.");
    assert_eq!(counts.len(), 2, "what a failed attempt had to say is printed: {counts:?}");
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
    fill_all_buckets(&app, "2020-01-01T00:00:00Z", "expired").await;
    let other = app.second_instance().await;
    let (first, second) = tokio::join!(app.host.fire_timer(TIMER), other.fire_timer(TIMER));
    assert!(first.unwrap().succeeded && second.unwrap().succeeded);
    let left = count(&app.rows().await, "expired");
    assert!((62..=63).contains(&left), "one bucket is purged, or two when the tick changed in between: {left}");
}
