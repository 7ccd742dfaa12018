//! Outages, on a virtual clock: instances of the production code with the host's 24 places each, over one simulated storage
//! of which a part is away.

use crate::simulator::{
    domain,
    network::{into_http, read_call},
    world::app_config,
};
use async_trait::async_trait;
use azure_core::{HttpClient, Request, Response as HttpResponse};
use futures::future::join_all;
use handler::{
    attempt::Attempt,
    decision::{Decision, Domain, to_json},
    functions::{App, queue_with_idempotency},
    quarantine::QueueMessage,
    storage::{Account, Error},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use test_storage::emulated::{Applied, Call, Change, EmulatedStorage, Operation, Response};
use time::macros::datetime;
use tokio::time::{Instant, sleep};

/// `batchSize` and `newBatchThreshold` of `host.json` together, `maxDequeueCount` and `visibilityTimeout`.
pub(crate) const PLACES: usize = 16 + 8;
const MAX_DEQUEUE_COUNT: u32 = 16;
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Time of a request, which is long so that few orders fill a minute.
const LATENCY: Duration = Duration::from_millis(200);
/// The time limit of the production connection for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);
const CONNECTION: &str =
    "TableEndpoint=https://storage.example/a;QueueEndpoint=https://storage.example/a;SharedAccessSignature=sig=a";

/// Accepts everything, and announces nothing.
pub(crate) const DOMAIN: Domain = Domain {
    decide: |message| Ok(Decision { receipt: to_json(&message.id())?, events: Vec::new() }),
    ..domain::DOMAIN
};

/// The trouble that a request meets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    Refused,
    Silent,
    /// Applied, and not answered.
    ResponseLost,
    Status(u16, &'static str),
}

/// Says what becomes of a request of an instance at a time since the start.
pub(crate) type Rule = fn(usize, &Call, Duration) -> Option<Trouble>;

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) text: String,
    pub(crate) visible_at: Duration,
    pub(crate) dequeue_count: u32,
}

/// Storage and queue, which all instances share.
#[derive(Debug)]
pub(crate) struct Shared {
    storage: EmulatedStorage,
    pub(crate) orders: Vec<Queued>,
    start: Instant,
    /// The requests to the table, and the commits with their partitions: the times of each.
    requests: Vec<Duration>,
    pub(crate) commits: Vec<(Duration, String)>,
    /// The messages in quarantine.
    pub(crate) kept: Vec<String>,
    most_deliveries: u32,
    most_queued: usize,
    /// Number of messages that were put back without an answer.
    copies: usize,
    pub(crate) poisoned: usize,
}

#[derive(Debug)]
struct Link {
    shared: Arc<Mutex<Shared>>,
    instance: usize,
    rule: Rule,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn apply(&mut self, call: &Call) -> Response {
        let now = self.now();
        let Applied { response, changes, .. } = self.storage.apply(call);
        for change in changes {
            match change {
                Change::Inserted(row) if row.contains_key("receipt") => {
                    self.commits.push((now, row["PartitionKey"].as_str().unwrap().to_owned()));
                }
                Change::Put { queue, text, invisible } if queue == "orders" => {
                    self.orders.push(Queued { text, visible_at: now + invisible, dequeue_count: 0 });
                }
                Change::Put { text, .. } => self.kept.push(text),
                _ => {}
            }
        }
        response
    }

    pub(crate) fn receive(&mut self) -> Option<Queued> {
        let now = self.now();
        self.most_queued = self.most_queued.max(self.orders.len());
        let index = self.orders.iter().position(|queued| queued.visible_at <= now)?;
        let mut queued = self.orders.remove(index);
        queued.dequeue_count += 1;
        self.most_deliveries = self.most_deliveries.max(queued.dequeue_count);
        Some(queued)
    }

    pub(crate) fn release(&mut self, queued: Queued) {
        if queued.dequeue_count >= MAX_DEQUEUE_COUNT {
            self.poisoned += 1;
        } else {
            self.orders.push(Queued { visible_at: self.now() + RETRY_AFTER, ..queued });
        }
    }
}

#[async_trait]
impl HttpClient for Link {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<HttpResponse> {
        let call = read_call(request);
        let url = request.url().as_str();
        assert!(!matches!(call, Call::Put(..)) || url.contains("messagettl=-1"), "it would expire: {url}");
        sleep(LATENCY).await;
        let response = {
            let mut shared = self.shared.lock().unwrap();
            let now = shared.now();
            if !matches!(call, Call::Put(..) | Call::CreateQueue(_)) {
                shared.requests.push(now);
            }
            match (self.rule)(self.instance, &call, now) {
                None => return Ok(into_http(shared.apply(&call))),
                Some(Trouble::Status(status, code)) => return Ok(into_http(Response::table_error((status, code)))),
                Some(Trouble::Refused) => return Err(Error::NotSent("connection refused".to_owned()).into()),
                Some(Trouble::ResponseLost) => {
                    shared.copies += 1;
                    shared.apply(&call);
                }
                Some(Trouble::Silent) => {}
            }
        };
        sleep(RESPONSE_LIMIT).await;
        Err(Error::Unanswered(format!("time limit reached: {response:?}")).into())
    }
}

/// The instances, and what they share.
pub(crate) struct World {
    pub(crate) shared: Arc<Mutex<Shared>>,
    apps: Vec<App>,
}

impl World {
    /// Makes instances, and puts orders on the queue.
    pub(crate) fn new(instances: usize, orders: u32, rule: Rule) -> Self {
        let mut storage = EmulatedStorage::new(1_000);
        storage.apply(&Call::CreateTable);
        storage.apply(&Call::CreateQueue("orders".to_owned()));
        let text = |number| format!(r#"{{"id":"order-{number}"}}"#);
        let queued = |number| Queued { text: text(number), visible_at: Duration::ZERO, dequeue_count: 0 };
        let shared = Arc::new(Mutex::new(Shared {
            storage,
            orders: (0..orders).map(queued).collect(),
            start: Instant::now(),
            requests: Vec::new(),
            commits: Vec::new(),
            kept: Vec::new(),
            most_deliveries: 0,
            most_queued: 0,
            copies: 0,
            poisoned: 0,
        }));
        Self { apps: (0..instances).map(|instance| app(DOMAIN, &shared, instance, rule)).collect(), shared }
    }

    /// Lets all places of all instances work until this time.
    async fn run_until(&self, end: Duration) {
        let places = self.apps.iter().cycle().take(self.apps.len() * PLACES).enumerate();
        join_all(places.map(|(place, app)| self.work(app, place as u128, end))).await;
    }

    async fn work(&self, app: &App, place: u128, end: Duration) {
        let mut number = 0;
        while self.now() < end {
            let Some(queued) = self.shared.lock().unwrap().receive() else {
                sleep(Duration::from_secs(1)).await;
                continue;
            };
            number += 1;
            let attempt = attempt(self.now(), place << 64 | number);
            let message = QueueMessage { text: queued.text.clone(), ..QueueMessage::default() };
            if queue_with_idempotency::run(app, &message, &attempt).await.is_err() {
                self.shared.lock().unwrap().release(queued);
            }
        }
    }

    fn now(&self) -> Duration {
        self.shared.lock().unwrap().now()
    }
}

/// Makes the app of an instance.
pub(crate) fn app(domain: Domain, shared: &Arc<Mutex<Shared>>, instance: usize, rule: Rule) -> App {
    let account = Account::from_connection_string(CONNECTION).unwrap();
    let client: Arc<dyn HttpClient> = Arc::new(Link { shared: shared.clone(), instance, rule });
    App::new(domain, &account, &client, &app_config())
}

/// Begins an attempt, which no other number begins alike.
pub(crate) fn attempt(at: Duration, number: u128) -> Attempt {
    let entropy = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let now = datetime!(2026-11-21 10:20 UTC) + at;
    Attempt::new(String::new(), now, Instant::now() + Duration::from_secs(290), entropy)
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// The table is away from the third second on, for an hour.
fn is_away(call: &Call, at: Duration) -> bool {
    !matches!(call, Call::Put(..)) && at > Duration::from_secs(3) && at < minutes(60)
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_table_costs_no_delivery_and_few_requests() {
    const RULES: [Rule; 5] = [
        |_, call, at| is_away(call, at).then_some(Trouble::Refused),
        |_, call, at| is_away(call, at).then_some(Trouble::Silent),
        |_, call, at| is_away(call, at).then_some(Trouble::Status(403, "AuthorizationFailure")),
        |_, call, at| is_away(call, at).then_some(Trouble::Status(400, "InvalidInput")),
        |_, call, at| is_away(call, at).then_some(Trouble::Status(503, "ServerBusy")),
    ];
    for rule in RULES {
        let world = World::new(1, 600, rule);
        world.run_until(minutes(62)).await;
        let shared = world.shared.lock().unwrap();
        assert_eq!((shared.poisoned, shared.most_deliveries), (0, 1));
        assert_eq!((shared.commits.len(), shared.orders.len()), (600, 0));
        assert!(shared.most_queued <= 600, "copies do not multiply");
        let waited = shared.commits.iter().filter(|(at, _)| *at > minutes(60)).count();
        assert!(waited > 200, "{waited} orders met the outage");
        let asked = shared.requests.iter().filter(|at| **at > minutes(1) && **at < minutes(60)).count();
        assert!(asked <= 30 * 59, "{asked} requests in 59 minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_message_whose_put_was_not_answered_take_effect_once() {
    const ORDERS: u32 = 1_000;
    let world = World::new(2, ORDERS, |_, call, at| match call {
        // The answers for one message of ten, in the first five minutes.
        Call::Put(_, text, _) => (at < minutes(5) && text.ends_with("7\"}")).then_some(Trouble::ResponseLost),
        _ => is_away(call, at).then_some(Trouble::Refused),
    });
    world.run_until(minutes(70)).await;
    let shared = world.shared.lock().unwrap();
    assert_eq!((shared.commits.len(), shared.orders.len(), shared.poisoned), (ORDERS as usize, 0, 0));
    println!("{} copies, {} queued at most", shared.copies, shared.most_queued);
    assert!(shared.copies > 0 && shared.most_queued <= ORDERS as usize + shared.copies);
}

#[tokio::test(start_paused = true)]
async fn in_weeks_without_table_quarantine_and_operator_nothing_is_lost() {
    /// Twice the default life of a message. A hundred days were tried, and took a minute.
    const DAYS: u64 = 14;
    let world = World::new(1, 1, |_, call, at| {
        let is_back = at > minutes(DAYS * 24 * 60) || matches!(call, Call::Put(queue, ..) if queue == "orders");
        (!is_back).then_some(Trouble::Status(403, "AuthorizationFailure"))
    });
    let rejected = Queued { text: "no order".to_owned(), visible_at: Duration::ZERO, dequeue_count: 0 };
    world.shared.lock().unwrap().orders.push(rejected);
    let end = minutes(DAYS * 24 * 60 + 10);
    futures::join!(world.work(&world.apps[0], 0, end), world.work(&world.apps[0], 1, end));
    let shared = world.shared.lock().unwrap();
    assert_eq!((shared.commits.len(), shared.kept.len(), shared.orders.len()), (1, 1, 0));
    assert_eq!((shared.poisoned, shared.most_deliveries), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sick_instance_beside_a_healthy_one_poisons_nothing() {
    let world = World::new(2, 1_500, |instance, call, _| {
        let is_sick = instance == 0 && !matches!(call, Call::Put(..));
        is_sick.then_some(Trouble::Status(403, "AuthorizationFailure"))
    });
    world.run_until(minutes(15)).await;
    // The last ones come back to the sick one every other time.
    let commits = world.shared.lock().unwrap().commits.len();
    assert!(commits >= 1_490, "{commits}");
    world.run_until(minutes(90)).await;
    let shared = world.shared.lock().unwrap();
    assert_eq!((shared.poisoned, shared.most_deliveries, shared.commits.len()), (0, 1, 1_500));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_refused_alone_is_given_up_and_delays_no_other() {
    // So many that a hundred others share its partition.
    let world = World::new(1, 6_400, |_, call, _| match call {
        Call::Transaction(operations) => match &operations[0] {
            Operation::Insert(_, row) if row.get("receipt").is_some_and(|receipt| receipt == "\"order-7\"") => {
                Some(Trouble::Status(400, "PropertyValueTooLarge"))
            }
            _ => None,
        },
        _ => None,
    });
    world.run_until(minutes(1)).await;
    assert_eq!(world.shared.lock().unwrap().commits.len(), 6_399);
    world.run_until(minutes(10)).await;
    let shared = world.shared.lock().unwrap();
    assert_eq!((shared.poisoned, shared.orders.len(), shared.most_queued), (1, 0, 6_400));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_away_leaves_the_others_nine_tenths_of_their_rate() {
    const PARTITION: &str = "bucket~1f";
    let world = World::new(1, 20_000, |_, call, at| {
        let partition = match call {
            Call::Transaction(operations) => &operations[0].key().0,
            Call::Get(key) => &key.0,
            _ => return None,
        };
        (partition == PARTITION && at > Duration::from_secs(30)).then_some(Trouble::Silent)
    });
    world.run_until(minutes(2)).await;
    let shared = world.shared.lock().unwrap();
    let rate = |from: u64, to: u64| {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let others = shared.commits.iter().filter(|(at, partition)| partition != PARTITION && *at >= from && *at < to);
        others.count() as f64 / (to - from).as_secs_f64()
    };
    let (before, during) = (rate(10, 30), rate(60, 120));
    println!("{before} {during}");
    assert!(during >= 0.9 * before, "{during} instead of {before} orders/s");
    assert_eq!((shared.poisoned, shared.most_deliveries), (0, 1));
}
