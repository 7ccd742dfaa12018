//! The request that the handler gets: headers, framing, and a body in which almost everything is encoded twice.

use local_host::{Framing, LocalHost, Options};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    handler::Step,
    rig::{LIMIT, Rig},
};

/// Returns the metadata of the one message that is delivered.
async fn metadata_of(rig: &Rig, message: &str) -> Value {
    let host = rig.start().await;
    host.deliver("orders", message).await.unwrap();
    rig.requests("orders")[0].json()["Metadata"].clone()
}

fn headers<const N: usize>(headers: [(&str, String); N]) -> Vec<(String, String)> {
    headers.map(|(name, value)| (name.to_owned(), value)).into()
}

#[tokio::test]
async fn a_body_comes_with_its_length_and_six_headers() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    let invocation = host.deliver("orders", "x").await.unwrap();
    let request = &rig.requests("orders")[0];
    assert!(request.head.starts_with("POST /orders HTTP/1.1\r\n"), "{}", request.head);
    let expected = headers([
        ("Content-Length", request.body.len().to_string()),
        ("Content-Type", "application/json; charset=utf-8".to_owned()),
        ("Host", format!("127.0.0.1:{}", host.worker_port())),
        ("User-Agent", "Azure-Functions-Host/4.1037.0.0".to_owned()),
        ("X-Azure-Functions-Hostversion", "4.1037.0.0".to_owned()),
        ("X-Azure-Functions-Invocationid", invocation.id.to_string()),
    ]);
    assert_eq!(request.headers(), expected);
}

#[tokio::test]
async fn a_body_can_come_in_chunks_instead() {
    let rig = Rig::new().await;
    let host = LocalHost::start(Options { framing: Framing::Chunked, ..rig.options() }).await.unwrap();
    host.deliver("orders", "x").await.unwrap();
    let request = &rig.requests("orders")[0];
    assert_eq!(request.header("Transfer-Encoding").as_deref(), Some("chunked"));
    assert_eq!((request.header("Content-Length"), request.headers().len()), (None, 6));
    assert_eq!(request.json()["Data"]["msg"], r#""x""#);
}

#[tokio::test]
async fn a_request_carries_a_trace_of_its_own_when_application_insights_is_set_up() {
    let rig = Rig::new().await;
    let mut options = rig.options();
    options.settings.insert("APPLICATIONINSIGHTS_CONNECTION_STRING".to_owned(), "InstrumentationKey=0".to_owned());
    let host = LocalHost::start(options).await.unwrap();
    for _ in 0..2 {
        host.deliver("orders", "x").await.unwrap();
    }
    let traces: Vec<_> = rig.requests("orders").iter().map(|request| request.header("traceparent").unwrap()).collect();
    let lengths: Vec<_> = traces[0].split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2], "{traces:?}");
    assert_ne!(traces[0], traces[1]);
}

#[tokio::test]
async fn a_queue_message_is_sent_to_the_letter() {
    let rig = Rig::new().await;
    rig.account.put("in-queue", "say \"hi\" \\ Zoë\n<&>").await.unwrap();
    let on_queue = rig.account.peek("in-queue").await.unwrap().remove(0);
    let start = OffsetDateTime::now_utc();
    let host = rig.start().await;
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let end = OffsetDateTime::now_utc();
    let request = &rig.requests("orders")[0];
    let metadata = &request.json()["Metadata"];
    let [expires, id, inserted, visible, receipt] =
        ["ExpirationTime", "Id", "InsertionTime", "NextVisibleTime", "PopReceipt"].map(|name| &metadata[name]);
    let (time, random) = (&metadata["sys"]["UtcNow"], &metadata["sys"]["RandGuid"]);
    let expected = format!(
        r#"{{"Data":{{"msg":"\"say \\\"hi\\\" \\\\ Zoë\\n<&>\""}},"Metadata":{{"DequeueCount":"1","ExpirationTime":{expires},"Id":{id},"InsertionTime":{inserted},"NextVisibleTime":{visible},"PopReceipt":{receipt},"sys":{{"MethodName":"orders","UtcNow":{time},"RandGuid":{random}}}}}}}"#
    );
    assert_eq!(request.body, expected);
    assert_eq!(*id, json!(format!("\"{}\"", on_queue.id)));
    assert!(receipt.as_str().unwrap().starts_with('"'), "{receipt}");
    let [expires, inserted, visible] = [expires, inserted, visible].map(|time| {
        let time = time.as_str().unwrap();
        assert!(time.len() == 25 && time.ends_with("+00:00"), "{time}");
        OffsetDateTime::parse(time, &Rfc3339).unwrap()
    });
    assert_eq!((inserted, expires), (on_queue.inserted, on_queue.expires));
    // Ten minutes after the receive, in whole seconds.
    let received = visible - time::Duration::minutes(10);
    assert!(start - time::Duration::SECOND < received && received <= end, "{start} {received} {end}");
}

#[tokio::test]
async fn a_message_overwrites_the_metadata_whatever_the_case_and_hides_triggers() {
    let rig = Rig::new().await;
    let message = r#"{"dequeueCount":99,"ID":"mine","SYS":{"MethodName":"x"},"fooTrigger":1,"RetryContext":"forged"}"#;
    let metadata = metadata_of(&rig, message).await;
    assert_eq!(metadata["DequeueCount"], json!("\"99\""));
    assert_eq!(metadata["Id"], json!("\"mine\""));
    assert_eq!(metadata["sys"], json!({ "MethodName": "x" }));
    // Without a retry policy nothing overwrites this one.
    assert_eq!(metadata["RetryContext"], json!("\"forged\""));
    for absent in ["dequeueCount", "ID", "SYS", "fooTrigger"] {
        assert_eq!(metadata[absent], Value::Null, "{absent}");
    }
}

#[tokio::test]
async fn a_timer_without_a_monitor_or_a_policy_gets_neither_status_nor_retry_context() {
    let rig = Rig::new().await;
    rig.write(
        "clock/function.json",
        &json!({ "bindings": [{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "12:00:00", "useMonitor": false }] }),
    );
    let host = rig.start().await;
    host.fire_timer("clock").await.unwrap();
    let body = rig.requests("clock")[0].json();
    let timer = json!({ "Schedule": { "AdjustForDST": false }, "ScheduleStatus": null, "IsPastDue": false });
    assert_eq!(body["Data"], json!({ "timer": timer }));
    assert_eq!(body["Metadata"].as_object().unwrap().keys().collect::<Vec<_>>(), ["sys"]);
}

#[tokio::test]
async fn a_retry_knows_the_failure_before_it_in_kilobytes() {
    let rig = Rig::new().await;
    rig.script("clock", &[Step::Fail]);
    let host = rig.start().await;
    let invocation = host.fire_timer("clock").await.unwrap();
    let contexts: Vec<Value> =
        rig.requests("clock").iter().map(|request| request.json()["Metadata"]["RetryContext"].clone()).collect();
    assert_eq!(contexts.len(), 3);
    for (context, count) in contexts.iter().zip(0..) {
        assert_eq!((&context["RetryCount"], &context["MaxRetryCount"]), (&json!(count), &json!(2)));
    }
    assert_eq!(contexts[0]["Exception"], Value::Null);
    for context in &contexts[1..] {
        let inner = &context["Exception"]["InnerException"];
        let message = "Response status code does not indicate success: 500 (out of paper).";
        assert_eq!((&inner["Message"], &inner["StatusCode"]), (&json!(message), &json!(500)));
        // All attempts of one tick have one id.
        assert_eq!(context["Exception"]["InstanceId"], invocation.id.to_string());
        assert_eq!(context["Exception"]["Timeout"], Value::Null);
        assert!((3_000..4_000).contains(&context["Exception"].to_string().len()));
    }
}

#[tokio::test]
async fn a_retry_after_a_timeout_is_told_the_limit() {
    let rig = Rig::new().await;
    rig.set("host.json", "/functionTimeout", json!("00:00:01"));
    rig.script("clock", &[Step::Hang, Step::Succeed]);
    let host = rig.start().await;
    assert!(host.fire_timer("clock").await.unwrap().succeeded);
    let exception = rig.requests("clock")[1].json()["Metadata"]["RetryContext"]["Exception"].clone();
    assert_eq!(exception["Timeout"], "00:00:01");
    assert_eq!(exception["ClassName"], "Microsoft.Azure.WebJobs.Host.FunctionTimeoutException");
    assert_eq!(exception["Message"], "Timeout value of 00:00:01 was exceeded by function: Functions.clock");
    assert_eq!(exception["InnerException"], Value::Null);
}

#[tokio::test]
async fn a_retry_after_an_unreadable_answer_carries_that_answer() {
    let rig = Rig::new().await;
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10000\r\n\r\n{}", "x".repeat(10_000));
    rig.script("clock", &[Step::Answer(answer.into()), Step::Succeed]);
    let host = rig.start().await;
    assert!(host.fire_timer("clock").await.unwrap().succeeded);
    let exception = rig.requests("clock")[1].json()["Metadata"]["RetryContext"]["Exception"].to_string();
    assert!(exception.contains(&"x".repeat(10_000)), "{} characters", exception.len());
}
