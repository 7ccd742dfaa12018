//! Outages, and messages that end the process: nothing is poisoned, nothing is lost, and no delivery is used up by what is no
//! fault of the message. Times are shorter than by default. `OUTAGE_ORDERS=300 cargo test --test e2e outage -- --nocapture`
//! sends more.

use crate::{
    app::{App, LIMIT, QUEUE, TIMER, options, rows, show_soon, text, write_app},
    host::{Host, costs_a_delivery, local_only},
    promises::Promised,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::join_all;
use local_host::{Invocation, Options};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Instant};
use tempfile::TempDir;
use test_storage::{Fault, FaultProxy, Kind, Request, Service, azurite};

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
/// An order that was there before.
const EARLIER: &str = r#"{"id":"earlier","amount":41}"#;
const EARLIER_RECEIPT: &str = r#"{"id":"earlier","status":"accepted","amount":41}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;

/// A message is held for 5.4 s, and there is as much time to put it back.
const SHORT: (&str, &str) = ("AzureFunctionsJobHost__functionTimeout", "00:00:12");
/// The same with 9 s: long enough for two requests without an answer.
const LONGER: (&str, &str) = ("AzureFunctionsJobHost__functionTimeout", "00:00:20");
/// Time after which the host ends a handler that hangs, less 2 s.
const HANGING: (&str, &str) = ("AzureFunctionsJobHost__functionTimeout", "00:00:06");
/// Messages that a host has in flight: `batchSize` and `newBatchThreshold` of `host.json`.
const IN_FLIGHT: usize = 16 + 8;
/// The table is asked so often by an instance, beside what was under way when it went away.
const PROBES_A_MINUTE: usize = 30;

/// Sends so many orders, and returns what is promised of them.
async fn send(app: &App, count: usize) -> Promised {
    for n in 0..count {
        app.account.put("orders", &format!(r#"{{"id":"order-{n:03}","amount":{n}}}"#)).await.unwrap();
    }
    let receipts = (0..count).map(|n| format!(r#"{{"id":"order-{n:03}","status":"accepted","amount":{n}}}"#)).collect();
    Promised { receipts, quarantined: BTreeSet::new() }
}

fn orders(default: usize) -> usize {
    std::env::var("OUTAGE_ORDERS").ok().map_or(default, |orders| orders.parse().unwrap())
}

fn is_given_back(invocation: &Invocation) -> bool {
    invocation.succeeded && invocation.logs.iter().any(|line| line.starts_with("Given back: the table is away: "))
}

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), String::new())
}

/// Lets the table be away until two rounds of messages were given back. Without a fault, connections are refused.
async fn outlast(fault: Option<Fault>, limit: (&str, &str)) {
    let app = App::start_with(&[limit]).await;
    app.send(EARLIER).await;
    app.forget_requests();
    match fault.clone() {
        Some(fault) => app.tables.fail_all(fault),
        None => app.tables.close(),
    }
    let start = Instant::now();
    let mut promised = send(&app, orders(60)).await;
    promised.receipts.insert(EARLIER_RECEIPT.to_owned());
    app.host.poll_now();
    let rounds =
        |all: &[Invocation]| all.iter().filter(|invocation| is_given_back(invocation)).count() >= 2 * IN_FLIGHT;
    app.host.wait_for(rounds, LIMIT).await.unwrap();
    let (asked, given_back) = (app.tables.requests().len(), app.host.invocations().len() - 1);
    let minutes = start.elapsed().as_secs() as usize / 60 + 1;
    assert!(asked <= IN_FLIGHT + PROBES_A_MINUTE * minutes, "{fault:?}: {asked} requests in {:?}", start.elapsed());
    let warnings = app.lines_with("WARN Storage away: table since 20").len();
    assert!((1..=minutes).contains(&warnings), "one a minute: {warnings}");
    println!("{fault:?}: {asked} requests to the table, {given_back} given back in {:.1?}", start.elapsed());

    let back = Instant::now();
    app.tables.lift();
    if app.tables.is_closed() {
        app.tables.open().await.unwrap();
    }
    app.drain().await;
    println!("{fault:?}: all committed {:.1?} after its return", back.elapsed());
    let all = app.host.invocations();
    let costly = all.iter().find(|invocation| costs_a_delivery(invocation));
    assert!(costly.is_none(), "{fault:?}: a delivery was used up: {costly:?}");
    promised.check(&app.account, Vec::new()).await.unwrap();
    app.host.wait_for_line("WARN Storage back: table, away since 20", LIMIT).await.unwrap();
}

#[tokio::test]
async fn an_outage_of_the_table_is_held_and_given_back_and_costs_no_delivery() {
    let faults = [Some(status(403)), Some(status(400)), Some(status(503)), None].map(|fault| (fault, SHORT));
    let faults = faults.into_iter().chain([(Some(Fault::Hang), LONGER)]);
    join_all(faults.map(|(fault, limit)| outlast(fault, limit))).await;
}

#[tokio::test]
async fn a_healthy_host_gets_what_a_sick_one_held() {
    local_only!("it asks which host answered what");
    let app = App::start_with(&[SHORT]).await;
    app.send(EARLIER).await;
    let sick_tables = FaultProxy::start(&app.account, Service::Table).await.unwrap();
    sick_tables.fail_all(status(403));
    let account = app.queues.account(&sick_tables.account(&app.account));
    let sick = Host::start(options(&account, &[SHORT])).await.unwrap();
    sick.ready().await.unwrap();
    let mut promised = send(&app, orders(200)).await;
    promised.receipts.insert(EARLIER_RECEIPT.to_owned());
    let is_taken_over = |invocation: &Invocation| {
        let Some(Value::String(receipt)) = &invocation.return_value else { return false };
        let receipt: Value = serde_json::from_str(receipt).unwrap();
        app.queues.requests().iter().any(|request| puts_back(request, receipt["id"].as_str().unwrap()))
    };
    app.host.wait_for(|all| all.iter().any(is_taken_over), LIMIT).await.unwrap();
    assert!(sick.invocations().iter().all(is_given_back), "{:?}", sick.invocations());
    // Which host gets the last orders is a matter of chance, for as long as both ask for them.
    sick_tables.lift();
    for host in [&app.host, &sick] {
        host.drain(&app.account, "orders", LIMIT).await.unwrap();
    }
    let all = [app.host.invocations(), sick.invocations()].concat();
    let costly = all.iter().find(|invocation| costs_a_delivery(invocation));
    assert!(costly.is_none(), "a delivery was used up: {costly:?}");
    app.published().await;
    promised.check(&app.account, Vec::new()).await.unwrap();
}

fn puts_back(request: &Request, id: &str) -> bool {
    let is_put = request.kind == Kind::PutMessage && request.target.contains("/orders/");
    is_put && String::from_utf8_lossy(&request.body).contains(id)
}

/// Sends a message that ends the process among others.
async fn survive(misdeed: &str, instances: usize, is_away_first: bool) {
    let folder = tempfile::tempdir().unwrap();
    let limit = if misdeed == "hangs" { HANGING } else { SHORT };
    let changes = [limit, ("TMPDIR", folder.path().to_str().unwrap())];
    let app = App::start_with(&changes).await;
    let mut others = Vec::new();
    for _ in 1..instances {
        let account = app.queues.account(&app.tables.account(&app.account));
        let other = Host::start(options(&account, &changes)).await.unwrap();
        other.ready().await.unwrap();
        others.push(other);
    }
    if is_away_first {
        app.tables.fail_all(status(503));
    }
    let killer = format!(r#"{{"id":"killer","handler":"{misdeed}"}}"#);
    app.account.put("orders", &killer).await.unwrap();
    let mut promised = send(&app, IN_FLIGHT - 1).await;
    promised.quarantined.insert(killer);
    let start = Instant::now();
    if is_away_first {
        app.host.wait_for(|all| all.len() >= IN_FLIGHT, LIMIT).await.unwrap();
        app.tables.lift();
    }
    for host in others.iter().chain([&app.host]) {
        host.drain(&app.account, "orders", LIMIT).await.unwrap();
    }
    let deliveries: usize = others.iter().chain([&app.host]).map(|host| host.invocations().len()).sum();
    println!("{misdeed}, {instances} instances: {deliveries} deliveries, settled after {:.1?}", start.elapsed());
    let reasons: Vec<_> = app.quarantined().await.iter().map(|envelope| envelope["reason"].clone()).collect();
    assert_eq!(reasons, ["exhausted"]);
    app.age().await;
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded, "it publishes what the dead left behind");
    promised.check(&app.account, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_message_that_ends_the_process_is_quarantined_and_takes_no_other_along() {
    let cases =
        [("aborts", 1, false), ("aborts", 4, false), ("aborts", 1, true), ("hangs", 1, false), ("hangs", 2, false)];
    join_all(cases.map(|(misdeed, instances, is_away_first)| survive(misdeed, instances, is_away_first))).await;
}

/// Copies the files of the app with changes to `host.json` and `function.json`.
fn app_files(change: impl Fn(&mut Value, &mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_app(folder.path(), change);
    folder
}

#[tokio::test]
async fn a_rejected_message_is_kept_whatever_output_bindings_there_are() {
    for name in ["quarantine", "renamed"] {
        let output = json!({ "type": "queue", "direction": "out", "name": name, "queueName": "orders-quarantine", "connection": "AzureWebJobsStorage" });
        let files = app_files(|_, function| function["bindings"].as_array_mut().unwrap().push(output.clone()));
        let account = azurite::shared().await.unwrap().account().unwrap();
        let options = Options { app_root: files.path().to_owned(), ..options(&account, &[]) };
        let host = Host::start(options).await.unwrap();
        assert!(host.deliver(QUEUE, "no order").await.unwrap().succeeded);
        let kept = account.peek("orders-quarantine").await.unwrap();
        assert_eq!(kept.len(), 1);
        let envelope: Value = serde_json::from_str(&kept[0].text).unwrap();
        assert_eq!((&envelope["reason"], &envelope["message"]), (&json!("invalid_json"), &json!("no order")));
    }
}

#[tokio::test]
async fn queues_are_named_and_encoded_as_the_files_of_the_app_say() {
    let files = app_files(|host, function| {
        host["extensions"]["queues"]["messageEncoding"] = "base64".into();
        function["bindings"][0]["queueName"] = "Shop-%PLACE%".into();
    });
    let account = azurite::shared().await.unwrap().account().unwrap();
    let tables = FaultProxy::start(&account, Service::Table).await.unwrap();
    tables.fail_all(status(503));
    let queues = FaultProxy::start(&account, Service::Queue).await.unwrap();
    queues.set_rule(show_soon(account.sas().to_owned()));
    let options = options(&queues.account(&tables.account(&account)), &[SHORT, ("PLACE", "orders")]);
    let host = Host::start(Options { app_root: files.path().to_owned(), ..options }).await.unwrap();
    account.put_base64("shop-orders", ORDER).await.unwrap();
    host.wait_for(|all| all.iter().any(is_given_back), LIMIT).await.unwrap();
    let is_put = |request: &&Request| request.kind == Kind::PutMessage && request.target.contains("/shop-orders/");
    let put = queues.requests().iter().find(is_put).cloned().unwrap();
    assert!(put.target.contains("messagettl=-1"), "{}", put.target);
    assert!(String::from_utf8_lossy(&put.body).contains(&BASE64_STANDARD.encode(ORDER)), "{put:?}");

    tables.lift();
    account.put_base64("shop-orders", "no order").await.unwrap();
    account.put_base64("shop-orders-poison", "given up").await.unwrap();
    host.drain(&account, "shop-orders", LIMIT).await.unwrap();
    assert!(host.fire_timer(TIMER).await.unwrap().succeeded);
    let kept = account.peek("shop-orders-quarantine").await.unwrap();
    let kept = kept.iter().map(|message| serde_json::from_str(&message.text).unwrap());
    let kept: BTreeSet<_> = kept.map(|envelope: Value| envelope["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, ["given up", "no order"].map(str::to_owned).into());
    let records = rows(&account).await.into_iter().filter(|row| row.contains_key("receipt"));
    assert_eq!(records.map(|row| text(&row, "receipt")).collect::<Vec<_>>(), [RECEIPT]);
    for queue in ["orders", "orders-quarantine", "shop-orders-poison"] {
        assert_eq!(account.queue_length(queue).await.unwrap(), 0, "{queue}");
    }
}

#[tokio::test]
async fn a_table_deleted_while_in_use_is_an_outage_and_no_empty_memory() {
    let app = App::start_with(&[SHORT]).await;
    app.send(ORDER).await;
    app.account.delete_table("idempotency").await.unwrap();
    app.forget_requests();
    assert!(is_given_back(&app.send(ORDER).await));
    app.host.wait_for_line("WARN Storage away: table since 20", LIMIT).await.unwrap();
    assert_eq!(app.lines_with("last error: storage answered 404 TableNotFound").len(), 1);
    assert!(!app.tables.kinds().contains(&Kind::CreateTable), "{:?}", app.tables.kinds());
    // As an operator does, who accepts that every id is new.
    app.account.create_table("idempotency").await.unwrap();
    app.drain().await;
    assert_eq!(app.receipts().await, [RECEIPT]);
}

#[tokio::test]
async fn what_the_host_gave_up_is_moved_to_quarantine_as_it_was() {
    let settings = ["maxDequeueCount", "visibilityTimeout"]
        .map(|name| format!("AzureFunctionsJobHost__extensions__queues__{name}"));
    let app = App::start_with(&[(&settings[0], "1"), (&settings[1], "00:00:00")]).await;
    app.fail_orders(status(400));
    assert!(!app.send(ORDER).await.succeeded);
    app.drain().await;
    assert_eq!(app.poisoned().await, [ORDER]);
    app.tables.lift();
    // More than one receive returns.
    let given_up = |n: usize| format!("{{\"n\": {n}, \"text\": \"<&>\\u20ac €\"}} \r\n");
    for n in 0..40 {
        app.account.put("orders-poison", &given_up(n)).await.unwrap();
    }
    assert!(app.host.fire_timer(TIMER).await.unwrap().succeeded);
    app.host.wait_for_line("WARN State: orders=0 orders-poison=0 orders-quarantine=41 ", LIMIT).await.unwrap();
    assert!(app.quarantined().await.iter().all(|envelope| envelope["reason"] == "exhausted"));
    let quarantined = (0..40).map(given_up).chain([ORDER.to_owned()]).collect();
    Promised { receipts: BTreeSet::new(), quarantined }.check(&app.account, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn two_copies_of_a_message_stay_two_and_take_effect_once() {
    local_only!("it asks what was answered, and why not");
    let app = App::start_with(&[SHORT]).await;
    app.send(EARLIER).await;
    app.tables.fail_all(status(503));
    let mut is_lost = false;
    app.queues.set_rule(move |request| {
        let is_put_back = request.kind == Kind::PutMessage && request.target.contains("/orders/");
        if is_put_back && !std::mem::replace(&mut is_lost, true) { Fault::DropReply } else { Fault::Pass }
    });
    app.account.put("orders", ORDER).await.unwrap();
    app.host.poll_now();
    app.host.wait_for(|all| all.iter().filter(|one| is_given_back(one)).count() >= 3, LIMIT).await.unwrap();
    app.tables.lift();
    app.drain().await;
    let all = app.host.invocations();
    let failed: Vec<_> = all.iter().filter(|invocation| !invocation.succeeded).map(|one| &one.reason).collect();
    assert_eq!(failed, [&Some("Storage is away and the message cannot be put back".to_owned())]);
    let mut ends: Vec<_> =
        all[1..].iter().filter(|one| one.return_value.is_some()).map(|one| &one.logs[0][..9]).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["Duplicate", "Processin"]);
    assert_eq!(app.receipts().await.len(), 2);
}
