//! The queue trigger: when it looks for messages, and how it keeps and lets go of the ones in hand.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use local_host::{LocalHost, Options, Timings, console::Level};
use serde_json::json;
use test_storage::{Fault, FaultProxy, Kind, Received, Request, Service};
use time::OffsetDateTime;

use crate::{
    handler::{Step, succeed},
    rig::{LIMIT, Rig, stopped, until},
};

pub(crate) const QUEUES: &str = "/extensions/queues";

pub(crate) fn is_delete(request: &Request) -> bool {
    request.method == "DELETE" && request.target.contains("/in-queue/messages/")
}

pub(crate) fn is_renewal(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("/in-queue/messages/")
}

fn server_error() -> Fault {
    Fault::Status(500, vec![("x-ms-error-code", "InternalError".to_owned())], String::new())
}

/// Starts a host whose queue requests can be broken.
pub(crate) async fn behind_proxy(rig: &Rig, timings: Timings) -> (FaultProxy, LocalHost) {
    let proxy = FaultProxy::start(&rig.account, Service::Queue).await.unwrap();
    let options = Options { timings, ..rig.options_with(&proxy.account(&rig.account)) };
    let host = LocalHost::start(options).await.unwrap();
    (proxy, host)
}

/// Ends the ten minutes for which a host that is no more has hidden a message.
pub(crate) async fn reveal(rig: &Rig) {
    let metadata = rig.requests("orders").pop().unwrap().json()["Metadata"].clone();
    let inner = |name: &str| serde_json::from_str::<String>(metadata[name].as_str().unwrap()).unwrap();
    let mut message = Received {
        id: inner("Id"),
        pop_receipt: inner("PopReceipt"),
        text: String::new(),
        dequeue_count: 0,
        inserted: OffsetDateTime::UNIX_EPOCH,
        next_visible: OffsetDateTime::UNIX_EPOCH,
        expires: OffsetDateTime::UNIX_EPOCH,
    };
    rig.account.update_visibility("in-queue", &mut message, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_message_is_handled_and_deleted() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    rig.account.put("in-queue", "<hello & \"goodbye\">").await.unwrap();
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let invocation = &host.invocations()[0];
    assert!(invocation.succeeded && invocation.dequeue_count == Some(1), "{invocation:?}");
    assert_eq!(rig.requests("orders")[0].json()["Data"]["msg"], r#""<hello & \"goodbye\">""#);
}

#[tokio::test]
async fn a_failed_message_stays_hidden_for_the_visibility_timeout() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/visibilityTimeout"), json!("00:10:00"));
    rig.script("orders", &[Step::Fail]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    until("the release", async || proxy.requests().iter().any(is_renewal)).await;
    let release = proxy.requests().into_iter().find(is_renewal).unwrap();
    assert!(release.target.contains("visibilitytimeout=600"), "{release:?}");
    let receive = proxy.requests().into_iter().find(|request| request.kind == Kind::GetMessages).unwrap();
    assert!(receive.target.contains("visibilitytimeout=600"), "{receive:?}");
}

#[tokio::test]
async fn a_message_in_hand_is_renewed_with_the_receipt_of_the_last_renewal() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned())]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let timings = Timings { visibility_renewal: Duration::from_millis(50), ..Timings::default() };
    let (proxy, host) = behind_proxy(&rig, timings).await;
    let renewals = || proxy.requests().into_iter().filter(is_renewal).collect::<Vec<_>>();
    until("three renewals", async || renewals().len() >= 3).await;
    rig.release("open");
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let invocations = host.invocations();
    assert!(invocations.len() == 1 && invocations[0].succeeded, "{invocations:?}");
    let mut receipts: Vec<String> = renewals().iter().map(|renewal| receipt(&renewal.target)).collect();
    receipts.push(receipt(&proxy.requests().into_iter().find(is_delete).unwrap().target));
    let count = receipts.len();
    receipts.sort();
    receipts.dedup();
    assert_eq!(receipts.len(), count, "a receipt was used twice");
    assert!(renewals()[0].target.contains("visibilitytimeout=600"));
    // What the handler was told is of the receive: the first renewal has made it stale.
    let told = rig.requests("orders")[0].json()["Metadata"]["PopReceipt"].clone();
    let told: String = serde_json::from_str(told.as_str().unwrap()).unwrap();
    assert_eq!(told, receipt(&renewals()[0].target));
}

fn receipt(target: &str) -> String {
    let target = reqwest::Url::parse(&format!("http://127.0.0.1{target}")).unwrap();
    let receipt = target.query_pairs().find(|(name, _)| name == "popreceipt");
    receipt.unwrap().1.into_owned()
}

#[tokio::test]
async fn a_message_whose_visibility_lapses_is_processed_twice_at_once() {
    let rig = Rig::new().await;
    // It may come back more than once before this machine gets around to it.
    rig.set("host.json", &format!("{QUEUES}/maxDequeueCount"), json!(1_000));
    rig.script("orders", &[Step::After("open".to_owned())]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let timings = Timings { message_visibility: Duration::from_secs(1), ..Timings::default() };
    let host = LocalHost::start(Options { timings, ..rig.options() }).await.unwrap();
    rig.called("orders", 2).await;
    assert!(host.invocations().is_empty());
    rig.release("open");
    let invocations = host.wait_for(|all| all.len() >= 2, LIMIT).await.unwrap();
    assert!(invocations.iter().all(|invocation| invocation.succeeded));
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    // The one that had lost it could not delete it, which is no reason to stop.
    assert_eq!(host.stopped(), None);
    assert!(rig.texts("in-queue-poison").await.is_empty());
}

#[tokio::test]
async fn storage_that_fails_a_delete_stops_the_host() {
    let rig = Rig::new().await;
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    proxy.set_rule(|request| if is_delete(request) { server_error() } else { Fault::Pass });
    rig.account.put("in-queue", "an order").await.unwrap();
    assert_eq!(stopped(&host).await, "unhandled storage error");
    let line = host.wait_for_line("The host is shutting down. Unhandled exception", LIMIT).await.unwrap();
    assert!(line.level == Level::Error && line.text.contains("InternalError"), "{line:?}");
    assert_eq!(rig.account.queue_length("in-queue").await.unwrap(), 1);
}

#[tokio::test]
async fn storage_that_fails_a_renewal_stops_the_host() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned())]);
    let timings = Timings { visibility_renewal: Duration::from_millis(50), ..Timings::default() };
    let (proxy, host) = behind_proxy(&rig, timings).await;
    proxy.set_rule(|request| if is_renewal(request) { server_error() } else { Fault::Pass });
    rig.account.put("in-queue", "an order").await.unwrap();
    // At once, and not when the invocation has ended.
    host.wait_for_line("The host is shutting down. Unhandled exception", LIMIT).await.unwrap();
    assert!(host.invocations().is_empty());
    rig.release("open");
    assert_eq!(stopped(&host).await, "unhandled storage error");
}

#[tokio::test]
async fn a_host_that_stops_by_itself_lets_what_is_running_succeed() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned()), Step::Succeed]);
    for text in ["first", "second"] {
        rig.account.put("in-queue", text).await.unwrap();
    }
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    let mut deletes = 0;
    proxy.set_rule(move |request| {
        deletes += usize::from(is_delete(request));
        if is_delete(request) && deletes == 1 { server_error() } else { Fault::Pass }
    });
    host.wait_for_line("The host is shutting down. Unhandled exception", LIMIT).await.unwrap();
    // Some time for a host that kills its handler first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    rig.release("open");
    assert_eq!(stopped(&host).await, "unhandled storage error");
    let invocations = host.invocations();
    assert!(invocations.len() == 2 && invocations.iter().all(|one| one.succeeded), "{invocations:?}");
    // One was deleted, and the other could not be.
    assert_eq!(rig.account.queue_length("in-queue").await.unwrap(), 1);
}

#[tokio::test]
async fn a_message_that_is_gone_is_no_reason_to_stop() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned()), Step::Succeed]);
    let host = rig.start().await;
    rig.account.put("in-queue", "an order").await.unwrap();
    rig.called("orders", 1).await;
    rig.account.clear_queue("in-queue").await.unwrap();
    rig.release("open");
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    rig.account.put("in-queue", "another order").await.unwrap();
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    assert_eq!(host.stopped(), None);
}

#[tokio::test]
async fn a_killed_host_leaves_its_messages_as_they_are() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::Hang, Step::Succeed]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    rig.called("orders", 1).await;
    drop(host);
    reveal(&rig).await;
    let host = rig.start().await;
    let invocations = host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    assert!(invocations[0].succeeded && invocations[0].dequeue_count == Some(2), "{invocations:?}");
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert!(!proxy.requests().iter().any(|request| is_delete(request) || is_renewal(request)));
}

#[tokio::test]
async fn a_stop_waits_for_what_is_running_and_takes_nothing_new() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/batchSize"), json!(1));
    rig.set("host.json", &format!("{QUEUES}/newBatchThreshold"), json!(0));
    rig.script("orders", &[Step::After("open".to_owned())]);
    for text in ["first", "second"] {
        rig.account.put("in-queue", text).await.unwrap();
    }
    let host = rig.start().await;
    rig.called("orders", 1).await;
    let mut stop = pin!(host.stop());
    // Some time for a stop that does not wait to show itself.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut stop).await.is_err());
    rig.release("open");
    stop.await;
    assert_eq!((rig.texts("in-queue").await, rig.requests("orders").len()), (vec!["second".to_owned()], 1));
    assert_eq!(rig.account.queue_length("in-queue").await.unwrap(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::Hang]);
    let host = rig.start().await;
    rig.account.put("in-queue", "an order").await.unwrap();
    rig.called("orders", 1).await;
    let start = Instant::now();
    host.stop().await;
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
    // It is left as it is, to come back by itself.
    assert_eq!(rig.account.queue_length("in-queue").await.unwrap(), 1);
    assert!(rig.texts("in-queue").await.is_empty());
}

#[tokio::test]
async fn a_batch_is_fetched_when_few_enough_are_in_hand() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/batchSize"), json!(2));
    rig.set("host.json", &format!("{QUEUES}/newBatchThreshold"), json!(1));
    rig.script("orders", &["a", "b", "c", "d"].map(|gate| Step::After(gate.to_owned())));
    for text in ["1", "2", "3", "4"] {
        rig.account.put("in-queue", text).await.unwrap();
    }
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    rig.called("orders", 2).await;
    let receives =
        || proxy.requests().into_iter().filter(|request| request.kind == Kind::GetMessages).collect::<Vec<_>>();
    assert!(receives()[0].target.contains("numofmessages=2"));
    // Two in hand are more than the threshold: nothing is fetched, however often one would have looked by now.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(receives().len(), 1);
    rig.release("a");
    rig.called("orders", 4).await;
    for gate in ["b", "c", "d"] {
        rig.release(gate);
    }
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(host.invocations().len(), 4);
}

#[tokio::test]
async fn an_empty_queue_is_looked_at_less_and_less_often_until_the_host_itself_writes_a_message() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/maxPollingInterval"), json!("00:10:00"));
    rig.set("orders/function.json", "/bindings/1/queueName", json!("in-queue"));
    let start = Instant::now();
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    // The queue is missing, which counts as empty; the trigger does not create it.
    until("five looks", async || proxy.kinds().len() >= 5).await;
    // At least 0.18 + 0.26 + 0.42 + 0.74 seconds apart.
    assert!(start.elapsed() >= Duration::from_millis(1_600), "{:?}", start.elapsed());
    assert!(proxy.kinds().iter().all(|kind| *kind == Kind::GetMessages));
    // After so many looks the pause is longer than this test would wait.
    for looks in 6..=14 {
        host.poll_now();
        until("another look", async || proxy.kinds().len() >= looks).await;
    }
    rig.script("orders", &[Step::Answer(succeed(r#"{"Outputs":{"out":"from-within"}}"#)), Step::Succeed]);
    host.deliver("orders", "x").await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(rig.requests("orders")[1].json()["Data"]["msg"], "\"from-within\"");
}

#[tokio::test]
async fn the_same_trouble_at_every_look_is_told_once() {
    let rig = Rig::new().await;
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    for _ in 0..2 {
        let refusal =
            || Fault::Status(403, vec![("x-ms-error-code", "AuthenticationFailed".to_owned())], String::new());
        proxy.set_rule(move |request| if request.kind == Kind::GetMessages { refusal() } else { Fault::Pass });
        let looks = proxy.kinds().len();
        until("five looks", async || proxy.kinds().len() >= looks + 5).await;
        proxy.lift();
        let before = host.invocations().len();
        rig.account.put("in-queue", "an order").await.unwrap();
        host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
    }
    let told = host.lines().iter().filter(|line| line.text.contains("Queue listener of orders: ")).count();
    assert_eq!(told, 2);
}

#[tokio::test]
async fn one_message_can_be_delivered_twice_at_the_same_instant() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned())]);
    let host = rig.start().await;
    let (invocations, ()) = tokio::join!(host.deliver_twice("orders", "an order"), async {
        rig.called("orders", 2).await;
        rig.release("open");
    });
    let [first, second] = invocations.unwrap();
    assert!(first.succeeded && second.succeeded && first.id != second.id);
    assert_eq!((first.dequeue_count, second.dequeue_count), (Some(1), Some(2)));
    let ids = rig.requests("orders").into_iter().map(|request| request.json()["Metadata"]["Id"].clone());
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids[0], ids[1]);
}
