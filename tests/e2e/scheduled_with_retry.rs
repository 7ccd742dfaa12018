//! The timer: what it purges, what it leaves alone, and that its failures reach the host's retry.

use crate::app::{App, TABLE, TIMER, text};
use dev::{Fault, proxy::Kind, storage::Row};
use serde_json::json;

/// A record in every bucket, so that the one whose turn it is has one too.
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
            "Purged 0 expired records."
        ]
    );
    assert_eq!(app.tables.kinds(), [Kind::Query]);
}

#[tokio::test]
async fn a_tick_purges_the_expired_records_of_its_bucket_and_no_other_row() {
    let app = App::start().await;
    fill_all_buckets(&app, "2020-01-01T00:00:00Z", "expired").await;
    fill_all_buckets(&app, "2099-01-01T00:00:00Z", "live").await;
    let foreign = json!({ "PartitionKey": "elsewhere", "RowKey": "record~expired", "expires_at@odata.type": "Edm.DateTime", "expires_at": "2020-01-01T00:00:00Z" });
    app.account.insert_row(TABLE, foreign.as_object().unwrap()).await.unwrap();

    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(tick.logs.contains(&"Purged 1 expired records.".to_owned()), "{tick:?}");
    let rows = app.rows().await;
    assert_eq!((count(&rows, "expired"), count(&rows, "live")), (63 + 1, 64));
}

#[tokio::test]
async fn more_records_than_fit_into_one_batch_are_purged_in_one_tick() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    // The tick's bucket follows from the clock, so fill the buckets of this tick and of the next one.
    let tick = time::OffsetDateTime::now_utc().unix_timestamp() / 300;
    for bucket in [tick % 64, (tick + 1) % 64] {
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
    assert!(tick.logs.contains(&"Purged 250 expired records.".to_owned()), "{tick:?}");
    assert_eq!(app.rows().await.len(), 250);
    assert_eq!(app.tables.kinds().iter().filter(|kind| **kind == Kind::Batch).count(), 3);
}

#[tokio::test]
async fn a_tick_that_fails_is_repeated_by_the_host_under_one_id_until_it_succeeds() {
    // Each attempt makes three requests before it gives up; the third attempt meets a service that works again.
    let app = App::start().await;
    let busy = Fault::Status(503, Vec::new(), String::new());
    app.tables.fail_next(6, Kind::Query, busy);
    let last = app.host.fire_timer(TIMER).await.unwrap();
    assert!(last.succeeded && last.attempt == 2, "{last:?}");
    assert!(last.logs.contains(&"Retry 2 of 3 of this tick.".to_owned()), "{last:?}");

    let attempts = app.host.invocations();
    assert_eq!(attempts.iter().map(|attempt| attempt.succeeded).collect::<Vec<_>>(), [false, false, true]);
    assert!(attempts.iter().all(|attempt| attempt.id == last.id));
    assert_eq!(attempts[0].reason.as_deref(), Some("Table storage is throttling"));
    let fired = app.lines_with("Timer fired. past_due=false.");
    assert_eq!(fired.len(), 3, "what a failed attempt had to say is printed: {fired:?}");
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
