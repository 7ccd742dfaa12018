//! Storage that does not work for one order: the operator is told. The outcome for the order is in the crash matrix, and that
//! of an outage in [`outage`](crate::outage).

use crate::app::{App, LIMIT};
use test_storage::Fault;

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;

#[tokio::test]
async fn a_failure_is_told_to_the_operator_with_function_invocation_and_order() {
    let app = App::start().await;
    app.fail_orders(Fault::Status(403, Vec::new(), String::new()));
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
