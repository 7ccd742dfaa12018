//! Output bindings: what becomes of a value on its way to a queue, and when it gets there.

use serde_json::{Value, json};
use test_storage::{Fault, FaultProxy, Kind, Service};

use crate::{
    handler::{Step, succeed},
    rig::{LIMIT, Rig},
};

fn reply(reply: &Value) -> Step {
    Step::Answer(succeed(&reply.to_string()))
}

/// Returns the messages that a value of the output `out` becomes, in the order of the queue.
async fn sent(rig: &Rig, out: &Value) -> Vec<String> {
    rig.script("orders", &[reply(&json!({ "Outputs": { "out": out } }))]);
    let host = rig.start().await;
    assert!(host.deliver("orders", "x").await.unwrap().succeeded, "{out}");
    rig.texts("out-queue").await
}

#[tokio::test]
async fn a_value_is_rewritten_before_it_is_sent() {
    // Beside those of the record.
    let cases: [(Value, &[&str]); 7] = [
        (json!("eyJh IjoxLj\nEwfQ=="), &[r#"{"a":1.10}"#]),
        (json!("{\"t\":\"2024-08-01T00:00:00.500Z\"}"), &["{\n  \"t\": \"2024-08-01T00:00:00.5Z\"\n}"]),
        (json!("{'a':1,}"), &["{\n  \"a\": 1\n}"]),
        (json!({ "a": [] }), &["{\n  \"a\": []\n}"]),
        (json!([]), &[]),
        (json!("2024-08-01T02:00:00+02:00"), &["08/01/2024 00:00:00"]),
        (json!("order-1 2024-08-01T02:00:00"), &["order-1 2024-08-01T02:00:00"]),
    ];
    for (value, expected) in cases {
        assert_eq!(sent(&Rig::new().await, &value).await, expected, "{value}");
    }
}

#[tokio::test]
async fn a_word_that_is_base64_by_accident_is_decoded() {
    let rig = Rig::new().await;
    rig.set("host.json", "/extensions/queues/messageEncoding", json!("base64"));
    // Base64 on the queue of what the word decodes to: the word again.
    for (index, word) in ["test", "true", "deadbeef"].into_iter().enumerate() {
        assert_eq!(sent(&rig, &json!(word)).await[index], word);
    }
}

#[tokio::test]
async fn a_message_is_base64_on_the_queue_unless_told_otherwise() {
    let rig = Rig::new().await;
    rig.set("host.json", "/extensions/queues/messageEncoding", json!("base64"));
    assert_eq!(sent(&rig, &json!("hello")).await, ["aGVsbG8="]);
}

#[tokio::test]
async fn only_declared_names_count_to_the_letter() {
    let rig = Rig::new().await;
    rig.script("orders", &[reply(&json!({ "Outputs": { "Out": "1", "nobody": "2", "copy": "3-" } }))]);
    let host = rig.start().await;
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
    assert_eq!((rig.texts("out-queue").await, rig.texts("copy-queue").await), (vec![], vec!["3-".to_owned()]));
}

#[tokio::test]
async fn a_return_value_that_is_an_object_leaks_into_the_outputs() {
    let rig = Rig::new().await;
    rig.script(
        "orders",
        &[
            reply(&json!({ "Outputs": { "copy": "a-" }, "ReturnValue": { "out": "b-", "other": 1 } })),
            reply(&json!({ "ReturnValue": "ignored" })),
        ],
    );
    let host = rig.start().await;
    for _ in 0..2 {
        assert!(host.deliver("orders", "x").await.unwrap().succeeded);
    }
    assert_eq!(
        (rig.texts("out-queue").await, rig.texts("copy-queue").await),
        (vec!["b-".to_owned()], vec!["a-".to_owned()])
    );
}

#[tokio::test]
async fn a_failure_writes_no_outputs() {
    let rig = Rig::new().await;
    let not_json = |headers: &str| {
        let body = r#"{"Outputs":{"out":"lost"},"Logs":[{}]}"#;
        Step::Answer(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into())
    };
    // A failure, no JSON by its header, and a line of the log that is none.
    rig.script(
        "orders",
        &[Step::Fail, not_json("Content-Type: text/plain\r\n"), not_json("Content-Type: application/json\r\n")],
    );
    let host = rig.start().await;
    for _ in 0..3 {
        assert!(!host.deliver("orders", "x").await.unwrap().succeeded);
    }
    assert!(rig.texts("out-queue").await.is_empty());
}

#[tokio::test]
async fn an_output_that_cannot_be_written_fails_the_invocation_but_not_the_other_output() {
    let rig = Rig::new().await;
    rig.script(
        "orders",
        &[reply(&json!({ "Outputs": { "out": "first-", "copy": "second-" }, "Logs": ["said before"] }))],
    );
    let proxy = FaultProxy::start(&rig.account, Service::Queue).await.unwrap();
    let mut refused = 1;
    proxy.set_rule(move |request| {
        if request.kind != Kind::PutMessage || !request.target.contains("/out-queue/") || refused == 0 {
            return Fault::Pass;
        }
        refused -= 1;
        Fault::Status(503, vec![("x-ms-error-code", "ServerBusy".to_owned())], String::new())
    });
    let host = rig.start_with(&proxy.account(&rig.account)).await;
    rig.account.put("in-queue", "an order").await.unwrap();
    let invocations = host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let failure = invocations[0].failure.as_ref().unwrap();
    assert!(
        failure.contains("Error while writing output 'out' to queue 'out-queue'") && failure.contains("ServerBusy"),
        "{failure}"
    );
    // The message came back, although the handler had succeeded; so one of the outputs is there twice.
    assert!(invocations[1].succeeded && invocations[1].dequeue_count == Some(2), "{invocations:?}");
    assert_eq!(rig.texts("out-queue").await, ["first-"]);
    assert_eq!(rig.texts("copy-queue").await, ["second-"; 2]);
    host.wait_for_line("said before", LIMIT).await.unwrap();
}
