//! The latest deliveries: what each was, what became of it, and which requests it made.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use local_host::{Invocation, Running};
use test_storage::{Kind, Request, from_base64};

/// More are only counted.
const KEPT: usize = 200;
/// The length of what is shown of a message, in characters.
const SHOWN: usize = 120;
/// The outcomes of those that have not ended.
const IN_FLIGHT: &str = "in flight";
const HELD: &str = "held";

/// A delivery, or a run of the timer.
#[derive(Debug)]
struct Delivery {
    id: String,
    what: String,
    count: u32,
    outcome: &'static str,
    detail: String,
    milliseconds: u128,
    requests: Vec<&'static str>,
    /// Why it put its message in quarantine.
    reason: Option<String>,
    /// The hash of the order's id and the commit id, by which its requests are known.
    hash: String,
    commit: String,
}

/// The latest deliveries, the newest last, and the number of all by their outcomes.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    latest: VecDeque<Delivery>,
    totals: BTreeMap<&'static str, u64>,
}

impl Deliveries {
    /// Notes one that goes on, unless its end was seen already.
    pub(super) fn running(&mut self, running: &Running, is_held: bool) {
        let delivery = self.entry(running.id.to_string(), running.message.as_deref(), running.dequeue_count);
        if matches!(delivery.outcome, IN_FLIGHT | HELD) {
            delivery.outcome = if is_held { HELD } else { IN_FLIGHT };
            delivery.milliseconds = running.start.elapsed().as_millis();
        }
    }

    /// Notes one that has ended.
    pub(super) fn finished(&mut self, invocation: &Invocation) {
        let delivery = self.entry(invocation.id.to_string(), invocation.message.as_deref(), invocation.dequeue_count);
        delivery.outcome = outcome(invocation);
        if delivery.outcome == "given back" {
            delivery.detail = invocation.logs.join(" ");
        } else if let Some(failure) = &invocation.failure {
            delivery.detail.clone_from(failure);
        }
        delivery.milliseconds = invocation.duration.as_millis();
    }

    /// Notes what became of an invocation that put its message in quarantine.
    pub(super) fn kept(&mut self, invocation: &str, reason: &str) {
        if let Some(delivery) = self.latest.iter_mut().rfind(|delivery| delivery.id == invocation) {
            delivery.requests.push(Kind::PutMessage.name());
            delivery.reason = Some(reason.to_owned());
        }
    }

    /// Notes a request under the delivery that made it, which its body or its target tells.
    pub(super) fn request(&mut self, request: &Request) {
        let (target, body) = (&*request.target, String::from_utf8_lossy(&request.body));
        let Some((hash, rest)) = order(target).or_else(|| order(&body)) else { return };
        let name = request.kind.name();
        match (between(&body, "\"invocation\":\"", "\""), between(&body, "\"commit_id\":\"", "\"")) {
            (Some(id), Some(commit)) => {
                if let Some(delivery) = self.latest.iter_mut().rfind(|delivery| delivery.id == id) {
                    (delivery.hash, delivery.commit) = (hash.to_owned(), commit.to_owned());
                    delivery.requests.push(name);
                }
            }
            _ => self.of_commit(hash, between(rest, "~", "~").unwrap_or_default(), name),
        }
    }

    /// Notes a request about an order, by the hash of its id, and about one of its commits. A delivery that has failed makes
    /// none any more; then it was one that found the commit of another.
    pub(super) fn of_commit(&mut self, hash: &str, commit: &str, name: &'static str) {
        let made = |one: &Delivery| one.hash == hash && one.commit == commit && one.outcome != "failed";
        let place = self.latest.iter().rposition(made).or_else(|| self.latest.iter().rposition(|one| one.hash == hash));
        if let Some(place) = place {
            self.latest[place].requests.push(name);
        }
    }

    /// Notes that the message of a delivery was put back on its queue.
    pub(super) fn put_back(&mut self, text: &str) {
        let what = shown(text);
        if let Some(delivery) =
            self.latest.iter_mut().rfind(|one| one.what == what && one.detail.contains("Given back"))
        {
            delivery.requests.push(Kind::PutMessage.name());
        }
    }

    /// Counts those that have ended, once all is known of them, and lets go of the oldest.
    pub(super) fn count(&mut self, finished: &[Invocation]) {
        for invocation in finished {
            let id = invocation.id.to_string();
            let Some(delivery) = self.latest.iter_mut().rfind(|delivery| delivery.id == id) else { continue };
            if let ("rejected", Some(reason)) = (delivery.outcome, &delivery.reason) {
                delivery.outcome = if reason == "conflict" { "conflict" } else { "rejected" };
                delivery.detail.clone_from(reason);
            }
            *self.totals.entry(delivery.outcome).or_default() += 1;
            if invocation.dequeue_count > Some(1) {
                *self.totals.entry("redelivered").or_default() += 1;
            }
        }
        let surplus = self.latest.len().saturating_sub(KEPT);
        self.latest.drain(..surplus);
    }

    pub(super) fn totals(&self) -> Value {
        json!(self.totals)
    }

    /// Shows them, the newest first.
    pub(super) fn show(&self) -> Vec<Value> {
        let deliveries = self.latest.iter().rev();
        let row = |one: &Delivery| {
            json!({
                "id": one.id, "what": one.what, "count": one.count, "outcome": one.outcome, "detail": one.detail,
                "ms": one.milliseconds, "requests": one.requests,
            })
        };
        deliveries.map(row).collect()
    }

    fn entry(&mut self, id: String, message: Option<&str>, count: Option<u32>) -> &mut Delivery {
        let place = self.latest.iter().rposition(|delivery| delivery.id == id).unwrap_or_else(|| {
            let what = message.map_or_else(|| "timer".to_owned(), shown);
            let (detail, requests) = (String::new(), Vec::new());
            let count = count.unwrap_or(1);
            self.latest.push_back(Delivery {
                id,
                what,
                count,
                outcome: IN_FLIGHT,
                detail,
                milliseconds: 0,
                requests,
                reason: None,
                hash: String::new(),
                commit: String::new(),
            });
            self.latest.len() - 1
        });
        &mut self.latest[place]
    }
}

/// Tells the outcome by the answer and its log lines, as an operator does.
fn outcome(invocation: &Invocation) -> &'static str {
    let says = |text: &str| invocation.logs.iter().any(|line| line.starts_with(text));
    match invocation {
        Invocation { succeeded: false, .. } => "failed",
        Invocation { message: None, .. } => "timer ran",
        Invocation { return_value: None, .. } if says("Given back") => "given back",
        Invocation { return_value: None, .. } => "rejected",
        _ if says("Duplicate message detected") => "duplicate",
        _ => "new",
    }
}

fn shown(text: &str) -> String {
    let text = from_base64(text).unwrap_or_else(|| text.to_owned());
    text.chars().take(SHOWN).collect()
}

/// Finds the hash of an order's id in a key of the table, and what follows it.
fn order(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("record~").or_else(|| text.split_once("outbox~"))?;
    rest.split_at_checked(64)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}
