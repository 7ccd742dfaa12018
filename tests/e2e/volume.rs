//! Many orders, three in ten of them duplicates, through two hosts, while one of the handlers after the other is killed.
//!
//! `VOLUME_ORDERS=10000 cargo test --test e2e volume` goes the whole way. Azurite is the limit: the time it needs for
//! one message of a queue grows with the number of all messages, so they are sent and taken off while others are
//! delivered.

use crate::{
    app::{TABLE, TIMER, date, options, past_grace, text},
    host::local_only,
    promises::{Promised, take_all},
};
use futures::{StreamExt, stream};
use local_host::LocalHost;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use test_storage::{
    Account, Azurite, Row, Service,
    azurite::{Persistence, Ports},
};

/// Half a minute on a busy machine with two cores. Ten thousand take five minutes of processor time, most of it for
/// Azurite.
const ORDERS: usize = 2_000;
/// The most messages on the queue at a time.
const WAITING: u64 = 300;
/// After each so many deliveries a handler is killed.
const PORTION: usize = 100;
/// For ten thousand on a busy machine.
const LIMIT: Duration = Duration::from_secs(30 * 60);

const BUSY: [(&str, &str); 3] = [
    ("AzureFunctionsJobHost__extensions__queues__batchSize", "32"),
    ("AzureFunctionsJobHost__extensions__queues__newBatchThreshold", "32"),
    ("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:00:01"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_orders_with_duplicates_while_handlers_are_killed_take_effect_once_each() {
    local_only!("it kills handlers");
    let orders = std::env::var("VOLUME_ORDERS").ok().map_or(ORDERS, |orders| orders.parse().unwrap());
    // One process of Azurite uses one core at most: tables and queues get one each.
    let tables = Azurite::start(Ports::Free, Persistence::Memory).await.unwrap();
    let queues = Azurite::start(Ports::Free, Persistence::Memory).await.unwrap();
    let queue_endpoint = queues.account().unwrap().endpoint(Service::Queue).to_owned();
    let account = tables.account().unwrap().with_endpoint(Service::Queue, &queue_endpoint);

    let start = Instant::now();
    account.create_queue("orders").await.unwrap();
    account.create_queue("order-events").await.unwrap();
    let delivered = Arc::new(AtomicBool::new(false));
    let consumer = tokio::spawn(consume(account.clone(), Arc::clone(&delivered)));
    let kills = Arc::new(AtomicUsize::new(0));
    let producer = tokio::spawn(produce(account.clone(), orders, Arc::clone(&kills)));
    let deliveries = kill_and_deliver(&account, producer, &kills).await;
    let kills = kills.load(Ordering::SeqCst);
    assert!(deliveries.iter().sum::<usize>() >= orders, "messages are gone that nobody delivered: {deliveries:?}");
    assert!(deliveries.iter().all(|delivered| *delivered > 0), "one host did everything: {deliveries:?}");
    assert!(kills >= killed_by_then(orders), "{kills} handlers killed");
    println!("{orders} messages delivered after {:.1?}", start.elapsed());
    delivered.store(true, Ordering::SeqCst);
    let taken = consumer.await.unwrap();

    relay(&account).await;
    let receipts =
        (0..distinct(orders)).map(|n| format!(r#"{{"id":"order-{n:05}","status":"accepted","amount":{n}}}"#));
    let promised = Promised { receipts: receipts.collect(), quarantined: BTreeSet::new() };
    let copies = promised.check(&account, taken).await.unwrap();
    let copies: usize = copies.values().sum();
    println!("{copies} copies of {} events, checked after {:.1?}", distinct(orders), start.elapsed());
}

/// Counts the new orders: seven in ten messages.
fn distinct(orders: usize) -> usize {
    orders * 7 / 10
}

/// Returns how many handlers have to be killed before so many messages are sent: only so many more lie on the queue.
fn killed_by_then(sent: usize) -> usize {
    sent.saturating_sub(WAITING as usize) / PORTION
}

async fn produce(account: Account, orders: usize, kills: Arc<AtomicUsize>) {
    let mut numbers: Vec<_> = (0..orders).map(|n| n % distinct(orders)).collect();
    fastrand::Rng::with_seed(4).shuffle(&mut numbers);
    let mut sent = 0;
    for numbers in numbers.chunks(64) {
        sent += numbers.len();
        while kills.load(Ordering::SeqCst) < killed_by_then(sent)
            || account.queue_length("orders").await.unwrap() > WAITING
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stream::iter(numbers.to_vec()).for_each_concurrent(8, |n| put(&account, n)).await;
    }
}

async fn put(account: &Account, n: usize) {
    account.put("orders", &format!(r#"{{"id":"order-{n:05}","amount":{n}}}"#)).await.unwrap();
}

/// Takes the events off their queue, until everything is delivered and nothing comes any more.
async fn consume(account: Account, delivered: Arc<AtomicBool>) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let was_delivered = delivered.load(Ordering::SeqCst);
        let messages = account.receive("order-events", 32, Duration::from_secs(600)).await.unwrap();
        if messages.is_empty() && was_delivered {
            return taken;
        }
        if messages.len() < 32 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for message in messages {
            account.delete("order-events", &message).await.unwrap();
            taken.push(message.text);
        }
    }
}

/// One host after the other in the same place.
struct Place {
    host: LocalHost,
    /// By the hosts before this one.
    delivered: usize,
    given_up: usize,
    /// The last handler that was killed here.
    killed: Option<i32>,
}

impl Place {
    async fn new(account: &Account) -> Self {
        Self { host: host(account).await, delivered: 0, given_up: 0, killed: None }
    }

    fn delivered(&self) -> usize {
        self.delivered + self.host.invocations().iter().filter(|invocation| invocation.succeeded).count()
    }

    /// Starts another host when this one has stopped, as its platform does: three crashes are too many for a host.
    async fn restart_if_stopped(&mut self, account: &Account) {
        if self.host.stopped().is_some() {
            self.delivered = self.delivered();
            self.given_up += 1;
            std::mem::replace(&mut self.host, host(account).await).stop().await;
        }
    }

    /// Kills the handler, unless it is the one that is dead already.
    async fn kill(&mut self) -> bool {
        let is_up = self.host.ready_again(self.killed).await.is_ok();
        self.killed = self.host.worker_pid();
        is_up && self.host.kill_worker().is_ok()
    }
}

/// Kills one handler after the other until all that is produced is delivered, and counts what each place delivered.
async fn kill_and_deliver(account: &Account, producer: tokio::task::JoinHandle<()>, kills: &AtomicUsize) -> [usize; 2] {
    let start = Instant::now();
    let mut places = [Place::new(account).await, Place::new(account).await];
    let mut put_back = 0;
    while !(producer.is_finished() && is_done(account, &mut put_back).await) {
        assert!(start.elapsed() < LIMIT, "{} messages left", account.queue_length("orders").await.unwrap());
        let killed = kills.load(Ordering::SeqCst);
        let delivered: usize = places.iter().map(Place::delivered).sum();
        if delivered > killed * PORTION && places[killed % 2].kill().await {
            kills.fetch_add(1, Ordering::SeqCst);
        }
        for place in &mut places {
            place.restart_if_stopped(account).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    producer.await.unwrap();
    let given_up: usize = places.iter().map(|place| place.given_up).sum();
    println!(
        "{kills:?} handlers killed, {given_up} hosts given up, {put_back} messages put back from the poison queue"
    );
    places.map(|place| place.delivered())
}

/// Says whether nothing is left to deliver. Puts poisoned messages back on the queue, as an operator would do.
async fn is_done(account: &Account, put_back: &mut usize) -> bool {
    if account.queue_length("orders").await.unwrap() > 0 {
        return false;
    }
    let poisoned = take_all(account, "orders-poison").await;
    for message in &poisoned {
        account.put("orders", message).await.unwrap();
    }
    *put_back += poisoned.len();
    account.clear_queue("orders-poison").await.unwrap();
    poisoned.is_empty()
}

/// Lets the timer publish what is left, as if a little later.
async fn relay(account: &Account) {
    let rows = account.rows(TABLE).await.unwrap();
    let left: Vec<Row> = rows.into_iter().filter(|row| text(row, "RowKey").starts_with("outbox~")).collect();
    println!("{} events left to the timer", left.len());
    date(account, left, past_grace()).await;
    assert!(host(account).await.fire_timer(TIMER).await.unwrap().succeeded);
}

async fn host(account: &Account) -> LocalHost {
    let host = LocalHost::start(options(account, &BUSY)).await.unwrap();
    host.ready().await.unwrap();
    host
}
