//! Fail closed: while the table does not work, nothing is answered as done and nothing is lost.

use crate::{
    app::{App, LIMIT},
    promises::Promised,
};
use local_host::Invocation;
use std::{collections::BTreeSet, time::Duration};
use test_storage::{Fault, Kind};

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;

/// Throttles as Azure does: no header, the code in the body.
fn throttling() -> Fault {
    let body = r#"{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"The server is busy."}}}"#;
    Fault::Status(503, vec![("content-type", "application/json".to_owned())], body.to_owned())
}

/// Sends the order while the storage has `fault`; checks that it fails, comes back, and is committed once it is lifted.
async fn check_fails_and_recovers(fault: Fault, reason: &str) {
    let app = App::start().await;
    app.tables.fail_all(fault);
    let failed = app.send(ORDER).await;
    check_failed(&failed, reason);
    assert_eq!(app.account.queue_length("orders").await.unwrap(), 1, "the message is still there");
    assert!(app.rows().await.is_empty());
    app.tables.lift();
    recover(&app).await;
}

fn check_failed(invocation: &Invocation, reason: &str) {
    assert!(!invocation.succeeded);
    assert_eq!((invocation.status, invocation.reason.as_deref()), (Some(500), Some(reason)));
}

async fn recover(app: &App) {
    app.host.poll_now();
    app.drain().await;
    let promised = Promised { receipts: BTreeSet::from([RECEIPT.to_owned()]), quarantined: BTreeSet::new() };
    promised.check(&app.account, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn storage_that_is_down_fails_the_invocation_and_the_message_comes_back() {
    let app = App::start().await;
    app.tables.close();
    check_failed(&app.send(ORDER).await, "Storage cannot be reached");
    assert_eq!(app.account.queue_length("orders").await.unwrap(), 1);
    app.tables.open().await.unwrap();
    recover(&app).await;
}

#[tokio::test]
async fn storage_that_throttles_fails_the_invocation_and_the_message_comes_back() {
    check_fails_and_recovers(throttling(), "Storage is throttling").await;
}

#[tokio::test]
async fn storage_that_answers_garbage_fails_the_invocation_and_the_message_comes_back() {
    check_fails_and_recovers(Fault::Garbage, "Storage did not answer").await;
}

#[tokio::test]
async fn storage_that_answers_an_empty_202_is_not_believed() {
    let content_type = "multipart/mixed; boundary=batchresponse_1".to_owned();
    let empty = Fault::Status(202, vec![("content-type", content_type)], String::new());
    check_fails_and_recovers(empty, "Storage gave an answer that cannot be understood").await;
}

#[tokio::test]
async fn storage_that_refuses_the_credential_fails_at_once_and_says_so() {
    let body = r#"{"odata.error":{"code":"AuthenticationFailed","message":{"lang":"en-US","value":"no"}}}"#;
    let refused = Fault::Status(403, Vec::new(), body.to_owned());
    check_fails_and_recovers(refused, "Storage refused the credential").await;
}

#[tokio::test]
async fn storage_that_hangs_once_costs_time_and_nothing_else() {
    let app = App::start().await;
    app.send(r#"{"id":"warm-up"}"#).await;
    app.tables.forget();
    app.tables.fail_next(1, Kind::Batch, Fault::Hang);
    assert!(app.send(ORDER).await.succeeded);
    assert_eq!(app.tables.kinds(), [Kind::Batch, Kind::GetEntity, Kind::Batch, Kind::Delete]);
    assert_eq!(app.rows().await.len(), 2);
}

#[tokio::test]
async fn a_short_disturbance_is_bridged_without_another_delivery() {
    let app = App::start().await;
    app.tables.fail_next(3, Kind::Batch, throttling());
    let invocation = app.send(ORDER).await;
    assert!(invocation.succeeded, "{invocation:?}");
    app.drain().await;
    assert_eq!(app.receipts().await, [RECEIPT]);
    assert_eq!(app.host.invocations().len(), 1);
}

#[tokio::test]
async fn storage_that_stays_down_leads_to_the_poison_queue_and_from_there_back() {
    let app = App::start_with(&[("AzureFunctionsJobHost__extensions__queues__maxDequeueCount", "2")]).await;
    app.tables.fail_all(Fault::Status(403, Vec::new(), String::new()));
    app.account.put("orders", ORDER).await.unwrap();
    app.host.poll_now();
    app.drain().await;
    assert_eq!(app.host.invocations().len(), 2);
    assert_eq!(app.poisoned().await, [ORDER]);

    app.tables.lift();
    let poisoned = app.account.receive("orders-poison", 1, Duration::from_secs(60)).await.unwrap().remove(0);
    assert!(app.send(&poisoned.text).await.succeeded);
    app.account.delete("orders-poison", &poisoned).await.unwrap();
    recover(&app).await;
}

#[tokio::test]
async fn a_failure_is_told_to_the_operator_with_function_invocation_and_order() {
    let app = App::start().await;
    app.tables.fail_all(Fault::Status(403, Vec::new(), String::new()));
    let failed = app.send(ORDER).await;
    let line = format!(
        "ERROR Invocation failed: storage answered 403  function=queue_with_idempotency invocation={} order=\"order-123\"",
        failed.id
    );
    let line = app.host.wait_for_line(&line, LIMIT).await.unwrap();
    assert_eq!(line.level, local_host::console::Level::Error);
    app.host.wait_for_line("Storage refused the credential", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_table_deleted_while_running_is_created_again() {
    let app = App::start().await;
    app.send(r#"{"id":"before"}"#).await;
    app.account.delete_table("idempotency").await.unwrap();
    assert!(app.send(ORDER).await.succeeded);
    assert_eq!(app.receipts().await, [RECEIPT]);
}

#[tokio::test]
async fn many_first_orders_at_once_create_the_table_together() {
    let app = App::start().await;
    for n in 0..40 {
        app.account.put("orders", &format!(r#"{{"id":"order-{n:02}"}}"#)).await.unwrap();
    }
    app.host.poll_now();
    app.drain().await;
    assert_eq!(app.rows().await.len(), 40);
    assert!(app.host.invocations().iter().all(|invocation| invocation.succeeded));
}
