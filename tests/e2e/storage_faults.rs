//! Storage that does not work for some messages: the operator is told. Their outcome is in the crash matrix, and that of an
//! outage of the table in [`outage`](crate::outage).

use crate::{
    app::{App, LIMIT},
    host::{costs_a_delivery, is_local},
};
use test_storage::{Fault, Kind};

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;

#[tokio::test]
async fn a_failure_is_told_to_the_operator_with_function_invocation_and_order() {
    let app = App::start().await;
    app.fail_orders(Fault::Status(400, Vec::new(), String::new()));
    let failed = app.send(ORDER).await;
    let line = format!(
        "ERROR Invocation failed: storage answered 400  function=queue_with_idempotency invocation={} order=\"order-123\"",
        failed.id
    );
    let line = app.host.wait_for_line(&line, LIMIT).await.unwrap();
    assert!(!is_local() || line.level == local_host::console::Level::Error);
    app.host.wait_for_line("Storage refused the request", LIMIT).await.unwrap();
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

#[tokio::test]
async fn rejected_messages_are_held_and_given_back_while_the_quarantine_queue_is_away() {
    const COUNT: usize = 16;
    let app = App::start_with(&[("AzureFunctionsJobHost__functionTimeout", "00:00:12")]).await;
    app.queues.set_rule(|request| {
        let is_kept = request.kind == Kind::PutMessage && request.target.contains("/orders-quarantine/");
        if is_kept { Fault::Status(403, Vec::new(), String::new()) } else { Fault::Pass }
    });
    for n in 0..COUNT {
        app.account.put("orders", &format!("no order {n}")).await.unwrap();
    }
    app.host.poll_now();
    app.host.wait_for(|all| all.len() >= COUNT, LIMIT).await.unwrap();
    app.host.wait_for_line("WARN Storage away: quarantine queue since 20", LIMIT).await.unwrap();
    let put_back: Vec<_> = app
        .queues
        .requests()
        .into_iter()
        .filter(|request| request.target.contains("/orders/messages?messagettl=-1"))
        .collect();
    assert!(put_back.len() >= COUNT, "{put_back:?}");
    for request in put_back {
        let hidden = request.target.split_once("visibilitytimeout=").map_or("0", |(_, seconds)| seconds);
        assert!(hidden.parse::<u32>().unwrap() < 30, "{}", request.target);
    }
    app.queues.lift();
    app.drain().await;
    assert_eq!(app.quarantined().await.len(), COUNT);
    assert!(!app.host.invocations().iter().any(costs_a_delivery));
}
