//! The page of `cargo start`: whom it answers, what it shows of a storage alone, and that it knows a broken promise from
//! one that is being kept. Its buttons are pressed in a browser: see `page/test.mjs`.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

#[path = "../src/page/ledger.rs"]
mod ledger;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use test_storage::{Account, Row};

use crate::ledger::Ledger;

/// A running `cargo start --host none`. Storage ends with it, however it ends.
struct Page {
    child: Child,
    _output: BufReader<ChildStdout>,
    address: String,
    account: Account,
    client: Client,
}

impl Page {
    fn new() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dev"));
        let mut child = command
            .args(["start", "--free-ports", "--host", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map(Result::unwrap);
        let address = lines.next().unwrap().strip_prefix("Page:      ").unwrap().to_owned();
        let connection = lines.find(|line| line.contains("AccountName=")).unwrap();
        let account = Account::from_connection_string(connection.trim()).unwrap();
        Self { child, _output: output, address, account, client: Client::builder().no_proxy().build().unwrap() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    /// Presses a button as the page does, as soon as it can be pressed.
    async fn press(&self, button: &str) -> String {
        loop {
            let request = self.request(Method::POST, &format!("/press/{button}")).header("origin", &self.address);
            let answer = request.send().await.unwrap();
            let (status, said) = (answer.status(), answer.text().await.unwrap());
            if !said.contains("still starting") {
                return format!("{} {said}", status.as_u16());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the page shows of the promise that no message is lost what it should, and returns all that it shows.
    async fn shows(&self, state: &str, detail: &str) -> Value {
        let mut events = self.request(Method::GET, "/events").send().await.unwrap();
        assert_eq!(events.headers()["content-type"], "text/event-stream");
        loop {
            let shown = event(&mut events).await;
            let promise = &shown["promises"][1];
            if promise["state"] == state && promise["detail"].as_str().unwrap().contains(detail) {
                return shown;
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn event(events: &mut Response) -> Value {
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n") {
        text.extend(events.chunk().await.unwrap().unwrap());
    }
    // A chunk may hold several.
    let text = String::from_utf8(text).unwrap();
    serde_json::from_str(text.trim().rsplit("data: ").next().unwrap()).unwrap()
}

#[tokio::test]
async fn it_answers_only_to_itself_and_loads_nothing() {
    let page = Page::new();
    let port = page.address.rsplit(':').next().unwrap();
    let answer = page.request(Method::GET, "/").send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-") && !policy.contains("unsafe"), "{policy}");
    let nonce = policy.split("nonce-").nth(1).unwrap().split('\'').next().unwrap();
    let html = answer.text().await.unwrap();
    assert_eq!(html.matches(&format!(r#"nonce="{nonce}""#)).count(), 2, "style and script");
    assert!(
        ["http:", "https:", "src=", "url("].iter().all(|outside| !html.contains(outside)),
        "a request to the outside"
    );

    let own = page.address.clone();
    let other_name = format!("localhost:{port}");
    type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);
    let cases: [Case<'_>; 9] = [
        (Method::GET, "/", &[("host", &other_name)], 200),
        (Method::GET, "/", &[("host", "rebound.example")], 403),
        (Method::GET, "/events", &[("host", "127.0.0.1:1")], 403),
        (Method::GET, "/events", &[("origin", "https://elsewhere.example")], 403),
        (Method::POST, "/press/order", &[], 403),
        (Method::POST, "/press/order", &[("origin", "null")], 403),
        (Method::POST, "/press/order", &[("origin", "http://127.0.0.1:1")], 403),
        (Method::GET, "/press/order", &[("origin", &own)], 404),
        (Method::GET, "/elsewhere", &[], 404),
    ];
    for (method, path, headers, expected) in cases {
        let request =
            headers.iter().fold(page.request(method, path), |request, (name, value)| request.header(*name, *value));
        assert_eq!(request.send().await.unwrap().status(), expected, "{path} {headers:?}");
    }
    assert_eq!(page.account.queue_length("orders").await.unwrap(), 0);
}

#[tokio::test]
async fn over_a_storage_alone_it_misses_what_is_gone_and_says_what_it_cannot_do() {
    let page = Page::new();
    assert!(page.press("kill").await.starts_with("409 needs the local host"));
    assert!(page.press("timer").await.starts_with("409 needs a host"));
    assert!(page.press("order").await.starts_with("200 Sent {\"id\":\"order-"));
    let shown = page.shows("kept", "1 sent, of which 1 on their way").await;
    assert_eq!(shown["counts"]["orders"], 1);
    assert_eq!(shown["promises"][2]["state"], "unchecked");

    let received = page.account.receive("orders", 1, Duration::from_secs(60)).await.unwrap();
    page.account.delete("orders", &received[0]).await.unwrap();
    page.shows("broken", "1 lost").await;
    page.account.create_table("idempotency").await.unwrap();
    page.account.insert_row("idempotency", &record("a", "c")).await.unwrap();
    page.shows("kept", "0 lost").await;

    assert!(page.press("nonsense").await.starts_with("200 Sent"));
    let received = page.account.receive("orders", 1, Duration::from_secs(60)).await.unwrap();
    page.account.delete("orders", &received[0]).await.unwrap();
    page.shows("broken", "1 lost").await;
    page.account.put("orders-quarantine", "{}").await.unwrap();
    page.shows("kept", "0 lost").await;
}

fn row(key: &str, properties: Value) -> Row {
    let Value::Object(mut row) = properties else { panic!("{properties}") };
    row.extend([("PartitionKey".to_owned(), json!("p")), ("RowKey".to_owned(), json!(key))]);
    row
}

/// The record of the order with this hash, committed in the invocation `i`.
fn record(hash: &str, commit: &str) -> Row {
    row(&format!("record~{hash}"), json!({ "commit_id": commit, "invocation": "i", "receipt": "r", "events": 1 }))
}

/// Returns the promises that are broken, by their numbers, with so many messages on the queue.
fn broken(ledger: &Ledger, queued: u64) -> Vec<usize> {
    let promises = ledger.promises(queued);
    assert_eq!(promises.len(), 5);
    (0..5).filter(|number| promises[*number]["state"] != "kept").collect()
}

/// A ledger that has seen an order sent, committed and announced.
fn served() -> Ledger {
    let mut ledger = Ledger::new(true);
    ledger.quarantine(0);
    ledger.read(&[]);
    ledger.sent("order", Some((1, false)));
    assert_eq!((broken(&ledger, 1), broken(&ledger, 0)), (vec![], vec![1]), "it is on the queue, or else lost");
    ledger.invoked("i".to_owned(), 1);
    ledger.read(&[record("a", "c"), row("outbox~a~c~0", json!({}))]);
    assert_eq!(broken(&ledger, 1), [0; 0], "committed, not answered");
    ledger.answered("order", (1, false), "r");
    assert_eq!(broken(&ledger, 0), [0; 0]);
    ledger.read(&[record("a", "c"), row("outbox~a~c~0", json!({}))]);
    assert_eq!(broken(&ledger, 0), [0; 0], "its event waits");
    ledger.published("a-c-0");
    ledger.read(&[record("a", "c")]);
    assert_eq!(broken(&ledger, 0), [0; 0]);
    ledger
}

#[test]
fn each_promise_can_be_broken_and_none_is_while_work_goes_on() {
    type Case<'a> = (&'a str, fn(&mut Ledger), &'a [usize]);
    let cases: [Case<'_>; 11] = [
        ("a copy of an event", |ledger| ledger.published("a-c-0"), &[]),
        ("another event of the same commit", |ledger| ledger.published("a-c-1"), &[]),
        ("an event of another commit", |ledger| ledger.published("a-d-0"), &[0]),
        ("another commit", |ledger| ledger.read(&[record("a", "d")]), &[0]),
        (
            "a record that was forgotten, and is new",
            |ledger| (ledger.read(&[]), ledger.read(&[record("a", "d")])).1,
            &[],
        ),
        ("a message that left no trace", |ledger| ledger.sent("nonsense", None), &[1]),
        ("one in quarantine", |ledger| (ledger.sent("nonsense", None), ledger.kept("nonsense", "missing_id")).1, &[]),
        ("a duplicate with its receipt", |ledger| ledger.answered("again", (1, false), "r"), &[]),
        ("a duplicate with another receipt", |ledger| ledger.answered("again", (1, false), "s"), &[2]),
        ("a conflict that is accepted", |ledger| ledger.answered("other", (1, true), "r"), &[3]),
        (
            "an event that is nowhere, and one whose record is too new to say so",
            |ledger| {
                ledger.read(&[record("a", "c"), record("b", "c")]);
                ledger.read(&[record("a", "c"), record("b", "c"), record("e", "c")]);
            },
            &[4],
        ),
    ];
    for (name, happens, expected) in cases {
        let mut ledger = served();
        happens(&mut ledger);
        assert_eq!(broken(&ledger, 0), expected, "{name}");
    }
}
