//! Processor time of an order, piece by piece and without a network.
//!
//! `cargo bench --package benches`. Beside the times stand the allocations of one call, which do not depend on the
//! machine. `cargo load` measures the same from outside, with the sockets.

#![allow(clippy::unwrap_used, reason = "a bench that cannot begin may panic")]

use async_trait::async_trait;
use azure_core::{
    HttpClient, Request, Response, StatusCode,
    headers::{HeaderName, Headers},
};
use benches::case;
use bytes::Bytes;
use criterion::Criterion;
use handler::{
    attempt::Attempt,
    crash_note::CrashNote,
    functions::queue_with_idempotency::{Decided, read_and_decide},
    idempotency::{Fingerprint, Key, Ledger, record::rows},
    json::Object,
    message,
    protocol::{invocation::queue_message, response},
    storage::{Account, MessageEncoding, Queue, RowTag, Table, batch},
};
use order::DOMAIN;
use serde_json::{Value, json};
use std::{hint::black_box, sync::Arc, time::Duration};
use time::macros::datetime;
use tokio::runtime::Runtime;

/// Lines that make an order of about 2 KiB, and of almost 64 KiB, the most that a queue message can hold.
const MEDIUM_LINES: usize = 17;
const LARGE_LINES: usize = 640;

#[path = "../tests/domain/order.rs"]
mod order;

const ETAG: &str = "W/\"datetime'2026-11-21T10%3A20%3A00.1234567Z'\"";
const BATCH_TYPE: &str = "multipart/mixed; boundary=batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";

fn main() {
    let criterion = Criterion::default().sample_size(50);
    let criterion = criterion.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let mut criterion = criterion.configure_from_args();
    let small = json!({ "id": "order-123", "amount": 42 });
    for (size, order) in [("small", small), ("2 KiB", order(MEDIUM_LINES)), ("64 KiB", order(LARGE_LINES))] {
        bench_order(&mut criterion, size, &order.to_string());
    }
    let attempt = new_attempt();
    bench_batch(&mut criterion, &attempt);
    bench_storage(&mut criterion, &attempt);
    criterion.final_summary();
}

/// Decode, decide, encode: the whole chain, and each link of it.
fn bench_order(criterion: &mut Criterion, size: &str, message: &str) {
    let (body, attempt) = (invocation(message), new_attempt());
    let mut case = |name: &str, work: &mut dyn FnMut()| case(criterion, &format!("{size}: {name}"), work);
    case("whole chain", &mut || drop(black_box(chain(&body, &attempt))));

    let object = Object::parse(message).unwrap();
    let logs = ["Processing idempotent message id=order-123 payload={\"id\":\"order-123\",\"amount\":42}".to_owned()];
    let receipt = read_and_decide(&DOMAIN, MessageEncoding::Base64, message, &attempt).unwrap().operation.receipt;
    case("protocol::invocation::queue_message", &mut || drop(black_box(queue_message(&body))));
    case("queue_with_idempotency::read_and_decide", &mut || {
        drop(black_box(read_and_decide(&DOMAIN, MessageEncoding::Base64, message, &attempt)));
    });
    let crash_note = CrashNote::open(&std::env::temp_dir(), "bench");
    case("crash_note::CrashNote::guard", &mut || {
        black_box(crash_note.guard(message, || ()));
    });
    case("json::Object::parse", &mut || drop(black_box(Object::parse(message))));
    case("idempotency::Key::new", &mut || drop(black_box(Key::new(DOMAIN.scope, "order-123"))));
    case("idempotency::Fingerprint::new", &mut || drop(black_box(Fingerprint::new(&object, &["id"]))));
    case("message::printable", &mut || drop(black_box(message::printable(&object, "id", DOMAIN.printable))));
    case("protocol::response::success", &mut || drop(black_box(response::success(Some(&receipt), &logs))));
}

/// All that happens to an order but the requests and the log.
fn chain(body: &[u8], attempt: &Attempt) -> (Decided, actix_web::HttpResponse) {
    let message = queue_message(body).unwrap();
    let decided = read_and_decide(&DOMAIN, MessageEncoding::Base64, &message.text, attempt).unwrap();
    let logs = [format!("Processing idempotent message id={} payload={}", decided.id, decided.printable)];
    let response = response::success(Some(&decided.operation.receipt), &logs);
    (decided, response)
}

/// The batch that commits an order with one event: made, made strict, and its answer read.
fn bench_batch(criterion: &mut Criterion, attempt: &Attempt) {
    let runtime = runtime();
    let table = Table::new(&account(), "idempotency", canned(StatusCode::Accepted, BATCH_TYPE, batch_answer()));
    let decide = || {
        let decided = read_and_decide(&DOMAIN, MessageEncoding::Base64, r#"{"id":"order-123","amount":42}"#, attempt);
        decided.unwrap().operation
    };
    let operation = decide();
    let retention = time::Duration::days(30);
    let rows = || rows(&operation, attempt.began, retention);
    case(criterion, "batch: rows", rows);
    let (rows, answer) = (rows(), batch_answer());
    case(criterion, "batch: storage::Table::insert_all", || runtime.block_on(table.insert_all(&rows)).unwrap());
    case(criterion, "batch: storage::batch::check_answer", || batch::check_answer(BATCH_TYPE, &answer, 3).unwrap());
    let ledger = Ledger::new(table, retention, false);
    let decide_and_commit = || runtime.block_on(ledger.commit(&mut decide(), attempt)).unwrap();
    case(criterion, "batch: decide, and idempotency::Ledger::commit", decide_and_commit);
}

/// The two requests that publish an event.
fn bench_storage(criterion: &mut Criterion, attempt: &Attempt) {
    let runtime = runtime();
    let queue = Queue::new(&account(), "order-events", canned(StatusCode::Created, "application/xml", Bytes::new()));
    let operation = read_and_decide(&DOMAIN, MessageEncoding::Base64, r#"{"id":"order-123","amount":42}"#, attempt)
        .unwrap()
        .operation;
    let (key, commit_id, events) = (operation.key, operation.commit_id, operation.events);
    case(criterion, "publish: storage::Queue::put", || runtime.block_on(queue.put(&events[0])).unwrap());
    let table = Table::new(&account(), "idempotency", canned(StatusCode::NoContent, "text/plain", Bytes::new()));
    let (partition_key, row) =
        (key.partition_key(), RowTag { row_key: key.outbox_row_key(&commit_id, 0), etag: ETAG.to_owned() });
    let delete = || runtime.block_on(table.delete_all(&partition_key, &[&row])).unwrap();
    case(criterion, "publish: storage::Table::delete_all", delete);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn account() -> Account {
    Account::from_connection_string("AccountName=shop;AccountKey=a2V5").unwrap()
}

fn new_attempt() -> Attempt {
    let id = "5b0c1f4e-8c1f-4c55-9d6e-0f2c8b7d1a90".to_owned();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
    Attempt::new(id, datetime!(2026-11-21 10:20:00.1234567 UTC), deadline, 1)
}

fn order(lines: usize) -> Value {
    let line = |number: usize| {
        json!({
            "sku": format!("SKU-{number:06}"),
            "name": "Kaffeemühle \"Zoë\", 350 ml",
            "quantity": number % 7 + 1,
            "price": "19.90",
            "gift": number.is_multiple_of(5),
        })
    };
    json!({
        "id": "order-123",
        "amount": 1234.5,
        "customer": { "name": "Zoë Ångström", "email": "zoe@example.com", "city": "Göteborg" },
        "lines": (0..lines).map(line).collect::<Vec<_>>(),
    })
}

/// A message as the host posts it: JSON in a JSON string.
fn invocation(message: &str) -> Vec<u8> {
    let body = json!({
        "Data": { "msg": Value::from(message).to_string() },
        "Metadata": {
            "DequeueCount": "1",
            "ExpirationTime": "2026-11-28T10:15:30+00:00",
            "Id": "\"order-123\"",
            "InsertionTime": "2026-11-21T10:15:30+00:00",
            "NextVisibleTime": "2026-11-21T10:16:00+00:00",
            "PopReceipt": "\"AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=\"",
            "sys": { "MethodName": "queue_with_idempotency", "UtcNow": "2026-11-21T10:15:31.2103812Z" },
            "amount": "\"42\"",
        },
    });
    body.to_string().into_bytes()
}

/// The answer to a batch of a record, its index row and an event, as the service gives it: with the entities, byte for byte.
fn batch_answer() -> Bytes {
    let mut body = "--batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11\r\n\
         Content-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
        .to_owned();
    let (entity, text) =
        ("https://shop.table.core.windows.net/idempotency(PartitionKey='b',RowKey='r')", "x".repeat(400));
    for _ in 0..3 {
        body += &format!(
            "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
             HTTP/1.1 201 Created\r\nContent-Type: application/json;odata=fullmetadata;streaming=true;charset=utf-8\r\n\
             DataServiceVersion: 3.0;\r\nLocation: {entity}\r\nETag: {ETAG}\r\n\r\n{{\"odata.id\":\"{entity}\",\"body\":\"{text}\"}}\r\n"
        );
    }
    (body + "--changesetresponse_1--\r\n--batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11--\r\n").into()
}

/// A service that gives the same answer to everything.
#[derive(Debug)]
struct Canned {
    status: StatusCode,
    headers: Headers,
    body: Bytes,
}

fn canned(status: StatusCode, content_type: &'static str, body: Bytes) -> Arc<Canned> {
    let mut headers = Headers::new();
    for (name, value) in [
        ("content-type", content_type),
        ("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0"),
        ("date", "Sat, 21 Nov 2026 10:20:00 GMT"),
        ("x-ms-version", "2022-11-02"),
        ("x-ms-request-id", "6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90"),
    ] {
        headers.insert(HeaderName::from_static(name), value);
    }
    Arc::new(Canned { status, headers, body })
}

#[async_trait]
impl HttpClient for Canned {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<Response> {
        let body = self.body.clone();
        let body = futures::stream::once(async { Ok(body) });
        Ok(Response::new(self.status, self.headers.clone(), Box::pin(body)))
    }
}
