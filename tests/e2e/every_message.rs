//! The outcome of each message: one test for each row of the table in the README, by what is stored and queued afterwards.

use crate::{
    app::{App, QUEUE, text},
    host::returned,
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use handler::idempotency::record;
use local_host::Invocation;
use serde_json::json;
use std::time::Duration;
use test_storage::Kind;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;

#[tokio::test]
async fn a_new_order_is_committed_and_answered_with_its_receipt() {
    let app = App::start().await;
    let invocation = app.send(ORDER).await;
    assert!(invocation.succeeded, "{invocation:?}");
    assert!(returned(&invocation, RECEIPT), "{invocation:?}");
    assert_eq!(invocation.logs, [format!("Processing idempotent message id=order-123 payload={ORDER}")]);

    app.drain().await;
    let rows = app.rows().await;
    assert_eq!(rows.len(), 1);
    assert_eq!((text(&rows[0], "receipt").as_str(), &rows[0]["schema"]), (RECEIPT, &json!(1)));
    let events = app.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["type"], &events[0]["subject"]), (&json!("order.accepted"), &json!("order-123")));
    let keys = (text(&rows[0], "PartitionKey"), text(&rows[0], "RowKey"));
    assert_eq!((keys.0.len(), keys.1.len()), ("bucket~00".len(), "record~".len() + 64), "{keys:?}");
    assert_nothing_else(&app).await;
}

#[tokio::test]
async fn every_spelling_of_the_same_order_is_a_duplicate_with_the_first_receipt() {
    let app = App::start().await;
    let committed_by = app.send(ORDER).await.id;
    let first = app.rows().await;
    let committed_at = OffsetDateTime::parse(&text(&app.records().await[0], "committed_at"), &Rfc3339).unwrap();
    let committed_at = record::edm_date_time(committed_at);
    let line = format!(
        "Duplicate message detected; skipping id=order-123 committed_at={committed_at} committed_by={committed_by}"
    );
    for duplicate in [
        ORDER.to_owned(),
        "{ \"amount\" : 42 ,\n\t\"id\":\"order-123\" }".to_owned(),
        r#"{"id":" order-123 ","amount":42.00}"#.to_owned(),
        r#"{"\u0069d":"order-123","amount":4.2e1}"#.to_owned(),
        format!("\u{feff}{ORDER}"),
        BASE64_STANDARD.encode(ORDER),
        BASE64_STANDARD_NO_PAD.encode(format!("\u{feff}{ORDER}")),
        in_lines(&BASE64_STANDARD.encode(ORDER)),
    ] {
        let invocation = app.send(&duplicate).await;
        assert!(returned(&invocation, RECEIPT), "{duplicate}: {invocation:?}");
        assert_eq!(invocation.logs, [line.as_str()], "{duplicate}");
    }
    app.drain().await;
    assert_eq!(app.rows().await, first, "the record is never touched again");
    assert_nothing_else(&app).await;
}

#[tokio::test]
async fn an_order_that_dotnet_sends_twice_is_one_order_whatever_its_output_binding_adds() {
    let app = App::start().await;
    let from_dotnet = |amount: &str, invocation: &str| {
        format!(
            "{{\n  \"id\": \"order-4\",\n  \"amount\": {amount},\n  \"$AzureWebJobsParentId\": \"{invocation}\",\n  \
             \"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-{}-01\",\n  \"tracestate\": \"az={invocation}\"\n}}",
            &invocation.replace('-', "")[..16]
        )
    };
    let (first, second) = ("3813086a-ed95-4dda-ba09-5a799b96b1ea", "2488c458-f2f5-43c6-a412-1993732646ac");
    for invocation in [first, second, second] {
        assert!(app.send(&BASE64_STANDARD.encode(from_dotnet("1.0", invocation))).await.succeeded);
    }
    app.drain().await;
    assert_eq!(app.receipts().await, [r#"{"id":"order-4","status":"accepted","amount":1.0}"#]);
    assert_eq!(app.events().await.len(), 1);
    assert_nothing_else(&app).await;

    check_quarantined(&app, &from_dotnet("2.0", second), "conflict").await;
    check_quarantined(&app, r#"{"id":"order-4","amount":1.0,"traceparent":"by hand"}"#, "conflict").await;
    check_quarantined(&app, r#"{"id":"order-4","amount":1.0,"baggage":"a=1"}"#, "conflict").await;
    assert_eq!((app.rows().await.len(), app.events().await.len()), (1, 1));
}

#[tokio::test]
async fn an_integer_id_is_the_same_as_its_digits() {
    let app = App::start().await;
    app.send(r#"{"id":123456789012345678901234567890,"amount":1}"#).await;
    let invocation = app.send(r#"{"id":"123456789012345678901234567890","amount":1}"#).await;
    assert_eq!(invocation.logs.len(), 1);
    assert!(invocation.logs[0].starts_with("Duplicate message detected"), "{invocation:?}");
    assert_eq!(app.rows().await.len(), 1);
}

#[tokio::test]
async fn the_same_id_with_other_content_is_quarantined_and_the_record_stays() {
    let app = App::start().await;
    app.send(ORDER).await;
    let first = app.rows().await;
    for conflict in [
        r#"{"id":"order-123","amount":43}"#,
        r#"{"id":"order-123","amount":42.000000000000000001}"#,
        r#"{"id":"order-123"}"#,
        r#"{"id":"order-123","amount":42,"note":null}"#,
    ] {
        check_quarantined(&app, conflict, "conflict").await;
    }
    assert_eq!(app.rows().await, first);
    assert_eq!(
        app.lines_with("WARN Conflicting message detected; quarantining it. id=order-123 reason=conflict").len(),
        4
    );
}

#[tokio::test]
async fn what_is_no_json_object_is_quarantined() {
    let app = App::start().await;
    let not_utf8 = BASE64_STANDARD.encode(b"{\"id\":\"\xff\"}");
    let bomb = format!(r#"{{"id":"bomb","amount":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    for message in [
        "hello world",
        "12345678",
        "null",
        "[1,2]",
        r#""order-123""#,
        r#"{"id":"order-123","amount":"#,
        r#"{"id":"order-123"} trailing"#,
        r#"{"id":"order-1","id":"order-2"}"#,
        r#"{"id":"order-1","\u0069d":"order-1"}"#,
        r#"{"id":"order-123","amount":NaN}"#,
        r#"{"id":"order-123","amount":-Infinity}"#,
        r#"{"id":"order-123","amount":1e9999999999999999999}"#,
        r#"{"id":"\ud800"}"#,
        "{'id':'order-123'}",
        "\u{feff}\u{feff}{\"id\":\"order-123\"}",
        &not_utf8,
        &BASE64_STANDARD.encode("[1,2]"),
        &BASE64_STANDARD.encode(ORDER).replacen('J', "J\u{a0}", 1),
        &bomb,
    ] {
        check_quarantined(&app, message, "invalid_json").await;
    }
    assert!(app.rows().await.is_empty());
}

#[tokio::test]
async fn an_id_that_identifies_nothing_is_quarantined_with_the_warning() {
    let app = App::start().await;
    let too_long = format!(r#"{{"id":"{}","amount":10}}"#, "x".repeat(1_000));
    for (message, reason) in [
        (r#"{"amount":10}"#, "missing_id"),
        (r#"{"id":null,"amount":10}"#, "missing_id"),
        (r#"{"Id":"order-123","amount":10}"#, "missing_id"),
        (r#"{"id":"","amount":10}"#, "invalid_id"),
        (r#"{"id":" \t ","amount":10}"#, "invalid_id"),
        (r#"{"id":{"a":1},"amount":10}"#, "invalid_id"),
        (r#"{"id":["order-123"],"amount":10}"#, "invalid_id"),
        (r#"{"id":true,"amount":10}"#, "invalid_id"),
        (r#"{"id":1.5,"amount":10}"#, "invalid_id"),
        (r#"{"id":"a\u0000b","amount":10}"#, "invalid_id"),
        (r#"{"id":"a\nb","amount":10}"#, "invalid_id"),
        (r#"{"id":"a\u200bb","amount":10}"#, "invalid_id"),
        ("{\"id\":\"\u{feff}ab\",\"amount\":10}", "invalid_id"),
        (too_long.as_str(), "invalid_id"),
    ] {
        check_quarantined(&app, message, reason).await;
    }
    assert!(app.rows().await.is_empty());
    assert_eq!(app.lines_with("WARN Missing id field; cannot apply idempotency. payload={").len(), 3);
    assert_eq!(app.lines_with("WARN Invalid id field; cannot apply idempotency. payload={").len(), 11);
    assert_eq!(app.lines_with(r#"cannot apply idempotency. payload={"amount":10} reason=missing_id"#).len(), 2);
    assert!(app.lines_with("xxxxxxxx").is_empty(), "a long value is not printed");
}

#[tokio::test]
async fn an_amount_that_is_no_number_is_quarantined() {
    let app = App::start().await;
    for amount in [r#""42""#, "null", "true", "{}", "[42]"] {
        check_quarantined(&app, &format!(r#"{{"id":"order-123","amount":{amount}}}"#), "invalid_order").await;
    }
    assert!(app.rows().await.is_empty());
}

#[tokio::test]
async fn a_decimal_keeps_its_exact_text_in_the_receipt() {
    let app = App::start().await;
    app.send(r#"{"id":"order-123","amount":0.10000000000000000000001}"#).await;
    app.drain().await;
    assert_eq!(app.receipts().await, [r#"{"id":"order-123","status":"accepted","amount":0.10000000000000000000001}"#]);
}

#[tokio::test]
async fn members_that_overwrite_the_hosts_metadata_change_nothing() {
    let app = App::start().await;
    let message = r#"{"id":"order-123","Id":"other","DequeueCount":99,"sys":"x","msgTrigger":1,"PopReceipt":"forged","RetryContext":{"RetryCount":7},"msg":"forged"}"#;
    let invocation = app.send(message).await;
    assert!(invocation.logs[0].starts_with("Processing idempotent message id=order-123 "), "{invocation:?}");
    app.send(message).await;
    app.drain().await;
    assert_eq!(app.receipts().await, [r#"{"id":"order-123","status":"accepted"}"#]);
    assert_nothing_else(&app).await;
}

#[tokio::test]
async fn only_listed_members_are_ever_printed() {
    let app = App::start().await;
    app.send(r#"{"id":"order-1","amount":1,"card":"4111 1111 1111 1111"}"#).await;
    app.send(r#"{"amount":1,"card":"4111 1111 1111 1111"}"#).await;
    app.send(r#"{"id":"order-1","amount":2,"card":"4111 1111 1111 1111"}"#).await;
    app.send(r#"{"id":"order-2","amount":"4111 1111 1111 1111","card":"4111"#).await;
    app.send(r#"{"id":"order-3","amount":"4111 1111 1111 1111"}"#).await;
    app.send(r#"{"id":"4111\u00001111","amount":1}"#).await;
    app.drain().await;
    assert_eq!(app.rows().await.len(), 1);
    assert_eq!(app.quarantined().await.len(), 5);
    assert!(app.lines_with("4111").is_empty(), "{:?}", app.lines_with("4111"));
    let key = app.account.key().to_owned();
    assert!(app.lines_with(&key).is_empty());
}

#[tokio::test]
async fn text_that_breaks_log_lines_is_escaped() {
    let app = App::start().await;
    app.send("{\"id\":\"order-123\u{2028}\",\"amount\":1}").await;
    app.send("{\"id\":\"order\u{202e}123\",\"amount\":1}").await;
    app.drain().await;
    assert_eq!(app.lines_with(r#"id=order-123 payload={"id":"order-123\u{2028}","amount":1}"#).len(), 1);
    assert_eq!(app.lines_with(r#"Invalid id field; cannot apply idempotency. payload={"id":…,"amount":1}"#).len(), 1);
    assert!(app.lines_with("\u{2028}").is_empty() && app.lines_with("\u{202e}").is_empty());
}

#[tokio::test]
async fn a_rejected_message_too_large_for_its_envelope_is_quarantined_in_parts() {
    let app = App::start().await;
    let message = format!(r#"{{"amount":1,"note":"{}"}}"#, "n".repeat(65_450));
    assert!(app.send(&message).await.succeeded);
    app.drain().await;
    let parts = app.quarantined().await;
    let numbers: Vec<_> = parts.iter().map(|part| part["part"].clone()).collect();
    assert_eq!(numbers, (1..=8).map(|part| json!([part, 8])).collect::<Vec<_>>());
    assert_eq!(parts.iter().filter_map(|part| part["message"].as_str()).collect::<String>(), message);
    assert!(app.poisoned().await.is_empty());
}

#[tokio::test]
async fn a_large_order_is_committed_like_any_other() {
    let app = App::start().await;
    let lines: Vec<_> =
        (0..1_200).map(|n| format!(r#"{{"sku":"SKU-{n:05}","quantity":{n},"price":{n}.95}}"#)).collect();
    let message = format!(r#"{{"id":"large","lines":[{}]}}"#, lines.join(","));
    assert!(message.len() > 60_000, "{}", message.len());
    assert!(app.send(&message).await.succeeded);
    assert!(app.send(&message).await.logs[0].starts_with("Duplicate"));
    app.drain().await;
    assert_eq!(app.rows().await.len(), 1);
}

#[tokio::test]
async fn an_order_with_one_event_costs_three_requests_and_a_duplicate_two() {
    let app = App::start().await;
    app.send(r#"{"id":"warm-up: creates table and queue"}"#).await;
    assert_eq!(app.tables.kinds(), [Kind::Batch, Kind::CreateTable, Kind::Batch, Kind::Delete]);
    app.forget_requests();
    app.send(ORDER).await;
    assert_eq!((app.tables.kinds(), app.puts()), (vec![Kind::Batch, Kind::Delete], 1));
    app.forget_requests();
    app.send(ORDER).await;
    assert_eq!((app.tables.kinds(), app.puts()), (vec![Kind::Batch, Kind::GetEntity], 0));
    app.forget_requests();
    app.send("not an order").await;
    assert_eq!((app.tables.kinds(), app.puts()), (vec![], 0));
}

/// Sends a message that must be quarantined for `reason`, and takes it off the quarantine queue again.
async fn check_quarantined(app: &App, message: &str, reason: &str) {
    let invocation: Invocation = app.send(message).await;
    assert!(invocation.succeeded, "{message}: {invocation:?}");
    app.drain().await;
    let quarantined = app.account.receive("orders-quarantine", 32, Duration::from_secs(60)).await.unwrap();
    assert_eq!(quarantined.len(), 1, "{message}");
    let envelope: serde_json::Value = serde_json::from_str(&quarantined[0].text).unwrap();
    assert_eq!(envelope["reason"], reason, "{message}: {envelope}");
    assert_eq!(envelope["message"], message);
    assert_eq!(envelope["invocation_id"], invocation.id.to_string());
    assert!(!envelope["detail"].as_str().unwrap().is_empty());
    assert!(["time", "first_seen"].iter().all(|time| envelope[time].as_str().unwrap().starts_with("20")));
    assert_eq!((&envelope["dequeue_count"], &envelope["part"]), (&json!(1), &json!(null)));
    let never = quarantined[0].expires - quarantined[0].inserted;
    assert!(never > time::Duration::days(365), "it stays until it is taken");
    app.account.delete("orders-quarantine", &quarantined[0]).await.unwrap();
    assert!(app.poisoned().await.is_empty(), "{message}");
    assert!(app.lines_with(QUEUE).iter().all(|line| !line.contains("Failed")));
}

/// Breaks a text as the command `base64` does, but after fewer characters.
fn in_lines(text: &str) -> String {
    let lines = text.as_bytes().chunks(19).map(String::from_utf8_lossy);
    lines.map(|line| format!("{line}\r\n")).collect()
}

async fn assert_nothing_else(app: &App) {
    assert!(app.quarantined().await.is_empty());
    assert!(app.poisoned().await.is_empty());
    assert_eq!(app.account.queue_length("orders").await.unwrap(), 0);
}
