//! `cargo ops` as a process, over Azurite; what it meets was written by the handler's own code.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the commands of an operator")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

#[path = "../../../../src/order.rs"]
mod order;
mod rig;

use futures::future::join_all;
use handler::{functions::queue_with_idempotency::Served, idempotency::Key, quarantine::Reason};
use order::DOMAIN;
use rig::{Rig, SECRET, STEERING};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use test_storage::{Fault, FaultProxy, Kind, Service};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

fn order(id: &str) -> String {
    format!(r#"{{"id":"{id}","amount":42,"card":"{SECRET}"}}"#)
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn minutes(minutes: i64) -> OffsetDateTime {
    now() + Duration::minutes(minutes)
}

#[tokio::test]
async fn the_fate_of_each_order_is_told() {
    let rig = Rig::new().await;
    let (code, lines) = rig.ops(&["explain", "order-1"]).await;
    assert_eq!((code, &lines[0]["verdict"]), (3, &json!("no_table")));
    rig.serve(&order("committed"), now()).await;
    rig.commit(&order("unpublished"), minutes(-2)).await;
    // So far ahead that no busy machine gets there.
    rig.commit(&order("publishing"), minutes(30)).await;
    rig.commit(&order("stuck"), minutes(-2)).await;
    rig.change("stuck", "outbox~", json!({"schema": 2})).await;
    rig.serve(&order("never-expires"), now()).await;
    rig.delete("never-expires", "expiry~").await;
    rig.serve(&order("expired"), minutes(-40 * 24 * 60)).await;
    rig.serve(&order("newer"), now()).await;
    rig.change("newer", "record~", json!({"schema": 2})).await;
    rig.serve(&order("damaged"), now()).await;
    rig.change("damaged", "record~", json!({"events": "many"})).await;
    rig.commit(&order("forgotten"), minutes(-2)).await;
    rig.delete("forgotten", "record~").await;
    rig.serve(&order("conflict"), now()).await;
    rig.serve(r#"{"id":"conflict","amount":43}"#, now()).await;
    rig.serve(&format!(r#"{{"id":"invalid","amount":"{SECRET}"}}"#), now()).await;
    let large = format!(r#"{{"id":"large","note":"{}"}}"#, "\\\"".repeat(20_000));
    rig.keep(Reason::Exhausted, &large, now()).await;
    rig.account.put("orders-poison", &order("poisoned")).await.unwrap();
    rig.account.put("orders", &order("waiting")).await.unwrap();
    for (id, verdict, code) in [
        ("committed", "committed", 0),
        ("unpublished", "unpublished", 0),
        ("publishing", "publishing", 0),
        ("stuck", "event_stuck", 0),
        ("never-expires", "never_expires", 0),
        ("expired", "expired", 0),
        ("newer", "newer_schema", 0),
        ("damaged", "damaged", 0),
        ("forgotten", "forgotten", 0),
        ("nobody", "unknown", 3),
        ("invalid", "unknown", 3),
        ("two\nlines", "unusable_id", 3),
    ] {
        let (exit, lines) = rig.ops(&["explain", id]).await;
        assert_eq!((exit, &lines[0]["verdict"]), (code, &json!(verdict)), "{id}: {lines:?}");
    }
    for (id, verdict, place, reason, envelopes) in [
        ("conflict", "committed", "orders-quarantine", "conflict", 1),
        ("invalid", "quarantined", "orders-quarantine", "invalid_order", 1),
        ("large", "quarantined", "orders-quarantine", "exhausted", 5),
        ("poisoned", "poisoned", "orders-poison", "", 1),
        ("waiting", "waiting", "orders", "", 1),
    ] {
        let (_, lines) = rig.ops(&["explain", id, "--queues"]).await;
        let found = &lines[0]["found"][0];
        assert_eq!((&lines[0]["verdict"], &found["queue"]), (&json!(verdict), &json!(place)), "{id}: {lines:?}");
        assert_eq!((&found["reason"], &found["envelopes"]), (&json!(reason), &json!(envelopes)), "{id}: {lines:?}");
    }
    let seen = rig.account.peek("orders").await.unwrap();
    assert_eq!(seen.iter().map(|message| message.dequeue_count).collect::<Vec<_>>(), [0], "a delivery was spent");
}

#[tokio::test]
async fn what_would_become_of_a_message_is_told_and_nothing_is_done() {
    let rig = Rig::new().await;
    rig.serve(&order("order-1"), now()).await;
    rig.serve(&order("newer"), now()).await;
    rig.change("newer", "record~", json!({"schema": 2})).await;
    let before = rig.stored().await;
    for (message, verdict) in [
        (order("order-2"), "new"),
        (format!(r#" {{"card":"{SECRET}", "amount":42.0, "id":"order-1"}} "#), "duplicate"),
        (order("order-1").replace("42", "43"), "conflict"),
        (order("newer"), "put_back"),
        (SECRET.to_owned(), "rejected"),
        (format!(r#"{{"card":"{SECRET}"}}"#), "rejected"),
        (format!(r#"{{"id":"order-3","amount":"{SECRET}"}}"#), "rejected"),
    ] {
        let (code, lines) = rig.ops(&["explain", "--message", &message]).await;
        assert_eq!((code, &lines[0]["message"]["verdict"]), (0, &json!(verdict)), "{message}: {lines:?}");
    }
    assert_eq!(rig.stored().await, before);
    let (_, lines) = rig.ops(&["explain", "--message", SECRET, "--show-message"]).await;
    assert!(lines[0]["message"]["detail"].as_str().unwrap().contains("base64"), "{lines:?}");
}

#[tokio::test]
async fn an_order_is_explained_by_its_keys_and_never_by_a_scan() {
    let mut rig = Rig::new().await;
    rig.serve(&order("order-1"), now()).await;
    let tables = FaultProxy::start(&rig.account, Service::Table).await.unwrap();
    rig.account = tables.account(&rig.account);
    rig.ops(&["explain", "order-1"]).await;
    assert_eq!(tables.kinds(), [Kind::GetEntity, Kind::GetEntity, Kind::Query]);
    assert!(tables.requests()[2].target.contains("RowKey"), "{:?}", tables.requests()[2].target);
}

#[tokio::test]
async fn a_thousand_messages_are_listed_and_put_back_exactly_though_the_tool_is_killed() {
    let rig = Rig::new().await;
    let reasons = [Reason::InvalidJson, Reason::MissingId, Reason::InvalidOrder, Reason::Conflict, Reason::Exhausted];
    const KILLS: usize = 20;
    // No orders: they come back to quarantine, by which they are seen to be exact.
    let mut odd = ["", "--help", "@/etc/passwd", "a=@b", "two lines\nand ends\n\n", "\u{2028}", "$HOME `id` * %s"]
        .map(str::to_owned)
        .to_vec();
    odd.push("  {\"id\":\t\"<&> \\u00e9 💶\"\r\n ".to_owned());
    // Kept in parts, as every hundredth order.
    odd.push("\"\u{e9}".repeat(14_000));
    let order = |number: usize| match number % 100 {
        0 => format!(r#"{{"id":"{number}","note":"{}"}}"#, "\\\"\u{e9}".repeat(14_000)),
        rest => format!("  {{\"id\":\t\"{number}\", \"note\":\"<&> \\u00e9 💶 {rest}\"}}\r\n "),
    };
    let kept: Vec<_> = (0..1_000).map(|number| (reasons[number % 5], order(number))).collect();
    let all = kept.into_iter().chain(odd.iter().map(|text| (Reason::InvalidJson, text.clone())));
    for chunk in all.collect::<Vec<_>>().chunks(50) {
        join_all(chunk.iter().map(|(reason, text)| rig.keep(*reason, text, now()))).await;
    }
    let (_, lines) = rig.ops(&["list"]).await;
    assert_eq!((&lines[0]["total"], &lines[0]["held_by_others"]), (&json!(1_000 + odd.len()), &json!(0)), "{lines:?}");
    for (reason, others) in reasons.into_iter().zip([odd.len(), 0, 0, 0, 0]) {
        assert_eq!(lines[0]["groups"][reason.as_str()]["count"], 200 + others, "{lines:?}");
    }
    let queues = FaultProxy::start(&rig.account, Service::Queue).await.unwrap();
    for kill in 0..KILLS {
        let nth = 3 + kill * 7 % 50;
        // For a while there may be nothing to be seen: what those before had under way is hidden.
        while !rig.kill_at(&queues, nth, &["requeue", "--all", "--hold", "2"]).await {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }
    let mut runs = 0;
    // Of a message that was put back whole, parts may be left: they are told, and cannot be put back.
    let is_left = |line: &Value| ["refused", "stale", "held_by_others"].iter().any(|name| line[name] != 0);
    while rig.ops(&["requeue", "--all", "--hold", "2"]).await.1.iter().any(is_left) {
        runs += 1;
        assert!(runs < 100, "it does not end");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    let invocations = rig.serve_all().await;
    // A killed run leaves at most what it had under way.
    assert!(invocations <= 1_000 + odd.len() + KILLS * 32, "{invocations}");
    let effects = (0..1_000).map(|number| Key::new(DOMAIN.scope, &number.to_string()).record_row_key()[7..].to_owned());
    assert!(rig.row_keys("record~").await == effects.collect(), "other orders took effect");
    assert_eq!(rig.event_ids().await.len(), 1_000, "an order took effect twice");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("discarded.jsonl");
    let (code, _) = rig.ops(&["discard", "--all", "--parts", "--to", file.to_str().unwrap()]).await;
    assert_eq!((code, rig.account.queue_length("orders-quarantine").await.unwrap()), (0, 0));
    let discarded = std::fs::read_to_string(file).unwrap();
    let discarded = discarded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let whole =
        discarded.filter(|line| line["part"].is_null()).map(|line| line["message"].as_str().unwrap().to_owned());
    assert!(whole.collect::<BTreeSet<_>>() == odd.into_iter().collect());
}

#[tokio::test]
async fn parts_and_foreign_messages_are_told_and_discarded_only_if_it_is_asked_for() {
    let rig = Rig::new().await;
    let part = json!({"reason": "exhausted", "invocation_id": "one", "part": [1, 2], "whole": "both", "message": "a"});
    // What XML cannot hold is on no queue.
    let foreign = format!("foreign {}", STEERING.replace('\u{1b}', ""));
    for text in [&foreign, &part.to_string()] {
        rig.account.put("orders-quarantine", text).await.unwrap();
    }
    rig.keep(Reason::Conflict, &order("order-1"), now()).await;
    for arguments in [&["list", "--each", "--show-message"][..], &["requeue", "--all", "--dry-run", "--each"]] {
        let (_, text) = rig.text(arguments).await;
        for told in ["not written by the handler", "part whose others are not there", "conflict"] {
            assert!(text.contains(told), "{text}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("discarded.jsonl");
    let discard = |others: &[&'static str]| [&["discard", "--to", file.to_str().unwrap()], others].concat();
    assert_eq!(rig.ops(&discard(&["--reason", "conflict"])).await.0, 0, "the others were not meant");
    for arguments in [&["requeue", "--all"], &discard(&["--all"])[..]] {
        let (code, lines) = rig.ops(arguments).await;
        let found = ["taken", "incomplete_parts", "foreign"].map(|name| lines[0][name].as_u64().unwrap());
        assert_eq!((code, found), (3, [0, 1, 1]), "{lines:?}");
    }
    // As long as another message is hidden, it may be the other part.
    let mut hidden = rig.account.receive("orders-quarantine", 1, std::time::Duration::from_secs(60)).await.unwrap();
    let (code, lines) = rig.ops(&discard(&["--parts"])).await;
    assert_eq!((code, &lines[0]["taken"], &lines[0]["held_by_others"]), (3, &json!(0), &json!(1)), "{lines:?}");
    rig.account.update_visibility("orders-quarantine", &mut hidden[0], std::time::Duration::ZERO).await.unwrap();
    let (code, lines) = rig.ops(&discard(&["--parts", "--foreign"])).await;
    assert_eq!((code, &lines[0]["taken"]), (0, &json!(2)), "{lines:?}");
    assert_eq!(rig.account.queue_length("orders-quarantine").await.unwrap(), 0);
    let discarded = std::fs::read_to_string(&file).unwrap();
    let discarded: Vec<Value> = discarded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&discarded[1]["message"], &discarded[2]["part"]), (&json!(foreign), &json!([1, 2])), "{discarded:?}");
}

#[tokio::test]
async fn what_an_interrupted_command_has_read_can_be_seen_again() {
    for arguments in [&["list"][..], &["explain", "nobody", "--queues"], &["requeue", "--id", "nobody"]] {
        let rig = Rig::new().await;
        join_all((0..70).map(|_| rig.account.put("orders-quarantine", "{}"))).await;
        let queues = FaultProxy::start(&rig.account, Service::Queue).await.unwrap();
        assert_eq!(rig.interrupt_at(&queues, 2, arguments).await, 3, "{arguments:?}");
        assert_eq!(rig.drain("orders-quarantine").await.len(), 70, "{arguments:?}");
    }
}

#[tokio::test]
async fn only_what_is_selected_and_not_stale_is_put_back() {
    let rig = Rig::new().await;
    rig.keep(Reason::Exhausted, &order("stale"), minutes(-31 * 24 * 60)).await;
    rig.keep(Reason::Exhausted, &order("fresh"), now()).await;
    rig.keep(Reason::Conflict, &order("other"), now()).await;
    // Parked from the poison queue: it may have waited for two weeks before.
    let time = minutes(-17 * 24 * 60).format(&Rfc3339).unwrap();
    let parked = json!({"reason": "exhausted", "time": time, "message": order("parked")});
    rig.account.put("orders-quarantine", &parked.to_string()).await.unwrap();
    let before = rig.stored().await;
    let (code, lines) = rig.ops(&["requeue", "--reason", "exhausted", "--dry-run", "--each"]).await;
    assert_eq!((code, &lines[3]["taken"], &lines[3]["stale"]), (3, &json!(1), &json!(2)), "{lines:?}");
    assert_eq!(rig.stored().await, before, "a dry run wrote something");
    let (code, lines) = rig.ops(&["requeue", "--reason", "exhausted"]).await;
    assert_eq!((code, &lines[0]["not_selected"]), (3, &json!(1)), "{lines:?}");
    assert_eq!(rig.drain("orders").await, [order("fresh")]);
    let base64 = [("AzureFunctionsJobHost__extensions__queues__messageEncoding", "base64")];
    let (code, _) = rig.ops_with(&base64, &["requeue", "--id", "stale", "--force"]).await;
    let texts = rig.drain("orders").await;
    assert_eq!((code, test_storage::from_base64(&texts[0])), (0, Some(order("stale"))));
    assert_eq!(rig.ops(&["requeue"]).await.0, 2, "nothing was selected");
}

#[tokio::test]
async fn a_message_that_is_not_put_is_not_deleted_and_no_more_is_taken_than_was_asked_for() {
    let mut rig = Rig::new().await;
    join_all((0..40).map(|_| rig.keep(Reason::Exhausted, "{}", now()))).await;
    let queues = FaultProxy::start(&rig.account, Service::Queue).await.unwrap();
    let direct = rig.account.clone();
    rig.account = queues.account(&direct);
    for (kind, put) in [(Kind::PutMessage, 0), (Kind::Other, 1)] {
        queues.set_rule(move |request| match request.kind == kind && request.method != "PUT" {
            true => Fault::Status(403, vec![("x-ms-error-code", "AuthorizationFailure".to_owned())], String::new()),
            false => Fault::Pass,
        });
        assert_eq!(rig.ops(&["requeue", "--all", "--most", "1"]).await.0, 1);
        assert_eq!(direct.queue_length("orders-quarantine").await.unwrap(), 40);
        assert_eq!(direct.queue_length("orders").await.unwrap(), put);
    }
    // By the clock of the service, all of them came after the command began.
    queues.set_rule(|request| match request.kind == Kind::Query {
        true => Fault::Status(400, vec![("date", "Sat, 01 Jan 2000 00:00:00 GMT".to_owned())], String::new()),
        false => Fault::Pass,
    });
    let (code, lines) = rig.ops(&["requeue", "--all"]).await;
    assert_eq!((code, &lines[0]["taken"], &lines[0]["newer"]), (0, &json!(0), &json!(32)), "{lines:?}");
    queues.lift();
    let (code, lines) = rig.ops(&["requeue", "--all", "--most", "2"]).await;
    assert_eq!((code, &lines[0]["taken"], &lines[0]["not_selected"]), (0, &json!(2), &json!(30)), "{lines:?}");
    assert_eq!((&lines[0]["unread"], &lines[0]["held_by_others"]), (&json!(8), &json!(0)), "{lines:?}");
}

#[tokio::test]
async fn a_message_that_fails_again_comes_back_to_quarantine() {
    let rig = Rig::new().await;
    let text = format!(r#"{{"id":"order-1","amount":"{SECRET}"}}"#);
    rig.serve(&text, now()).await;
    assert_eq!(rig.ops(&["requeue", "--id", "order-1"]).await.0, 0);
    let texts = rig.drain("orders").await;
    assert_eq!(rig.serve(&texts[0], now()).await, Served::Quarantined(Reason::InvalidOrder));
    assert_eq!(rig.account.queue_length("orders-quarantine").await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_discarded_is_in_a_file_before() {
    let rig = Rig::new().await;
    rig.keep(Reason::Conflict, &order("order-1"), now()).await;
    rig.keep(Reason::Exhausted, &order("order-2"), now()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("discarded.jsonl");
    let to = file.to_str().unwrap();
    let before = rig.stored().await;
    assert_eq!(rig.ops(&["discard", "--all", "--dry-run"]).await.0, 0);
    assert_eq!(rig.stored().await, before, "a dry run wrote something");
    std::fs::write(&file, "x".repeat(65_436)).unwrap();
    for (limits, to) in [(":", "/nowhere/file"), (":", "/dev/full"), ("ulimit -f 64; trap '' XFSZ", to)] {
        assert_eq!(rig.under(limits, &["discard", "--all", "--to", to]).await, 1, "{to}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 65_436, "half a line is left");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(rig.account.queue_length("orders-quarantine").await.unwrap(), 2);
    assert_eq!(rig.ops(&["discard", "--reason", "conflict", "--to", to]).await.0, 0);
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((&line["reason"], &line["message"]), (&json!("conflict"), &json!(order("order-1"))));
    assert_eq!(rig.account.queue_length("orders-quarantine").await.unwrap(), 1);
}

#[tokio::test]
async fn a_forgotten_order_takes_effect_again_and_its_events_are_published_before() {
    let mut rig = Rig::new().await;
    rig.commit(&order("order-1"), minutes(-2)).await;
    rig.serve(&order("order-2"), now()).await;
    let before = rig.stored().await;
    assert_eq!(rig.ops(&["forget", "order-1", "--dry-run"]).await.1[0]["events_published"], 1);
    assert_eq!(rig.stored().await, before, "a dry run wrote something");
    // The answer is lost, and the second request finds nothing.
    let (direct, tables) = (rig.account.clone(), FaultProxy::start(&rig.account, Service::Table).await.unwrap());
    rig.account = tables.account(&direct);
    tables.fail_next(1, Kind::Batch, Fault::DropReply);
    let (code, lines) = rig.ops(&["forget", "order-1"]).await;
    assert_eq!((code, &lines[0]["forgotten"], &lines[0]["events_published"]), (0, &json!(true), &json!(1)));
    rig.account = direct;
    assert!(rig.rows("order-1").await.is_empty());
    assert_eq!(rig.rows("order-2").await.len(), 2);
    assert_eq!(rig.account.queue_length("order-events").await.unwrap(), 2);
    assert_eq!(rig.ops(&["forget", "order-1"]).await.0, 3, "nothing is stored of it");
    assert!(matches!(rig.serve(&order("order-1"), now()).await, Served::Receipt(_)));
    assert_eq!(rig.account.queue_length("order-events").await.unwrap(), 3);
}

#[tokio::test]
async fn an_order_whose_event_cannot_be_published_is_not_forgotten() {
    let rig = Rig::new().await;
    rig.commit(&order("order-1"), minutes(-2)).await;
    rig.change("order-1", "outbox~", json!({"schema": 2})).await;
    assert_eq!(rig.ops(&["forget", "order-1"]).await.0, 1);
    assert_eq!(rig.rows("order-1").await.len(), 3);
    assert_eq!(rig.ops(&["forget", "order-1", "--drop-events"]).await.1[0]["events_dropped"], 1);
    assert!(rig.rows("order-1").await.is_empty());
}

#[tokio::test]
async fn what_is_missing_is_created_once() {
    let rig = Rig::new().await;
    for is_new in [true, false] {
        let (code, lines) = rig.ops(&["init"]).await;
        let made: Vec<_> =
            lines.iter().map(|line| (line["name"].as_str().unwrap(), line["is_new"] == is_new)).collect();
        let names = ["idempotency", "orders", "orders-poison", "orders-quarantine", "order-events"];
        assert_eq!((code, made), (0, names.map(|name| (name, true)).to_vec()));
    }
}

#[tokio::test]
async fn events_and_poison_are_listed() {
    let rig = Rig::new().await;
    for number in 0..20 {
        rig.commit(&order(&format!("order-{number}")), minutes(-2)).await;
    }
    rig.change("order-7", "outbox~", json!({"schema": 2})).await;
    for number in 0..40 {
        rig.account.put("orders-poison", &order(&format!("order-{number}"))).await.unwrap();
    }
    let (_, lines) = rig.ops(&["list", "events"]).await;
    assert_eq!(lines[0]["groups"]["left to the timer"]["count"], 19, "{lines:?}");
    assert_eq!(lines[0]["groups"]["cannot be published"]["count"], 1, "{lines:?}");
    let (_, lines) = rig.ops(&["list", "poison", "--each"]).await;
    assert_eq!((lines.len(), &lines[40]["total"]), (41, &json!(40)), "{lines:?}");
    assert_eq!(rig.account.peek("orders-poison").await.unwrap().len(), 32, "they are hidden");
}

#[tokio::test]
async fn what_is_wrong_with_an_account_is_found_with_its_cure() {
    let mut rig = Rig::new().await;
    let wrong = |lines: &[Value]| {
        let wrong = lines.iter().filter(|line| line["is_wrong"] == true && line["cure"].is_string());
        wrong.map(|line| line["check"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (code, lines) = rig.ops(&["doctor"]).await;
    assert_eq!((code, wrong(&lines)), (3, ["table idempotency: read", "queue orders"].map(str::to_owned).to_vec()));
    rig.ops(&["init"]).await;
    let before = rig.stored().await;
    let (code, lines) = rig.ops(&["doctor"]).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]), "{lines:?}");
    let mut after = rig.stored().await;
    after[0].as_array_mut().unwrap().retain(|row| row["PartitionKey"] != "probe");
    assert_eq!(after, before);
    rig.account.put("orders", &order("order-1")).await.unwrap();
    let settings =
        [("IDEMPOTENCY_TTL_HOURS", "24"), ("AzureFunctionsJobHost__extensions__queues__messageEncoding", "base64")];
    let (code, lines) = rig.ops_with(&settings, &["doctor"]).await;
    assert_eq!((code, wrong(&lines)), (3, ["retention", "encoding of orders"].map(str::to_owned).to_vec()));
    let (_, lines) = rig.ops_with(&[("IDEMPOTENCY_TTL_HOURS", "many")], &["doctor"]).await;
    assert_eq!(wrong(&lines), ["settings"]);
    for service in [Service::Table, Service::Queue] {
        let proxy = FaultProxy::start(&rig.account, service).await.unwrap();
        proxy.fail_all(Fault::Status(
            403,
            vec![("x-ms-error-code", "AuthorizationPermissionMismatch".to_owned())],
            String::new(),
        ));
        rig.account = proxy.account(&rig.account);
        let (_, lines) = rig.ops(&["doctor"]).await;
        let found =
            if service == Service::Table { "table idempotency: read" } else { "queue orders-quarantine: delete" };
        assert!(wrong(&lines).iter().any(|check| check == found), "{lines:?}");
        let command = if service == Service::Table { ["explain", "order-1"] } else { ["list", "poison"] };
        let (code, text) = rig.text(&command).await;
        assert!(code == 1 && text.contains("cure: Storage Queue Data Contributor"), "{text}");
    }
}

#[tokio::test]
async fn what_is_stored_is_held_against_the_promises() {
    let rig = Rig::new().await;
    for number in 0..60 {
        rig.serve(&order(&format!("order-{number}")), now()).await;
    }
    let sum = |lines: &[Value], what: &str| lines.iter().filter_map(|line| line[what].as_u64()).sum::<u64>();
    let rows = |lines: &[Value], what: &str| {
        let rows = lines.iter().flat_map(|line| line[what].as_array().unwrap().clone());
        rows.collect::<Vec<_>>()
    };
    let (code, lines) = rig.ops(&["verify"]).await;
    assert_eq!((code, lines.len(), sum(&lines, "records"), sum(&lines, "index_rows")), (0, 64, 60, 60), "{lines:?}");
    rig.serve(&order("overdue"), minutes(-40 * 24 * 60)).await;
    rig.delete("order-1", "expiry~").await;
    // An index row without a record is harmless.
    rig.delete("order-2", "record~").await;
    rig.change("order-3", "record~", json!({"schema": 2})).await;
    rig.commit(&order("forgotten"), minutes(-2)).await;
    rig.delete("forgotten", "record~").await;
    let before = rig.stored().await;
    let (code, lines) = rig.ops(&["verify"]).await;
    assert_eq!((code, sum(&lines, "overdue"), sum(&lines, "unreadable")), (3, 1, 1), "{lines:?}");
    let key = Key::new(DOMAIN.scope, "order-1");
    assert_eq!(rows(&lines, "records_without_index_row"), [json!(key.record_row_key())]);
    assert_eq!(rows(&lines, "events_without_record").len(), 1, "{lines:?}");
    assert_eq!(rig.stored().await, before);
    let bucket = key.bucket().to_string();
    let (_, lines) = rig.ops(&["verify", "--from", &bucket, "--to", &bucket]).await;
    assert_eq!((lines.len(), rows(&lines, "records_without_index_row").len()), (1, 1), "{lines:?}");
}
