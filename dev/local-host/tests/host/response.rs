//! The host's verdict on an answer, and on one that does not come.

use std::time::Duration;

use local_host::{LocalHost, console::Level};
use serde_json::json;

use crate::{
    handler::{DISCONNECTED, Step, succeed},
    rig::{LIMIT, Rig},
};

fn answer(status: &str, headers: &str, body: &[u8]) -> Step {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Step::Answer([head.as_bytes(), body].concat())
}

fn json_answer(body: &str) -> Step {
    Step::Answer(succeed(body))
}

const JSON: &str = "Content-Type: application/json\r\n";

/// Lets the handler give these answers one after the other, and says which were successes.
async fn successes(steps: &[Step]) -> Vec<bool> {
    let rig = Rig::new().await;
    rig.script("orders", steps);
    let host = rig.start().await;
    let mut successes = Vec::new();
    for _ in steps {
        successes.push(host.deliver("orders", "x").await.unwrap().succeeded);
    }
    successes
}

/// Beside those of the record.
#[tokio::test]
async fn these_answers_are_a_success() {
    let steps = [
        json_answer(r#"{"outputs":{},"LOGS":["a",1.5,true,null],"returnvalue":null,"other":[]}"#),
        answer("202 Accepted", "Content-Type: text/json; charset=utf-8\r\n", b"{}"),
        Step::Answer(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec()),
    ];
    assert_eq!(successes(&steps).await, vec![true; steps.len()]);
}

/// Beside those of the record.
#[tokio::test]
async fn these_answers_are_a_failure() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(256), "]".repeat(256));
    let steps = [
        answer("404 Not Found", JSON, b"{}"),
        answer("200 OK", JSON, b"{\"Logs\":[\"\xFF\"]}"),
        json_answer("\"text\""),
        json_answer(&deep),
        Step::BreakOff(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{}".to_vec()),
        Step::BreakOff(b"not HTTP".to_vec()),
    ];
    assert_eq!(successes(&steps).await, vec![false; steps.len()]);
}

#[tokio::test]
async fn logs_are_printed_on_success_and_only_then() {
    let rig = Rig::new().await;
    rig.script("orders", &[json_answer(r#"{"Logs":["all is well",1.50,true]}"#), Step::Fail]);
    let host = rig.start().await;
    assert_eq!(host.deliver("orders", "x").await.unwrap().logs, ["all is well", "1.50", "true"]);
    assert!(host.deliver("orders", "x").await.unwrap().logs.is_empty());
    let line = host.wait_for_line("all is well", LIMIT).await.unwrap();
    assert_eq!(line.level, Level::Information);
    assert!(!host.lines().iter().any(|line| line.text.contains("discarded")));
}

#[tokio::test]
async fn of_a_failure_only_the_reason_phrase_is_printed() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::Fail]);
    let host = rig.start().await;
    let invocation = host.deliver("orders", "x").await.unwrap();
    let cause = "System.Net.Http: Response status code does not indicate success: 500 (out of paper).";
    assert_eq!(invocation.failure.as_deref(), Some(cause));
    let expected = format!("System.Private.CoreLib: Exception while executing function: Functions.orders. {cause}");
    assert_eq!(host.wait_for_line(cause, LIMIT).await.unwrap().text, expected);
}

#[tokio::test]
async fn an_empty_answer_hangs_until_the_function_times_out() {
    let rig = Rig::new().await;
    rig.set("host.json", "/functionTimeout", json!("00:00:05"));
    let steps = [
        answer("200 OK", JSON, b""),
        answer("204 No Content", "", b""),
        answer("200 OK", "Content-Type: text/plain\r\n", b""),
        Step::Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        answer("200 OK", JSON, b"null"),
        answer("200 OK", JSON, b" \r\n"),
    ];
    rig.script("orders", &steps);
    let host = rig.start().await;
    let deliveries = steps.iter().map(|_| host.deliver("orders", "x"));
    let invocations = futures_util::future::join_all(deliveries).await;
    for invocation in invocations {
        let invocation = invocation.unwrap();
        // Time enough for the limit, and for the two seconds of grace.
        assert!(!invocation.succeeded && invocation.duration >= Duration::from_secs(7), "{invocation:?}");
        assert!(invocation.status.is_some(), "{invocation:?}");
        let expected = "Timeout value of 00:00:05 was exceeded by function: Functions.orders";
        assert_eq!(invocation.failure.as_deref(), Some(expected));
        let expected = "Timeout value of 00:00:05 exceeded by function 'Functions.orders'";
        let expected = format!("{expected} (Id: '{}'). Initiating cancellation.", invocation.id);
        let line = host.wait_for_line(&expected, LIMIT).await.unwrap();
        assert_eq!((line.text, line.level), (expected, Level::Error));
    }
}

/// Starts a second invocation in the moments between the timeout of the first and the death of the handler. None when
/// the machine was too slow for that.
async fn time_out_with_a_bystander() -> Option<(Rig, LocalHost)> {
    let rig = Rig::new().await;
    rig.set("host.json", "/functionTimeout", json!("00:00:03"));
    let crash = || Step::Exit("the disk is full".to_owned(), 3);
    rig.script("orders", &[Step::Hang, crash(), crash(), Step::Succeed]);
    rig.script("clock", &[Step::Hang, Step::Succeed]);
    let host = rig.start().await;
    let bystander = async {
        host.wait_for_line("Timeout value of 00:00:03 exceeded by function 'Functions.orders'", LIMIT).await.unwrap();
        let called = async {
            rig.called("clock", 1).await;
            rig.starts().len()
        };
        let (_, lives) = tokio::join!(host.invoke("clock", None), called);
        lives
    };
    let (late, lives) = tokio::join!(host.deliver("orders", "x"), bystander);
    assert!(late.unwrap().failure.unwrap().contains("Timeout value of 00:00:03"));
    (lives == 1).then_some((rig, host))
}

#[tokio::test]
async fn a_timeout_kills_every_invocation_in_flight_and_is_not_held_against_the_handler() {
    let mut scene = None;
    while scene.is_none() {
        scene = time_out_with_a_bystander().await;
    }
    let (rig, host) = scene.unwrap();
    let bystander: Vec<_> = host.invocations().into_iter().filter(|one| one.function == "clock").collect();
    let failure = bystander[0].failure.as_ref().unwrap();
    assert!(failure.contains("An error occurred while sending the request"), "{failure}");
    assert!(bystander[1].succeeded);
    assert!(!rig.path().join(DISCONNECTED).exists(), "the handler was given notice");
    // Were it counted, the second crash would be the third error.
    for _ in 0..2 {
        let pid = host.worker_pid();
        host.deliver("orders", "x").await.unwrap();
        host.ready_again(pid).await.unwrap();
    }
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
}
