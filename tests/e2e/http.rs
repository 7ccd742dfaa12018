//! The HTTP side of the handler, spoken to directly: what is served, what is not, and what survives.

use crate::{
    app::{App, LIMIT, text},
    host::local_only,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn invocation(message: &str) -> String {
    json!({ "Data": { "msg": serde_json::to_string(message).unwrap() }, "Metadata": {} }).to_string()
}

async fn post(app: &App, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
    request(app, path).body(body).send().await.unwrap()
}

fn request(app: &App, path: &str) -> reqwest::RequestBuilder {
    let url = format!("http://127.0.0.1:{}{path}", app.host.local().worker_port());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.post(url).header("content-type", "application/json")
}

/// Sends bytes as they are and reads what comes until the connection is closed.
async fn raw(app: &App, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn only_the_functions_are_served_and_only_by_post() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    for request in [
        "POST /",
        "POST /unknown",
        "GET /queue_with_idempotency",
        "PUT /queue_with_idempotency",
        "GET /scheduled_with_retry",
        "POST /queue_with_idempotency/more",
        "POST /api/queue_with_idempotency",
    ] {
        let request =
            format!("{request} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404 No such function\r\n"), "{request}: {answer}");
        assert!(answer.contains("only POST /queue_with_idempotency and POST /scheduled_with_retry"), "{answer}");
    }
    let answer = raw(&app, b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nready\n"), "{answer}");
}

#[tokio::test]
async fn an_invocation_that_cannot_be_decoded_fails_and_says_where() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    for (body, place) in [
        ("{}", "at .: "),
        (r#"{"Data":{},"Metadata":{}}"#, "at Data: "),
        (r#"{"Data":{"msg":null}}"#, "at Data.msg: "),
        ("", "cannot be decoded"),
        ("\u{0}\u{1}", "cannot be decoded"),
    ] {
        let answer = post(&app, "/queue_with_idempotency", body).await;
        assert_eq!(answer.status(), 500, "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(place), "{body}: {text}");
    }
    let answer = post(&app, "/scheduled_with_retry", r#"{"Data":{"timer":{"IsPastDue":3}}}"#).await;
    assert!(answer.text().await.unwrap().contains("at Data.timer.IsPastDue: "));
    assert!(app.rows().await.is_empty());
}

#[tokio::test]
async fn an_order_belongs_to_the_trace_of_its_message_or_else_of_its_invocation() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let trace = |id: char| format!("00-{}-b7ad6b7169203331-01", String::from(id).repeat(32));
    let (sent, called) = (trace('a'), trace('b'));
    for (message, header, expected) in [
        (json!({ "id": "both", "traceparent": sent }), called.as_str(), json!(sent)),
        (json!({ "id": "header", "traceparent": "none" }), called.as_str(), json!(called)),
        (json!({ "id": "malformed" }), &called[1..], Value::Null),
        (json!({ "id": "not text" }), "\u{e9}", Value::Null),
    ] {
        let request = request(&app, "/queue_with_idempotency").header("traceparent", header);
        let answer = request.body(invocation(&message.to_string())).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{message}");
        app.published().await;
        let event = app.events().await.into_iter().find(|event| event["subject"] == message["id"]).unwrap();
        let records = app.records().await;
        let record =
            records.iter().find(|record| text(record, "receipt").contains(&message["id"].to_string())).unwrap();
        let stored = record.get("traceparent").cloned().unwrap_or_default();
        assert_eq!((&stored, &event["traceparent"]), (&expected, &expected), "{message}");
    }
}

#[tokio::test]
async fn bodies_of_a_mebibyte_are_taken_in_both_framings() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let mut envelope: Value = serde_json::from_str(&invocation(r#"{"id":"order-123"}"#)).unwrap();
    envelope["Metadata"]["note"] = "n".repeat(1024 * 1024).into();
    let body = envelope.to_string();
    assert_eq!(post(&app, "/queue_with_idempotency", body.clone()).await.status(), 200);

    let chunked = format!(
        "POST /queue_with_idempotency HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answer = raw(&app, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Duplicate message detected"), "{answer}");
    app.published().await;
    assert_eq!(app.rows().await.len(), 1);
}

#[tokio::test]
async fn a_body_beyond_the_limit_fails_and_the_process_goes_on() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let answer = post(&app, "/queue_with_idempotency", "x".repeat(3 * 1024 * 1024)).await;
    assert_eq!(answer.status(), 500);
    assert!(answer.text().await.unwrap().contains("did not arrive whole"));
    assert!(app.send(r#"{"id":"order-123"}"#).await.succeeded);
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let body = invocation(r#"{"id":"order-123"}"#);
    let head = "POST /queue_with_idempotency HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n";
    let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    drop(socket);
    assert!(app.send(r#"{"id":"order-124"}"#).await.succeeded);
    assert_eq!(app.receipts().await, [r#"{"id":"order-124","status":"accepted"}"#]);
}

#[tokio::test]
async fn requests_in_one_connection_are_answered_in_order() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let request = |id: &str, close: &str| {
        let body = invocation(&format!(r#"{{"id":"{id}"}}"#));
        format!(
            "POST /queue_with_idempotency HTTP/1.1\r\nhost: 127.0.0.1\r\n{close}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let pipelined = request("first", "") + &request("second", "connection: close\r\n");
    let answer = raw(&app, pipelined.as_bytes()).await;
    let (first, second) = (answer.find("id=first").unwrap(), answer.find("id=second").unwrap());
    assert!(first < second && answer.matches("HTTP/1.1 200 OK").count() == 2, "{answer}");
    app.published().await;
    assert_eq!(app.rows().await.len(), 2);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_pool_of_the_host_and_an_unfinished_request_does_not() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    tokio::join!(idle_connection(&app), unfinished_request(&app));
}

async fn idle_connection(app: &App) {
    let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    let probe = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let mut answer = [0; 1024];
    for pause in [Duration::ZERO, Duration::from_secs(65)] {
        tokio::time::sleep(pause).await;
        socket.write_all(probe).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

/// Checks that a client that stops in the middle of the head is told so after a minute.
async fn unfinished_request(app: &App) {
    let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    socket.write_all(b"POST /queue_with_idempotency HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408 Request Timeout\r\n"), "{}", String::from_utf8_lossy(&answer));
}
