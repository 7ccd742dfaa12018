//! Looks at storage and at the host again and again, and shows what it sees.

use std::{
    mem::take,
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use local_host::{
    Invocation, LocalHost,
    console::{self, Line},
};
use test_storage::{Kind, Request, Row, StorageError, from_base64};

use crate::queues::{EVENTS, ORDERS, POISON, QUARANTINE, TABLE};

use super::{Shared, Storage, deliveries::Deliveries, ledger::Ledger};

/// The pause between two looks while somebody watches.
const PAUSE: Duration = Duration::from_millis(300);
/// The same while nobody does; after it the table is read even when nothing has happened.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After a reading of the table the next one waits for so many times as long.
const SHARE: u32 = 5;
/// The number of records, events and quarantined messages that are shown.
const SHOWN: usize = 8;

/// Whether the handler holds its messages, as its console says.
static AWAY: AtomicBool = AtomicBool::new(false);

/// Prints a line of the console, and notes what it says about storage.
pub(crate) fn console_line(line: &Line) {
    console::print(line);
    if line.text.starts_with("WARN Storage away:") {
        AWAY.store(true, Relaxed);
    } else if line.text.starts_with("WARN Storage back:") || line.text.starts_with("Worker process started") {
        AWAY.store(false, Relaxed);
    }
}

/// The view of one storage, and of its host if that is the local one.
pub(super) struct Watch<'a> {
    shared: &'a Shared,
    storage: &'a Storage,
    host: Option<&'a LocalHost>,
    ledger: Ledger,
    deliveries: Deliveries,
    /// The lengths of the queues `orders`, `orders-poison`, `orders-quarantine` and `order-events`.
    lengths: [u64; 4],
    in_flight: usize,
    /// Whether something has happened since the table was read, which may be read again from this time on.
    has_changed: bool,
    next_reading: Instant,
    stored: Value,
    promises: Vec<Value>,
    problem: Option<String>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(shared: &'a Shared, storage: &'a Storage, host: Option<&'a LocalHost>) -> Self {
        Self {
            shared,
            storage,
            host,
            ledger: Ledger::new(host.is_some()),
            deliveries: Deliveries::default(),
            lengths: [0; 4],
            in_flight: 0,
            has_changed: true,
            next_reading: Instant::now(),
            stored: json!({}),
            promises: Vec::new(),
            problem: None,
        }
    }

    /// Looks for ever.
    pub(super) async fn run(mut self) -> ! {
        loop {
            self.problem = self.look().await.err().map(|error| format!("Storage does not answer this page: {error}"));
            self.shared.show(&self.state());
            let is_seen = self.shared.state.receiver_count() > 0;
            tokio::time::sleep(if is_seen { PAUSE } else { LONGEST_PAUSE }).await;
        }
    }

    /// Looks once, in the order that the ledger asks for.
    async fn look(&mut self) -> Result<(), StorageError> {
        let account = &self.storage.account;
        let sent = take(&mut *self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner));
        if !sent.is_empty()
            && let Some(host) = self.host
        {
            host.poll_now();
        }
        for text in sent {
            self.ledger.sent(&text, self.shared.recognise(&text));
            self.has_changed = true;
        }
        for (length, queue) in self.lengths.iter_mut().zip([ORDERS, POISON, QUARANTINE, EVENTS]) {
            *length = account.queue_length(queue).await?;
        }
        self.ledger.quarantine(self.lengths[2]);
        self.take_deliveries();
        let begin = Instant::now();
        let is_due =
            if self.has_changed { begin >= self.next_reading } else { begin >= self.next_reading + LONGEST_PAUSE };
        if is_due {
            self.has_changed = false;
            let rows = account.rows(TABLE).await?;
            self.take_deliveries();
            self.ledger.read(&rows);
            self.promises = self.ledger.promises(self.lengths[0] + self.lengths[1]);
            self.stored = stored(&rows, [account.peek(EVENTS).await?, account.peek(QUARANTINE).await?]);
            self.next_reading = Instant::now() + SHARE * begin.elapsed();
            self.shared.is_ready.store(true, Relaxed);
        }
        Ok(())
    }

    /// Takes what the host and the proxies have seen since.
    fn take_deliveries(&mut self) {
        let Some(host) = self.host else { return };
        let running = host.running();
        self.in_flight = running.iter().filter(|one| one.message.is_some()).count();
        for one in &running {
            self.deliveries.running(one, AWAY.load(Relaxed) && one.message.is_some());
            self.invoked(one.id.to_string(), one.message.as_deref());
        }
        let finished = host.take_invocations();
        for one in &finished {
            self.finished(one);
        }
        let Some(proxies) = &self.storage.proxies else { return };
        // Rows of events are deleted after the events are put.
        let (deletes, others): (Vec<_>, Vec<_>) =
            proxies.tables.take_carried_out().into_iter().partition(|request| request.kind == Kind::Delete);
        self.has_changed |= !deletes.is_empty() || !others.is_empty();
        others.iter().for_each(|request| self.deliveries.request(request));
        let puts = proxies.queues.take_carried_out();
        puts.iter().filter(|request| request.kind == Kind::PutMessage).for_each(|request| self.put(request));
        deletes.iter().for_each(|request| self.deliveries.request(request));
        self.deliveries.count(&finished);
    }

    fn invoked(&mut self, id: String, text: Option<&str>) {
        if let Some((order, _)) = text.and_then(|text| self.shared.recognise(text)) {
            self.ledger.invoked(id, order);
        }
    }

    fn finished(&mut self, invocation: &Invocation) {
        self.has_changed = true;
        self.deliveries.finished(invocation);
        let text = invocation.message.as_deref();
        self.invoked(invocation.id.to_string(), text);
        let receipt = invocation.return_value.as_ref().and_then(Value::as_str);
        if let (true, Some(text), Some(receipt)) = (invocation.succeeded, text, receipt)
            && let Some(order) = self.shared.recognise(text)
        {
            self.ledger.answered(text, order, receipt);
        }
    }

    /// Notes a message that was put on a queue.
    fn put(&mut self, request: &Request) {
        let Some(text) = request.message_text() else { return };
        let is_on = |queue: &str| request.target.contains(&format!("/{queue}/messages"));
        if is_on(ORDERS) {
            return self.deliveries.put_back(&text);
        }
        let json: Value = serde_json::from_str(&from_base64(&text).unwrap_or(text)).unwrap_or_default();
        let member = |name: &str| json[name].as_str().unwrap_or_default();
        if is_on(EVENTS) {
            let id = member("id");
            self.ledger.published(id);
            let mut parts = id.split('-');
            let (hash, commit) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            self.deliveries.of_commit(hash, commit, request.kind.name());
        } else if is_on(QUARANTINE) {
            self.ledger.kept(member("message"), member("reason"));
            self.deliveries.kept(member("invocation_id"), member("reason"));
        }
    }

    fn state(&self) -> Value {
        let [orders, poison, quarantine, events] = self.lengths;
        let in_flight = self.host.is_some().then_some(self.in_flight);
        json!({
            "stage": self.problem.as_deref().unwrap_or_else(|| self.stage()),
            "isLocal": self.host.is_some(),
            "isReady": self.shared.is_ready.load(Relaxed),
            "switches": self.shared.switches(),
            "disabled": self.shared.disabled(),
            "counts": {
                "orders": orders, "in-flight": in_flight, "records": self.stored["records"],
                "unpublished": self.stored["unpublished"], "events": events, "quarantine": quarantine, "poison": poison,
            },
            "totals": self.deliveries.totals(),
            "promises": self.promises,
            "deliveries": self.deliveries.show(),
            "stored": self.stored["latest"],
        })
    }

    fn stage(&self) -> &'static str {
        match self.host {
            None => "Showing storage. The app runs elsewhere, so its deliveries are not seen here.",
            Some(host) if host.worker_pid().is_none() => "The handler is starting.",
            Some(_) if AWAY.load(Relaxed) => "Storage is away: the handler holds its messages.",
            Some(_) => "Running.",
        }
    }
}

/// Sums up what is stored, with the newest records and the first messages on the queues.
fn stored(rows: &[Row], queues: [Vec<test_storage::Received>; 2]) -> Value {
    let text = |row: &Row, name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let are = |prefix: &'static str| rows.iter().filter(move |row| text(row, "RowKey").starts_with(prefix));
    let mut records: Vec<_> = are("record~").map(|row| [text(row, "committed_at"), text(row, "receipt")]).collect();
    let count = records.len();
    records.sort_unstable_by(|one, other| other.cmp(one));
    records.truncate(SHOWN);
    let [events, quarantine] = queues.map(|messages| {
        let texts = messages.into_iter().take(SHOWN).map(|message| from_base64(&message.text).unwrap_or(message.text));
        texts.map(|text| serde_json::from_str(&text).unwrap_or(json!({ "message": text }))).collect::<Vec<Value>>()
    });
    let events: Vec<_> = events.iter().map(|event| json!([event["id"], event["data"].to_string()])).collect();
    let quarantine: Vec<_> = quarantine.iter().map(|kept| json!([kept["reason"], kept["message"]])).collect();
    json!({
        "records": count,
        "unpublished": are("outbox~").count(),
        "latest": { "records": records, "events": events, "quarantine": quarantine },
    })
}
