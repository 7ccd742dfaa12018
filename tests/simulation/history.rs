//! One history: some messages, a host that delivers them until they are done, workers that die, a timer, and the checks.

use crate::service::Service;
use futures::future::join_all;
use handler::{
    attempt::Attempt,
    functions::{Failure, queue_with_idempotency, scheduled_with_retry},
    idempotency::{Key, Ledger},
    storage::{Account, Queue, Table},
};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use time::macros::datetime;
use tokio::time::Instant;

/// Whether anything goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Calm,
    Faulty,
}

/// How a message left the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Answered(String),
    Quarantined(&'static str),
}

/// A message: which id, which content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    id: u8,
    amount: u8,
}

impl Message {
    fn text(self) -> String {
        format!(r#"{{"id":"order-{}","amount":{}}}"#, self.id, self.amount)
    }
}

pub(crate) struct History {
    kind: Kind,
    service: Arc<Service>,
    messages: Vec<Message>,
    ends: Vec<Vec<End>>,
    pub(crate) duplicates: u32,
    pub(crate) retries: u32,
    pub(crate) crashes: u32,
}

/// What all tasks of a history share.
struct World {
    service: Arc<Service>,
    ledger: Ledger,
    events: Queue,
    random: RefCell<fastrand::Rng>,
    start: Instant,
    kind: Kind,
    retries: Cell<u32>,
    crashes: Cell<u32>,
    done: Cell<usize>,
}

impl World {
    fn attempt(&self) -> Attempt {
        let skew = self.draw(0..4_000) - 2_000;
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        Attempt {
            invocation_id: String::new(),
            now: datetime!(2026-11-21 10:20 UTC) + time::Duration::milliseconds(elapsed + skew),
            deadline: Instant::now() + Duration::from_secs(290),
            random: fastrand::Rng::with_seed(self.random.borrow_mut().u64(..)),
        }
    }

    fn draw(&self, range: std::ops::Range<i64>) -> i64 {
        self.random.borrow_mut().i64(range)
    }

    /// Delivers one message until it has left the queue, and sometimes once more: an acknowledgement can be lost too.
    async fn deliver(&self, message: Message) -> Vec<End> {
        let mut ends = Vec::new();
        let mut copies = 1 + usize::from(self.draw(0..3) == 0);
        for delivery in 0.. {
            tokio::time::sleep(Duration::from_millis(self.draw(0..200).unsigned_abs())).await;
            match self.attempt_delivery(message).await {
                Some(end) => {
                    self.service.note(format!("{message:?} delivery {delivery}: {end:?}"));
                    ends.push(end);
                    copies -= 1;
                }
                None => {
                    self.retries.set(self.retries.get() + 1);
                    tokio::time::sleep(Duration::from_secs(30)).await;
                }
            }
            if copies == 0 || delivery > 200 {
                break;
            }
        }
        self.done.set(self.done.get() + 1);
        ends
    }

    /// One delivery; none when it failed, or its worker was killed.
    async fn attempt_delivery(&self, message: Message) -> Option<End> {
        let (text, attempt) = (message.text(), self.attempt());
        let run = queue_with_idempotency::run(&self.ledger, &self.events, &text, &attempt);
        let is_killed = self.kind == Kind::Faulty && self.draw(0..4) == 0;
        let life = if is_killed { Duration::from_millis(self.draw(0..300).unsigned_abs()) } else { Duration::MAX };
        match tokio::time::timeout(life, run).await {
            Ok(Ok(receipt)) => Some(End::Answered(receipt)),
            Ok(Err(Failure::Reject(rejection))) => Some(End::Quarantined(rejection.reason)),
            Ok(Err(Failure::Retry(error))) => {
                self.service.note(format!("{message:?} failed: {error}"));
                None
            }
            Err(_) => {
                self.service.note(format!("{message:?} killed"));
                self.crashes.set(self.crashes.get() + 1);
                None
            }
        }
    }

    async fn tick(&self) -> bool {
        let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
        scheduled_with_retry::run(&self.ledger, &self.events, &tick, &self.attempt()).await.is_ok()
    }

    /// Ticks until all messages are done.
    async fn timer(&self, messages: usize) {
        while self.done.get() < messages {
            tokio::time::sleep(Duration::from_secs(40)).await;
            self.tick().await;
        }
    }
}

impl History {
    pub(crate) fn run(seed: u64, kind: Kind) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(Self::live(seed, kind))
    }

    async fn live(seed: u64, kind: Kind) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let faults = if kind == Kind::Faulty { random.u32(1..25) } else { 0 };
        let service = Arc::new(Service::new(seed, faults));
        let message = |random: &mut fastrand::Rng| Message { id: random.u8(0..2), amount: random.u8(0..5) / 4 };
        let messages: Vec<_> = (0..random.usize(2..6)).map(|_| message(&mut random)).collect();
        let account = Account::from_connection_string("AccountName=shop;AccountKey=a2V5").unwrap();
        let world = World {
            ledger: Ledger::new(Table::new(&account, "idempotency", service.clone()), time::Duration::days(30)),
            events: Queue::new(&account, "order-events", service.clone()),
            service: service.clone(),
            random: RefCell::new(random),
            start: Instant::now(),
            kind,
            retries: Cell::new(0),
            crashes: Cell::new(0),
            done: Cell::new(0),
        };
        let deliveries = join_all(messages.iter().map(|message| world.deliver(*message)));
        let timer = async {
            if kind == Kind::Faulty {
                world.timer(messages.len()).await;
            }
        };
        let (ends, ()) = tokio::join!(deliveries, timer);
        if kind == Kind::Faulty {
            service.calm();
            tokio::time::sleep(Duration::from_secs(60)).await;
            let succeeded = world.tick().await;
            service.note(format!("the last tick, without faults: {succeeded}"));
        }
        let answered: usize = ends.iter().flatten().filter(|end| matches!(end, End::Answered(_))).count();
        let ids: BTreeSet<_> = messages.iter().map(|message| message.id).collect();
        let duplicates = u32::try_from(answered.saturating_sub(ids.len())).unwrap();
        let (retries, crashes) = (world.retries.get(), world.crashes.get());
        Self { kind, service, messages, ends, duplicates, retries, crashes }
    }

    /// The history as it happened.
    pub(crate) fn trace(&self) -> String {
        self.service.state().trace.iter().map(|event| event.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// What was promised and not kept.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut faults = self.service.state().broken.clone();
        for id in self.messages.iter().map(|message| message.id).collect::<BTreeSet<_>>() {
            self.check_order(id, &mut faults);
        }
        self.check_storage(&mut faults);
        if self.kind == Kind::Calm {
            self.check_budget(&mut faults);
        }
        faults
    }

    /// One commit, one receipt for everybody with the same content, quarantine for everybody else, one event id.
    fn check_order(&self, id: u8, faults: &mut Vec<String>) {
        let state = self.service.state();
        let key = Key::new("orders", &format!("order-{id}"));
        let record = state.table.as_ref().and_then(|table| table.get(&(key.partition_key(), key.record_row_key())));
        let Some(receipt) = record.map(|record| record["receipt"].as_str().unwrap().to_owned()) else {
            return faults.push(format!("order-{id} is not committed"));
        };
        let mine = self.messages.iter().zip(&self.ends).filter(|(message, _)| message.id == id);
        for (message, ends) in mine {
            let fits = receipt.contains(&format!(r#""amount":{}}}"#, message.amount));
            let expected = if fits { End::Answered(receipt.clone()) } else { End::Quarantined("conflict") };
            if ends.is_empty() || ends.iter().any(|end| *end != expected) {
                faults.push(format!("{message:?}: {ends:?} instead of {expected:?}"));
            }
        }
        let published = state.queue.iter().flatten().map(|text| serde_json::from_str::<Value>(text).unwrap());
        let published: Vec<_> = published.filter(|event| event["id"] == key.event_id(0)).collect();
        let expected: Value = serde_json::from_str(&receipt).unwrap();
        if published.is_empty() || published.iter().any(|event| event["data"] != expected || *event != published[0]) {
            faults.push(format!("order-{id} is announced as {published:?} instead of {expected}"));
        }
    }

    /// Nothing was inserted twice, and nothing is left that does not belong there.
    fn check_storage(&self, faults: &mut Vec<String>) {
        let state = self.service.state();
        let twice = state.inserts.iter().filter(|(_, count)| **count > 1);
        faults.extend(twice.map(|(key, count)| format!("{key:?} was inserted {count} times")));
        let ids: BTreeSet<_> = self.messages.iter().map(|message| message.id).collect();
        let rows: Vec<_> = state.table.iter().flatten().map(|((_, row), _)| row.clone()).collect();
        if rows.len() != ids.len() {
            faults.push(format!("{} orders, but these rows: {rows:?}", ids.len()));
        }
        let ids: BTreeMap<_, _> =
            ids.iter().map(|id| (Key::new("orders", &format!("order-{id}")).event_id(0), id)).collect();
        let published = state.queue.iter().flatten().map(|text| serde_json::from_str::<Value>(text).unwrap());
        for event in published.filter(|event| !ids.contains_key(event["id"].as_str().unwrap())) {
            faults.push(format!("an event of no order: {event}"));
        }
    }

    /// Without faults: three requests for a new order with its event, two for every other delivery, and what it takes to
    /// create table and queue, which several first orders may do at the same time.
    fn check_budget(&self, faults: &mut Vec<String>) {
        let ids: BTreeSet<_> = self.messages.iter().map(|message| message.id).collect();
        let deliveries: usize = self.ends.iter().map(Vec::len).sum();
        let creating = self.messages.len() * 2 + ids.len() * 2;
        let budget = ids.len() * 3 + (deliveries - ids.len()) * 2 + creating;
        let requests = self.service.state().requests as usize;
        if requests > budget {
            faults.push(format!("{requests} requests for {deliveries} deliveries, more than {budget}"));
        }
        let events = self.service.state().queue.as_ref().map_or(0, Vec::len);
        if events != ids.len() {
            faults.push(format!("{events} events for {} orders", ids.len()));
        }
    }
}
