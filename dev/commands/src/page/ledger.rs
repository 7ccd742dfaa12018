//! All that was sent and all that was seen of it, held against the promises.
//!
//! A check in the middle of work must not take what is on its way for lost. The order of reading sees to that. The length of
//! `orders` is read first, so that a message that was not on it then has left its traces before anything else is read. A
//! message counts as sent when storage has acknowledged it, and then only for the next reading. The table comes next, and
//! then all that the proxies and the host saw. An event is only missed when its record was there in the reading before.
//!
//! Texts and ids are kept as hashes: what is remembered of a message is a few bytes, however long it runs.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use serde_json::{Value, json};

use test_storage::Row;

type Hash = u64;

/// The number of promises that can be checked by what is stored alone.
const SEEN_IN_STORAGE: usize = 2;

/// The facts about the messages of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Whether every delivery is seen, which takes the local host.
    sees_deliveries: bool,
    sent: HashMap<Hash, Sent>,
    orders: HashMap<u32, Order>,
    answered: HashSet<Hash>,
    kept: HashMap<Hash, u64>,
    conflicts: u64,
    /// The orders that invocations were about, until their records are read.
    invocations: HashMap<String, u32>,
    /// By the hash of an id: its record as it was read last, and the commit that its events tell of.
    records: HashMap<String, Record>,
    announced: HashMap<Hash, Hash>,
    published: HashSet<Hash>,
    /// The records that came after the first reading, of which all are ours.
    new_records: u64,
    readings: u64,
    missing_events: u64,
    effects_doubled: u64,
    receipts_differ: u64,
    conflicts_accepted: u64,
    /// The last length of quarantine, and its gain, whatever was taken out of it.
    quarantine: (u64, u64),
}

#[derive(Debug, Default)]
struct Sent {
    order: Option<(u32, bool)>,
    count: u64,
}

#[derive(Debug, Default)]
struct Order {
    receipt: Option<Hash>,
    /// Which of two contents was accepted.
    content: Option<bool>,
    is_stored: bool,
}

#[derive(Debug)]
struct Record {
    commit: String,
    first_reading: u64,
    reading: u64,
    is_announced: bool,
}

impl Ledger {
    pub(super) fn new(sees_deliveries: bool) -> Self {
        Self { sees_deliveries, ..Self::default() }
    }

    /// Notes a message that storage has acknowledged.
    pub(super) fn sent(&mut self, text: &str, order: Option<(u32, bool)>) {
        self.sent.entry(hash(text)).or_insert(Sent { order, count: 0 }).count += 1;
    }

    /// Notes that an invocation is about an order.
    pub(super) fn invoked(&mut self, invocation: String, order: u32) {
        if !self.orders.get(&order).is_some_and(|order| order.is_stored) {
            self.invocations.insert(invocation, order);
        }
    }

    /// Notes the receipt that a delivery of an order was answered with.
    pub(super) fn answered(&mut self, text: &str, (number, content): (u32, bool), receipt: &str) {
        self.answered.insert(hash(text));
        let order = self.orders.entry(number).or_default();
        self.receipts_differ += u64::from(*order.receipt.get_or_insert(hash(receipt)) != hash(receipt));
        self.conflicts_accepted += u64::from(*order.content.get_or_insert(content) != content);
    }

    /// Notes a message that was put in quarantine.
    pub(super) fn kept(&mut self, text: &str, reason: &str) {
        *self.kept.entry(hash(text)).or_default() += 1;
        self.conflicts += u64::from(reason == "conflict");
    }

    /// Notes the length of the queue of quarantine.
    pub(super) fn quarantine(&mut self, length: u64) {
        let (last, gained) = self.quarantine;
        self.quarantine = (length, if self.readings == 0 { 0 } else { gained + length.saturating_sub(last) });
    }

    /// Notes an event that was published, by its id: `{hash}-{commit id}-{number}`.
    pub(super) fn published(&mut self, event: &str) {
        self.published.insert(hash(event));
        let Some((record, commit)) = event.rsplit_once('-').and_then(|(event, _)| event.split_once('-')) else {
            return;
        };
        let commit = hash(commit);
        self.effects_doubled += u64::from(*self.announced.entry(hash(record)).or_insert(commit) != commit);
    }

    /// Notes all rows of the table.
    pub(super) fn read(&mut self, rows: &[Row]) {
        self.readings += 1;
        self.missing_events = 0;
        let keys: HashSet<&str> = rows.iter().filter_map(|row| row.get("RowKey")?.as_str()).collect();
        for row in rows {
            if let Some(id) = text(row, "RowKey").strip_prefix("record~") {
                self.read_record(id, row, &keys);
            }
        }
        // Expired or forgotten: its id may take effect again.
        let reading = self.readings;
        for (id, _) in self.records.extract_if(|_, record| record.reading < reading) {
            self.announced.remove(&hash(&id));
        }
        let orders = &self.orders;
        self.invocations.retain(|_, order| !orders.get(order).is_some_and(|order| order.is_stored));
    }

    fn read_record(&mut self, id: &str, row: &Row, keys: &HashSet<&str>) {
        let (commit, reading) = (text(row, "commit_id"), self.readings);
        let is_ours = reading > 1;
        let record = self.records.entry(id.to_owned()).or_insert_with(|| {
            self.new_records += u64::from(is_ours);
            Record { commit: commit.to_owned(), first_reading: reading, reading, is_announced: !is_ours }
        });
        record.reading = reading;
        let told = self.announced.get(&hash(id));
        self.effects_doubled += u64::from(record.commit != commit || told.is_some_and(|told| *told != hash(commit)));
        commit.clone_into(&mut record.commit);
        if !record.is_announced && record.first_reading < reading {
            let events = 0..row.get("events").and_then(Value::as_u64).unwrap_or_default();
            let unpublished =
                events.filter(|number| !self.published.contains(&hash(&format!("{id}-{commit}-{number}"))));
            let unpublished: Vec<_> = unpublished.collect();
            record.is_announced = unpublished.is_empty();
            let missing =
                unpublished.iter().filter(|number| !keys.contains(&*format!("outbox~{id}~{commit}~{number}")));
            self.missing_events += missing.count() as u64;
        }
        if let Some(number) = self.invocations.get(text(row, "invocation")) {
            let order = self.orders.entry(*number).or_default();
            order.is_stored = true;
            let receipt = hash(text(row, "receipt"));
            self.receipts_differ += u64::from(*order.receipt.get_or_insert(receipt) != receipt);
        }
    }

    /// Holds everything against the promises, with the number of messages that were on `orders` and `orders-poison` before
    /// the last reading.
    pub(super) fn promises(&self, queued: u64) -> Vec<Value> {
        let sent: u64 = self.sent.values().map(|sent| sent.count).sum();
        let open = if self.sees_deliveries { self.open() } else { self.open_by_number() };
        let (lost, on_their_way) = (open.saturating_sub(queued), open.min(queued));
        let (records, answered, events) = (self.records.len(), self.orders.len(), self.published.len());
        let promises = [
            (
                "Each order id takes effect once",
                self.effects_doubled,
                format!("Records: {records}, each with one commit."),
            ),
            (
                "No message is lost",
                lost,
                format!("Messages: {sent} sent, of which {on_their_way} on their way and {lost} lost."),
            ),
            (
                "A duplicate gets the first receipt",
                self.receipts_differ,
                format!("Receipts: {answered}, one for each order."),
            ),
            (
                "A conflict is quarantined",
                self.conflicts_accepted,
                format!("Conflicts: {} in quarantine, none accepted.", self.conflicts),
            ),
            (
                "Every event is published, under one id",
                self.missing_events,
                format!("Events: {events} published, the others still in the table."),
            ),
        ];
        let promise = |(number, (name, broken, detail))| match broken {
            _ if number >= SEEN_IN_STORAGE && !self.sees_deliveries => {
                json!({ "name": name, "state": "unchecked", "detail": "Needs the local host, which sees each delivery." })
            }
            0 => json!({ "name": name, "state": "kept", "detail": detail }),
            count => json!({ "name": name, "state": "broken", "detail": format!("Broken: {count}. {detail}") }),
        };
        promises.into_iter().enumerate().map(promise).collect()
    }

    /// Counts the messages that are neither committed, nor duplicates, nor kept: each by its text.
    fn open(&self) -> u64 {
        let is_stored = |sent: &Sent| {
            sent.order.and_then(|(number, _)| self.orders.get(&number)).is_some_and(|order| order.is_stored)
        };
        let messages = self.sent.iter().filter(|(text, sent)| !(self.answered.contains(text) && is_stored(sent)));
        messages.map(|(text, sent)| sent.count.saturating_sub(self.kept.get(text).copied().unwrap_or_default())).sum()
    }

    /// Counts them from the numbers of records and of messages in quarantine alone, at the lowest that they allow.
    fn open_by_number(&self) -> u64 {
        let (mut orders, mut hopeless) = (HashMap::<u32, [u64; 2]>::new(), 0);
        for sent in self.sent.values() {
            match sent.order {
                Some((number, content)) => orders.entry(number).or_default()[usize::from(content)] += sent.count,
                None => hopeless += sent.count,
            }
        }
        hopeless += orders.values().map(|counts| counts[0].min(counts[1])).sum::<u64>();
        (orders.len() as u64).saturating_sub(self.new_records) + hopeless.saturating_sub(self.quarantine.1)
    }
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Hashes as every other process does.
fn hash(text: &str) -> Hash {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}
