//! The end of a message that fails: how often it is delivered, and how it comes to the poison queue.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use local_host::{Timings, console::Level};
use serde_json::json;
use test_storage::{Fault, Kind};

use crate::{
    handler::Step,
    queue::{QUEUES, behind_proxy, is_delete, is_renewal, reveal},
    rig::{LIMIT, Rig, until},
};

/// Receives the message so often, as hosts do that crash.
async fn receive_and_forget(rig: &Rig, times: u32) {
    for _ in 0..times {
        let mut message = rig.account.receive("in-queue", 1, Duration::from_secs(60)).await.unwrap().remove(0);
        rig.account.update_visibility("in-queue", &mut message, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_fails_as_often_as_allowed_is_poison() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::Fail]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let id = rig.account.peek("in-queue").await.unwrap()[0].id.clone();
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    // Released after the first failure only.
    assert_eq!(proxy.requests().iter().filter(|request| is_renewal(request)).count(), 1);
    let counts: Vec<_> = host.invocations().iter().map(|one| one.dequeue_count).collect();
    assert_eq!(counts, [Some(1), Some(2)]);
    let poison = rig.account.peek("in-queue-poison").await.unwrap();
    assert_eq!((poison.len(), poison[0].text.as_str(), poison[0].dequeue_count), (1, "an order", 0));
    assert_ne!(poison[0].id, id);
    let expected = "Message has reached MaxDequeueCount of 2. Moving message to queue 'in-queue-poison'.";
    assert_eq!(host.wait_for_line(expected, LIMIT).await.unwrap().level, Level::Warning);
}

#[tokio::test]
async fn a_message_that_was_received_as_often_as_allowed_gets_its_last_invocation() {
    let rig = Rig::new().await;
    rig.account.put("in-queue", "an order").await.unwrap();
    receive_and_forget(&rig, 1).await;
    let host = rig.start().await;
    let invocations = host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    assert!(invocations[0].succeeded && invocations[0].dequeue_count == Some(2), "{invocations:?}");
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert!(rig.texts("in-queue-poison").await.is_empty());
}

#[tokio::test]
async fn a_message_that_was_received_too_often_is_poison_without_an_invocation() {
    let rig = Rig::new().await;
    rig.account.put("in-queue", "an order").await.unwrap();
    receive_and_forget(&rig, 2).await;
    let host = rig.start().await;
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(rig.texts("in-queue-poison").await, ["an order"]);
    assert!(host.invocations().is_empty() && rig.requests("orders").is_empty());
}

#[tokio::test]
async fn a_message_that_is_no_base64_goes_to_the_poison_queue_unseen() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/messageEncoding"), json!("base64"));
    rig.account.put("in-queue", "{\"id\":1}").await.unwrap();
    let id = rig.account.peek("in-queue").await.unwrap()[0].id.clone();
    rig.account.put_base64("in-queue", "{\"id\":2}").await.unwrap();
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(rig.texts("in-queue-poison").await, ["{\"id\":1}"]);
    let calls: Vec<_> = rig.requests("orders").iter().map(|call| call.json()["Data"]["msg"].clone()).collect();
    assert_eq!(calls, [r#""{\"id\":2}""#]);
    let line = host.wait_for_line("Message decoding has failed!", LIMIT).await.unwrap();
    let expected = format!("Message decoding has failed! Check MessageEncoding settings. MessageId={id}.");
    assert_eq!((line.text, line.level), (expected, Level::Warning));
}

#[tokio::test]
async fn bytes_that_are_no_text_fail_every_delivery_without_reaching_the_handler() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/messageEncoding"), json!("base64"));
    let bytes = STANDARD.encode([0xFF, 0x00, 0xFE]);
    rig.account.put("in-queue", &bytes).await.unwrap();
    let host = rig.start().await;
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    until("the poison", async || !rig.texts("in-queue-poison").await.is_empty()).await;
    assert_eq!(rig.texts("in-queue-poison").await, [bytes]);
    let failures = host.lines().iter().filter(|line| line.text.contains("Exception binding parameter 'msg'")).count();
    assert_eq!((failures, rig.requests("orders").len()), (2, 0));
}

#[tokio::test]
async fn a_poisoned_message_is_encoded_again() {
    let rig = Rig::new().await;
    rig.set("host.json", &format!("{QUEUES}/messageEncoding"), json!("base64"));
    rig.script("orders", &[Step::Fail]);
    // .NET reads over white space in base64, and does not write any.
    rig.account.put("in-queue", "aGVs\nbG8=").await.unwrap();
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(rig.texts("in-queue-poison").await, ["aGVsbG8="]);
}

/// Returns the queues that have no poison queue: one is poison already, and the name of the other is too long for one.
fn without_poison() -> [String; 2] {
    ["in-poison".to_owned(), "q".repeat(57)]
}

#[tokio::test]
async fn a_message_that_fails_on_a_queue_without_poison_stays_hidden() {
    for queue in without_poison() {
        let rig = Rig::new().await;
        rig.set("orders/function.json", "/bindings/0/queueName", json!(queue));
        rig.script("orders", &[Step::Fail]);
        rig.account.put(&queue, "an order").await.unwrap();
        let timings = Timings { message_visibility: Duration::from_secs(1), ..Timings::default() };
        let (proxy, host) = behind_proxy(&rig, timings).await;
        host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
        host.stop().await;
        // It only comes back by itself.
        until("its return", async || !rig.texts(&queue).await.is_empty()).await;
        assert_eq!(rig.texts(&queue).await, ["an order"]);
        assert_eq!(rig.requests("orders").len(), 2);
        assert!(proxy.kinds().iter().all(|kind| *kind == Kind::GetMessages), "{queue}: {:?}", proxy.requests());
    }
}

#[tokio::test]
async fn a_message_that_is_no_base64_on_a_queue_without_poison_stays_hidden() {
    for queue in without_poison() {
        let rig = Rig::new().await;
        rig.set("host.json", &format!("{QUEUES}/messageEncoding"), json!("base64"));
        rig.set("orders/function.json", "/bindings/0/queueName", json!(queue));
        rig.account.put(&queue, "{\"id\":1}").await.unwrap();
        let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
        host.wait_for_line("Message decoding has failed!", LIMIT).await.unwrap();
        host.stop().await;
        assert_eq!((rig.account.queue_length(&queue).await.unwrap(), rig.texts(&queue).await.len()), (1, 0), "{queue}");
        assert!(proxy.kinds().iter().all(|kind| *kind == Kind::GetMessages), "{queue}: {:?}", proxy.requests());
    }
}

#[tokio::test]
async fn a_crash_between_the_copy_and_the_delete_doubles_the_poison() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::Fail]);
    rig.account.put("in-queue", "an order").await.unwrap();
    let (proxy, host) = behind_proxy(&rig, Timings::default()).await;
    proxy.set_rule(|request| if is_delete(request) { Fault::Hang } else { Fault::Pass });
    until("the delete", async || proxy.requests().iter().any(is_delete)).await;
    // The copy is first.
    assert_eq!(rig.texts("in-queue-poison").await, ["an order"]);
    drop(host);
    reveal(&rig).await;
    let host = rig.start().await;
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(rig.texts("in-queue-poison").await, ["an order", "an order"]);
    assert!(host.invocations().is_empty());
}
