//! One effect per id: at the same instant, from two processes, and for a record that has expired. Lost requests and replies
//! and killed handlers are in the crash matrix.

use crate::{
    app::{App, LIMIT, QUEUE, text},
    host::{Host, local_only},
    promises::Promised,
};
use std::collections::BTreeSet;

const ORDER: &str = r#"{"id":"order-123","amount":42}"#;
const RECEIPT: &str = r#"{"id":"order-123","status":"accepted","amount":42}"#;

#[tokio::test]
async fn two_deliveries_at_the_same_instant_are_one_commit_and_one_duplicate() {
    local_only!("two deliveries begin at one instant");
    let app = App::start().await;
    for round in 0..20 {
        let message = format!(r#"{{"id":"order-{round}","amount":42}}"#);
        let answers = app.host.local().deliver_twice(QUEUE, &message).await.unwrap();
        let mut logs: Vec<_> = answers.iter().map(|answer| answer.logs[0].split(' ').next().unwrap()).collect();
        logs.sort_unstable();
        assert_eq!(logs, ["Duplicate", "Processing"], "round {round}");
        assert_eq!(answers[0].return_value, answers[1].return_value, "round {round}");
    }
    app.published().await;
    assert_eq!(app.rows().await.len(), 20);
}

#[tokio::test]
async fn two_orders_with_one_id_at_the_same_instant_are_one_commit_and_one_conflict() {
    local_only!("two deliveries begin at one instant");
    let app = App::start().await;
    let (first, second) = tokio::join!(
        app.host.deliver(QUEUE, r#"{"id":"order-123","amount":42}"#),
        app.host.deliver(QUEUE, r#"{"id":"order-123","amount":43}"#)
    );
    let committed =
        [first.unwrap(), second.unwrap()].into_iter().filter(|answer| answer.return_value.is_some()).count();
    app.published().await;
    assert_eq!((committed, app.rows().await.len()), (1, 1));
    assert_eq!(app.quarantined().await.len(), 1);
}

#[tokio::test]
async fn two_instances_share_a_hundred_orders_sent_three_times_each() {
    let app = App::start().await;
    let other = app.second_instance().await;
    let orders: Vec<_> = (0..100).map(|n| format!(r#"{{"id":"order-{n:03}","amount":{n}}}"#)).collect();
    for _ in 0..3 {
        for order in &orders {
            app.account.put("orders", order).await.unwrap();
        }
    }
    app.host.poll_now();
    app.drain().await;
    other.drain(&app.account, "orders", LIMIT).await.unwrap();
    app.published().await;

    let receipts = (0..100).map(|n| format!(r#"{{"id":"order-{n:03}","status":"accepted","amount":{n}}}"#)).collect();
    let promised = Promised { receipts, quarantined: BTreeSet::new() };
    promised.check(&app.account, Vec::new()).await.unwrap();
    let processed =
        |host: &Host| host.lines().iter().filter(|line| line.text.contains("Processing idempotent message")).count();
    assert_eq!(processed(&app.host) + processed(&other), 100, "each order took effect in one process, once");
}

#[tokio::test]
async fn a_message_that_comes_back_after_its_record_expired_but_before_the_purge_is_still_a_duplicate() {
    let app = App::start().await;
    app.send(ORDER).await;
    app.expire().await;
    assert!(app.send(ORDER).await.logs[0].starts_with("Duplicate"));
    assert_eq!(text(&app.rows().await[0], "receipt"), RECEIPT);
}
