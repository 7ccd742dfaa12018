//! Publishing: the events that are put, deleted from the outbox, and left there, after each answer of the two services.

use crate::{
    azure,
    ledger::{attempt, attempt_until, ledger, page, throttled},
    scripted::{Answer, Received, Script, Step},
};
use handler::{
    functions::scheduled_with_retry,
    idempotency::{
        ledger::{Error, OutboxEntry},
        outbox::{publish, relay},
    },
    storage::RowTag,
};
use std::time::Duration;
use tokio::time::Instant;

fn events(bodies: [&str; 2]) -> Vec<OutboxEntry> {
    let event = |body: &str| OutboxEntry {
        partition_key: "bucket~00".to_owned(),
        tag: RowTag { row_key: format!("outbox~{body}"), etag: azure::ETAG.to_owned() },
        schema: 1,
        body: body.to_owned(),
        created_at: None,
    };
    bodies.map(event).into()
}

fn put() -> Step {
    Answer::new(201, "").into()
}

fn deleted() -> Step {
    azure::entity(&serde_json::json!({})).into()
}

/// Publishes two events, and says what was asked for meanwhile: which message was put, which row was deleted.
async fn asked_to_publish(steps: impl IntoIterator<Item = Step>) -> Vec<String> {
    let script = Script::new(steps);
    publish(&ledger(&script), &script.events(), &events(["first", "second"]), &attempt()).await;
    asked(&script)
}

fn asked(script: &Script) -> Vec<String> {
    let named =
        |text: &str| ["first", "second"].iter().filter(|name| text.contains(*name)).copied().collect::<String>();
    let ask = |request: Received| format!("{} {}", request.method, named(&(request.url + &request.body)));
    script.received().into_iter().map(ask).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_put_one_by_one_and_forgotten_together() {
    let both = azure::batch(&[azure::inserted(), azure::inserted()]);
    assert_eq!(asked_to_publish([put(), put(), both.into()]).await, ["POST first", "POST second", "POST firstsecond"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_stays_and_does_not_hold_up_the_other() {
    for status in [400, 413] {
        let refused = azure::refused(status, "InvalidInput").into();
        assert_eq!(asked_to_publish([refused, put(), deleted()]).await, ["POST first", "POST second", "DELETE second"]);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_queue_refuses_everything_nothing_more_is_tried_and_nothing_forgotten() {
    for status in [401, 403, 404] {
        assert_eq!(asked_to_publish([azure::refused(status, "AuthorizationFailure").into()]).await, ["POST first"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_over_publishes_nothing() {
    let script = Script::new([]);
    let over = attempt_until(Instant::now());
    publish(&ledger(&script), &script.events(), &events(["first", "second"]), &over).await;
    assert_eq!(script.received().len(), 0);
}

/// 10 s are left, and the first put takes 20.
#[tokio::test(start_paused = true)]
async fn what_was_put_is_forgotten_although_there_is_no_time_for_the_next() {
    let script = Script::new([Step::Slow(Duration::from_secs(20), Answer::new(201, "")), deleted()]);
    let short = attempt_until(Instant::now() + Duration::from_secs(10));
    publish(&ledger(&script), &script.events(), &events(["first", "second"]), &short).await;
    assert_eq!(asked(&script), ["POST first", "DELETE first"]);
}

/// A page with one event.
fn page_with(body: &str) -> Answer {
    azure::entity(&serde_json::json!({ "value": [{
        "PartitionKey": "bucket~00", "RowKey": format!("outbox~{body}"), "odata.etag": azure::ETAG, "schema": 1, "body": body,
    }]}))
}

/// That page, and another one to come.
fn first_page_with(body: &str) -> Step {
    let page = page_with(body).header("x-ms-continuation-nextpartitionkey", "1!8!YnVja2V0");
    page.header("x-ms-continuation-nextrowkey", "1!8!b3V0Ym94").into()
}

#[tokio::test(start_paused = true)]
async fn a_relay_goes_on_to_the_next_page_after_an_event_that_is_refused() {
    let refused = azure::refused(400, "InvalidInput").into();
    let first = [first_page_with("first"), refused, page_with("second").into(), put(), deleted()];
    let script = Script::new(first.into_iter().chain((0..63).map(|_| page(&[]))));
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
    assert_eq!((relayed.events, relayed.unfinished.len(), relayed.cause.is_some()), (1, 1, true));
    assert_eq!(asked(&script)[1..5], ["POST first", "GET ", "POST second", "DELETE second"]);
    assert!(script.received()[2].url.contains("NextRowKey"), "{}", script.received()[2].url);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_does_not_hold_up_the_others_of_its_page() {
    let row = |schema: serde_json::Value, body: serde_json::Value| {
        serde_json::json!({
            "PartitionKey": "bucket~00", "RowKey": "outbox~0", "odata.etag": azure::ETAG, "schema": schema, "body": body,
        })
    };
    let damaged = [
        row(2.into(), "later".into()),
        row("1".into(), "x".into()),
        row(serde_json::Value::Null, "x".into()),
        row(1.into(), 42.into()),
        row(1.into(), serde_json::Value::Null),
    ];
    let rows: Vec<_> = damaged.into_iter().chain([row(1.into(), "first".into())]).collect();
    let page_of_all: Step = azure::entity(&serde_json::json!({ "value": rows })).into();
    let script = Script::new([page_of_all, put(), deleted()].into_iter().chain((0..63).map(|_| page(&[]))));
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
    assert_eq!((relayed.events, relayed.unfinished.len()), (1, 1));
    assert!(matches!(relayed.cause, Some(Error::UnknownSchema(_))));
}

#[tokio::test(start_paused = true)]
async fn a_relay_does_not_go_on_to_the_next_page_when_the_queue_refuses_everything() {
    let refused = azure::refused(403, "AuthorizationFailure").into();
    let script = Script::new([first_page_with("first"), refused].into_iter().chain((0..63).map(|_| page(&[]))));
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
    assert_eq!((relayed.events, relayed.unfinished.len(), script.kinds().len()), (0, 1, 65));
}

/// 90 s are left, of which the relay has 30 and both have 36; every answer takes 8 s, and eight buckets are asked for at
/// once.
#[tokio::test(start_paused = true)]
async fn a_tick_leaves_time_for_the_purge_and_for_its_answer() {
    let start = Instant::now();
    let script = Script::new(
        (0..80).map(|_| Step::Slow(Duration::from_secs(8), azure::entity(&serde_json::json!({ "value": [] })))),
    );
    let short = attempt_until(start + Duration::from_secs(90));
    let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
    let result = scheduled_with_retry::run(&script.app(), &tick, &short).await;
    assert!(matches!(result, Err(Error::OutOfTime)), "{result:?}");
    assert_eq!((script.kinds().len(), start.elapsed().as_secs()), (32 + 8, 40));
}

#[tokio::test(start_paused = true)]
async fn a_relay_counts_what_is_on_the_queue() {
    let first = [page_with("first").into(), put(), deleted()];
    let script = Script::new(first.into_iter().chain((0..63).map(|_| page(&[]))));
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
    assert_eq!((relayed.events, relayed.unfinished.len(), relayed.cause.is_none()), (1, 0, true));
    assert_eq!(asked(&script)[1..3], ["POST first", "DELETE first"]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_when_its_time_is_up_and_says_that_more_is_left() {
    let script = Script::new([]);
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now()).await;
    assert_eq!((relayed.events, relayed.unfinished.len(), script.kinds().len()), (0, 64, 0));
    assert!(matches!(relayed.cause, Some(Error::OutOfTime)));
}

#[tokio::test(start_paused = true)]
async fn of_all_that_went_wrong_a_relay_tells_what_was_first() {
    let refused = azure::refused(403, "AuthorizationFailure").into();
    let script = Script::new(std::iter::once(refused).chain((0..63).map(|_| throttled())));
    let relayed = relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(relayed.unfinished.len(), 64);
    assert!(matches!(relayed.cause, Some(Error::Storage(error)) if !error.is_transient()));
}

#[tokio::test(start_paused = true)]
async fn a_relay_without_a_table_has_nothing_to_do_and_one_that_cannot_look_fails() {
    for (answer, unfinished) in
        [(azure::refused(404, "TableNotFound"), 0), (azure::refused(403, "AuthorizationFailure"), 64)]
    {
        let script = Script::new((0..64).map(|_| answer.clone().into()));
        let relayed =
            relay(&ledger(&script), &script.events(), &attempt(), Instant::now() + Duration::from_secs(60)).await;
        assert_eq!((relayed.unfinished.len(), relayed.cause.is_some()), (unfinished, unfinished > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_kept_while_events_of_their_bucket_may_be_left() {
    for (first, queries) in [(throttled(), 64 + 63), (page(&[]), 64 + 64)] {
        let script = Script::new(std::iter::once(first).chain((0..127).map(|_| page(&[]))));
        let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
        let result = scheduled_with_retry::run(&script.app(), &tick, &attempt()).await;
        assert_eq!((script.kinds().len(), result.is_ok()), (queries, queries == 128));
    }
}
