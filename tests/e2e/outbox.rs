//! Commit, then publish: an accepted order is announced at least once, always with the same id, never before the commit
//! and never lost after it. What becomes of an event whose handler is killed is in the crash matrix.

use crate::app::{App, LIMIT, QUEUE, TABLE, TIMER, event, text, tick_line};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use test_storage::{Fault, Kind, Row, from_base64};

const ORDER: &str = r#"{"id":"order-123","amount":42.50}"#;

/// Refuses an event for what is in it, so that the queue is not held to be away.
fn refused() -> Fault {
    Fault::Status(400, Vec::new(), String::new())
}

/// Makes the row of an event that somebody left behind months ago.
fn left_behind(bucket: usize, n: usize) -> Row {
    let row = json!({
        "PartitionKey": format!("bucket~{bucket:02x}"),
        "RowKey": format!("outbox~{n:064}~c0ffee~0"),
        "schema": 1,
        "body": json!({ "id": format!("{n:064}-c0ffee-0") }).to_string(),
        "created_at@odata.type": "Edm.DateTime",
        "created_at": "2026-01-01T00:00:00Z",
    });
    row.as_object().unwrap().clone()
}

#[tokio::test]
async fn an_accepted_order_is_announced_in_the_documented_envelope() {
    let app = App::start().await;
    app.send(ORDER).await;
    let events = app.events().await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    let record = app.rows().await.remove(0);
    let hash = text(&record, "RowKey").replace("record~", "");
    assert_eq!(event["id"], format!("{hash}-{}-0", text(&record, "commit_id")));
    assert_eq!(event["data"], json!({ "id": "order-123", "status": "accepted", "amount": 42.50 }));
    let fixed =
        ["specversion", "source", "type", "subject", "datacontenttype"].map(|name| event[name].as_str().unwrap());
    assert_eq!(fixed, ["1.0", "/orders", "order.accepted", "order-123", "application/json"]);
    assert!(event["time"].as_str().unwrap().ends_with('Z'));
    assert!(app.outbox().await.is_empty());

    let raw = app.account.peek("order-events").await.unwrap().remove(0);
    let body = from_base64(&raw.text).unwrap();
    assert!(body.contains(r#""amount":42.50"#), "the exact text of a number survives: {body}");
    assert!(raw.expires - raw.inserted > time::Duration::days(365), "it stays until it is taken");
}

#[tokio::test]
async fn an_order_its_event_and_its_invocation_belong_to_one_trace() {
    let app = App::start_with(&[("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=0")]).await;
    app.fail_events(refused());
    app.send(ORDER).await;
    let waiting = event(&text(&app.outbox().await[0], "body"));
    app.queues.lift();
    app.age().await;
    // An invocation with a trace of its own publishes it as it was committed.
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    let trace = text(&app.records().await[0], "traceparent");
    assert_eq!(trace.split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2], "{trace}");
    assert_eq!((waiting["traceparent"].as_str(), app.events().await), (Some(trace.as_str()), vec![waiting.clone()]));
}

#[tokio::test]
async fn nothing_is_announced_that_is_not_committed() {
    let app = App::start().await;
    app.send(ORDER).await;
    app.fail_orders(Fault::Status(400, Vec::new(), String::new()));
    assert!(!app.send(r#"{"id":"order-124"}"#).await.succeeded);
    app.tables.lift();
    app.send(r#"{"id":"order-123","amount":43}"#).await;
    app.send(r#"{"amount":43}"#).await;
    app.drain().await;
    assert_eq!(app.events().await.len(), 2, "order-123 and, redelivered, order-124");
    assert_eq!(app.receipts().await.len(), 2);
}

#[tokio::test]
async fn a_duplicate_after_publishing_announces_nothing() {
    let app = App::start().await;
    app.send(ORDER).await;
    app.send(ORDER).await;
    app.drain().await;
    assert_eq!((app.events().await.len(), app.puts()), (1, 2), "one put to the missing queue, one to the created one");
    assert_eq!(app.tables.kinds()[4..], [Kind::Batch, Kind::GetEntity]);
}

#[tokio::test]
async fn an_order_stands_while_the_queue_service_is_down_and_is_announced_later() {
    let app = App::start().await;
    app.fail_events(Fault::Status(503, Vec::new(), String::new()));
    assert!(app.send(ORDER).await.succeeded);
    assert_eq!(app.receipts().await.len(), 1);
    assert_eq!((app.outbox().await.len(), app.events().await.len()), (1, 0));
    app.host.wait_for_line("WARN Storage away: events queue since 20", LIMIT).await.unwrap();
    let left = "Publishing is left to the timer: published=0 of=1 cause=storage answered 503";
    app.host.wait_for_line(left, LIMIT).await.unwrap();
    app.send(r#"{"id":"order-124"}"#).await;
    assert_eq!((app.outbox().await.len(), app.events().await.len()), (2, 0));

    app.queues.lift();
    let early = app.host.fire_timer(TIMER).await.unwrap();
    assert!(early.succeeded && app.events().await.is_empty(), "within the grace period it is not the timer's");
    app.age().await;
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    app.host.wait_for_line(&tick_line(2, 0, 0), LIMIT).await.unwrap();
    assert_eq!((app.outbox().await.len(), app.events().await.len()), (0, 2));
    app.host.fire_timer(TIMER).await.unwrap();
    assert_eq!(app.events().await.len(), 2, "published once");
}

#[tokio::test]
async fn a_redelivery_publishes_what_its_first_delivery_left_behind() {
    let app = App::start().await;
    app.fail_events(refused());
    app.send(ORDER).await;
    app.queues.lift();
    app.forget_requests();
    // A delivery that comes to nothing, unless the host was faster, and then that of the host.
    app.account.put("orders", ORDER).await.unwrap();
    while app.account.receive("orders", 1, Duration::from_secs(1)).await.unwrap().is_empty() {
        app.account.put("orders", ORDER).await.unwrap();
    }
    app.published_but(|| 0).await;
    assert!(app.tables.kinds().ends_with(&[Kind::Batch, Kind::GetEntity, Kind::Query, Kind::Delete]));
    assert_eq!((app.outbox().await.len(), app.events().await.len()), (0, 1));
}

#[tokio::test]
async fn a_thousand_events_left_behind_in_all_buckets_are_relayed_in_one_tick() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    for n in 0..1_000 {
        app.account.insert_row(TABLE, &left_behind(n % 64, n)).await.unwrap();
    }
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    app.host.wait_for_line(&tick_line(1000, 0, 0), LIMIT).await.unwrap();
    assert!(app.rows().await.is_empty());
    assert_eq!(app.account.queue_length("order-events").await.unwrap(), 1_000);
    let mut seen = BTreeSet::new();
    while seen.len() < 1_000 {
        let messages = app.account.receive("order-events", 32, Duration::from_secs(600)).await.unwrap();
        assert!(!messages.is_empty(), "only {} different events", seen.len());
        seen.extend(messages.into_iter().map(|message| message.text));
    }
}

#[tokio::test]
async fn more_events_than_one_page_are_relayed_from_one_bucket() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    for n in 0..250 {
        app.account.insert_row(TABLE, &left_behind(0x2a, n)).await.unwrap();
    }
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    assert!(app.rows().await.is_empty());
    assert_eq!(app.account.queue_length("order-events").await.unwrap(), 250);
}

#[tokio::test]
async fn a_queue_service_that_asks_for_a_long_pause_does_not_hold_up_the_order() {
    let app = App::start().await;
    app.fail_events(Fault::Status(503, vec![("retry-after", "120".to_owned())], String::new()));
    let invocation = app.send(ORDER).await;
    assert!(invocation.succeeded && invocation.duration < Duration::from_secs(60), "{invocation:?}");
    assert_eq!((app.puts(), app.outbox().await.len()), (1, 1));
}

#[tokio::test]
async fn a_tick_in_which_one_bucket_fails_does_the_others_and_the_retry_does_the_rest() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    for bucket in 0..64 {
        app.account.insert_row(TABLE, &left_behind(bucket, bucket)).await.unwrap();
    }
    let mut failed = false;
    app.tables.set_rule(move |request| {
        let hit = request.kind == Kind::Query && request.target.contains("outbox") && request.target.contains("07%27");
        if hit && !std::mem::replace(&mut failed, true) {
            Fault::Status(503, Vec::new(), String::new())
        } else {
            Fault::Pass
        }
    });
    let last = app.host.fire_timer(TIMER).await.unwrap();
    assert!(last.succeeded && last.attempt == 1, "{last:?}");
    for line in [&tick_line(63, 0, 1), &tick_line(1, 0, 0)] {
        app.host.wait_for_line(line, LIMIT).await.unwrap();
    }
    assert_eq!(app.account.queue_length("order-events").await.unwrap(), 64, "nothing twice");
    assert!(app.rows().await.is_empty());
}

#[tokio::test]
async fn an_event_that_cannot_be_published_does_not_hold_up_the_others() {
    let app = App::start().await;
    app.account.create_table(TABLE).await.unwrap();
    for n in 0..5 {
        let mut row = left_behind(0, n);
        row.insert("schema".to_owned(), if n == 4 { 2 } else { 1 }.into());
        row.insert("body".to_owned(), format!("event {n}").into());
        app.account.insert_row(TABLE, &row).await.unwrap();
    }
    app.queues.set_rule(|request| {
        let is_refused = String::from_utf8_lossy(&request.body).contains("event 2");
        if is_refused { Fault::Status(400, Vec::new(), String::new()) } else { Fault::Pass }
    });
    let tick = app.host.fire_timer(TIMER).await.unwrap();
    assert!(!tick.succeeded, "{tick:?}");
    let mut published: Vec<_> = app.account.peek("order-events").await.unwrap().into_iter().map(|m| m.text).collect();
    published.sort();
    assert_eq!(published, ["event 0", "event 1", "event 3"], "each once, in four attempts");
    assert_eq!(app.outbox().await.len(), 2, "one is refused, one is of a later version");
    assert_eq!(app.lines_with("WARN An event cannot be published: row=outbox~").len(), 2 * 4);
}

#[tokio::test]
async fn two_instances_that_relay_at_once_lose_nothing() {
    let app = App::start().await;
    app.fail_events(Fault::Status(403, Vec::new(), String::new()));
    for n in 0..20 {
        app.send(&format!(r#"{{"id":"order-{n}"}}"#)).await;
    }
    app.queues.lift();
    app.age().await;
    let expected: BTreeSet<_> = app.outbox().await.iter().map(|row| text(row, "event_id")).collect();
    let other = app.second_instance().await;
    let (first, second) = tokio::join!(app.host.fire_timer(TIMER), other.fire_timer(TIMER));
    assert!(first.unwrap().succeeded && second.unwrap().succeeded);
    assert!(app.outbox().await.is_empty());
    let mut seen = BTreeSet::new();
    loop {
        let messages = app.account.receive("order-events", 32, Duration::from_secs(600)).await.unwrap();
        if messages.is_empty() {
            break;
        }
        seen.extend(messages.iter().map(|message| event(&message.text)["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_record_that_has_expired_is_kept_while_its_event_is_unpublished() {
    let app = App::start().await;
    app.fail_events(Fault::Status(403, Vec::new(), String::new()));
    assert!(app.send(ORDER).await.succeeded);
    app.age().await;
    app.expire().await;

    assert!(!app.host.fire_timer(TIMER).await.unwrap().succeeded);
    assert_eq!((app.receipts().await.len(), app.outbox().await.len()), (1, 1));
    app.queues.lift();
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    assert!(app.rows().await.is_empty() && app.index_rows().await.is_empty());
    assert_eq!(app.events().await.len(), 1);
}

#[tokio::test]
async fn an_id_with_characters_that_xml_cannot_hold_is_announced_and_quarantined_like_any_other() {
    let app = App::start().await;
    assert!(app.send(r#"{"id":"a\ufffeb\uffff<&>","amount":1}"#).await.succeeded);
    assert_eq!(app.events().await[0]["subject"], "a\u{fffe}b\u{ffff}<&>");
    assert!(app.send(r#"{"id":"a\ufffeb\uffff<&>","amount":2}"#).await.succeeded);
    app.drain().await;
    assert_eq!(app.quarantined().await[0]["reason"], "conflict");
}

#[tokio::test]
async fn another_name_of_the_queue_is_used() {
    let app = App::start_with(&[("EVENTS_QUEUE", "shop-events")]).await;
    app.host.deliver(QUEUE, ORDER).await.unwrap();
    app.published().await;
    assert_eq!(app.account.queue_length("shop-events").await.unwrap(), 1);
}
