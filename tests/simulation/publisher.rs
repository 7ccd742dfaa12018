//! Publishing behind the answers, on a virtual clock: what is asked of the storage, when, and how much at a time.

use crate::{
    outage::attempt,
    simulator::{
        domain,
        network::{into_http, read_call},
        world::app_config,
    },
};
use async_trait::async_trait;
use azure_core::{HttpClient, Request, Response as HttpResponse};
use futures::future::join_all;
use handler::{
    decision::{Decision, Domain, Event, to_json},
    functions::{App, queue_with_idempotency},
    idempotency::{Publisher, publisher::OPERATIONS_AT_ONCE},
    quarantine::QueueMessage,
    storage::{Account, Error},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use test_storage::{
    Kind::{self, Batch, Delete, PutMessage},
    emulated::{Call, Change, EmulatedStorage},
};
use tokio::time::{Instant, sleep, timeout};

const CONNECTION: &str =
    "TableEndpoint=https://storage.example/a;QueueEndpoint=https://storage.example/a;SharedAccessSignature=sig=a";
/// Time of a request, and a long one, so that few orders fill a minute.
const SLOW: Duration = Duration::from_millis(100);
const LATENCY: Duration = Duration::from_millis(5);
/// The time limit of the production connection for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);
/// Messages that the host has in flight.
const PLACES: u32 = 24;

/// Announces each order once.
const DOMAIN: Domain = Domain {
    decide: |message| {
        let event = Event { kind: "accepted", data: to_json(&message.id())? };
        Ok(Decision { receipt: to_json(&message.id())?, events: vec![event] })
    },
    ..domain::DOMAIN
};

/// Storage that answers after a while, or not at all.
#[derive(Debug)]
struct Storage {
    /// Time of a request, and of one that puts an event.
    latency: Duration,
    put: Duration,
    /// Part of the history in which puts are not answered.
    silent: std::ops::Range<Duration>,
    service: Mutex<EmulatedStorage>,
    /// Every request, when it was sent.
    requests: Mutex<Vec<(Duration, Kind)>>,
    /// Puts that wait for their answer now, and the most there were.
    puts: Mutex<(usize, usize)>,
    /// Events that are on the queue and in the outbox now, and the most there were: a crash repeats them.
    undeleted: Mutex<(usize, usize)>,
    start: Instant,
}

impl Storage {
    fn new((latency, put): (Duration, Duration), silent: std::ops::Range<Duration>) -> Arc<Self> {
        let mut service = EmulatedStorage::new(1_000);
        [Call::CreateTable, Call::CreateQueue("order-events".to_owned())].iter().for_each(|call| {
            service.apply(call);
        });
        Arc::new(Self {
            service: Mutex::new(service),
            requests: Mutex::default(),
            latency,
            put,
            silent,
            puts: Mutex::default(),
            undeleted: Mutex::default(),
            start: Instant::now(),
        })
    }

    fn app(self: &Arc<Self>) -> App {
        let client: Arc<dyn HttpClient> = self.clone();
        App::new(DOMAIN, &Account::from_connection_string(CONNECTION).unwrap(), &client, &app_config())
    }

    fn kinds(&self) -> Vec<Kind> {
        self.requests.lock().unwrap().iter().map(|(_, kind)| *kind).collect()
    }

    fn count(&self, kind: Kind) -> usize {
        self.kinds().iter().filter(|sent| **sent == kind).count()
    }

    /// Counts the events that are in the outbox.
    fn unpublished(&self) -> usize {
        let service = self.service.lock().unwrap();
        service.entities().filter(|((_, row_key), _)| row_key.starts_with("outbox~")).count()
    }
}

#[async_trait]
impl HttpClient for Storage {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<HttpResponse> {
        let (call, now) = (read_call(request), self.start.elapsed());
        let is_put = call.kind() == PutMessage;
        self.requests.lock().unwrap().push((now, call.kind()));
        if is_put {
            let mut puts = self.puts.lock().unwrap();
            *puts = (puts.0 + 1, puts.1.max(puts.0 + 1));
        }
        let is_silent = is_put && self.silent.contains(&now);
        sleep(if is_silent {
            RESPONSE_LIMIT
        } else if is_put {
            self.put
        } else {
            self.latency
        })
        .await;
        if is_put {
            self.puts.lock().unwrap().0 -= 1;
        }
        if is_silent {
            return Err(Error::Unanswered("time limit reached".to_owned()).into());
        }
        let applied = self.service.lock().unwrap().apply(&call);
        let mut undeleted = self.undeleted.lock().unwrap();
        for change in &applied.changes {
            match change {
                Change::Put { .. } => undeleted.0 += 1,
                Change::Deleted(_) => undeleted.0 -= 1,
                _ => {}
            }
        }
        undeleted.1 = undeleted.1.max(undeleted.0);
        Ok(into_http(applied.response))
    }
}

/// Serves one order, and says when it was answered.
async fn serve(app: &App, number: u32, storage: &Storage) -> Duration {
    let message = QueueMessage { text: format!(r#"{{"id":"order-{number}"}}"#), ..QueueMessage::default() };
    let attempt = attempt(storage.start.elapsed(), number.into());
    queue_with_idempotency::run(app, &message, &attempt).await.unwrap();
    storage.start.elapsed()
}

/// Serves orders in all places of a host until this time, and says when each was answered.
async fn serve_until(app: &App, storage: &Storage, end: Duration) -> Vec<Duration> {
    let place = async |place: u32| {
        let mut answers = Vec::new();
        while storage.start.elapsed() < end {
            answers.push(serve(app, place + PLACES * answers.len() as u32, storage).await);
        }
        answers
    };
    join_all((0..PLACES).map(place)).await.concat()
}

/// Publishes for as long as `work` takes, and until nothing is left.
async fn publish_during<T>(app: &App, work: impl Future<Output = T>) -> T {
    let mut publishing = Box::pin(async {
        loop {
            app.publisher.run(&app.ledger, &app.events).await;
        }
    });
    let result = tokio::select! {
        result = work => result,
        () = &mut publishing => unreachable!(),
    };
    let is_over = timeout(Duration::from_secs(60), publishing).await.is_err();
    assert!(is_over && app.publisher.is_idle());
    result
}

const FAST: (Duration, Duration) = (LATENCY, LATENCY);
const NEVER: std::ops::Range<Duration> = Duration::ZERO..Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn an_order_is_answered_after_one_request_and_its_event_follows() {
    let storage = Storage::new(FAST, NEVER);
    let app = storage.app();
    assert_eq!(serve(&app, 1, &storage).await, LATENCY);
    assert_eq!((storage.kinds(), storage.unpublished()), (vec![Batch], 1));
    app.publisher.run(&app.ledger, &app.events).await;
    assert_eq!((storage.kinds(), storage.unpublished()), (vec![Batch, PutMessage, Delete], 0));
    let quiet = storage.requests.lock().unwrap()[2].0;
    assert!(quiet <= Duration::from_millis(60), "after {quiet:?}, the host may have killed the handler");
}

#[tokio::test(start_paused = true)]
async fn rows_are_deleted_together_while_orders_come() {
    let storage = Storage::new(FAST, NEVER);
    let app = storage.app();
    let answers = publish_during(&app, serve_until(&app, &storage, Duration::from_secs(2))).await;
    let (orders, requests) = (answers.len(), storage.kinds().len());
    println!("{orders} orders, {requests} requests");
    assert_eq!((storage.count(PutMessage), storage.unpublished()), (orders, 0));
    assert!(requests as f64 <= 2.1 * orders as f64, "{requests} requests for {orders} orders");
    let repeated = storage.undeleted.lock().unwrap().1;
    println!("a crash repeats {repeated} events at most");
    assert!(repeated <= 1_100, "a thousand, and what is under way");
}

#[tokio::test(start_paused = true)]
async fn orders_wait_while_too_many_events_are_under_way_and_none_is_left_behind() {
    let storage = Storage::new((LATENCY, Duration::from_secs(1)), NEVER);
    let app = App { publisher: Publisher::new(8), ..storage.app() };
    let answers = publish_during(&app, serve_until(&app, &storage, Duration::from_secs(10))).await;
    assert_eq!(storage.puts.lock().unwrap().1, 8);
    assert_eq!((storage.count(PutMessage), storage.unpublished()), (answers.len(), 0));
    let waited = answers.iter().filter(|at| **at > Duration::from_secs(2)).count();
    assert!((64..=96).contains(&waited), "{waited} answers in eight seconds: eight events a second");
}

#[tokio::test(start_paused = true)]
async fn orders_with_many_events_are_published_beside_each_other() {
    const MANY: Domain = Domain {
        decide: |message| {
            let Decision { receipt, events } = (DOMAIN.decide)(message)?;
            let again = |_| Event { kind: "accepted", data: events[0].data.clone() };
            Ok(Decision { receipt, events: (0..20).map(again).collect() })
        },
        ..DOMAIN
    };
    let storage = Storage::new(FAST, NEVER);
    let app = App { domain: MANY, ..storage.app() };
    let answers = publish_during(&app, serve_until(&app, &storage, Duration::from_secs(4))).await;
    println!("{} orders with 20 events in 4 s", answers.len());
    assert!(answers.len() >= 500 && storage.puts.lock().unwrap().1 <= OPERATIONS_AT_ONCE);
    assert_eq!((storage.count(PutMessage), storage.unpublished()), (20 * answers.len(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_hangs_slows_orders_down_once_and_its_events_wait_for_the_timer() {
    let storage = Storage::new((SLOW, SLOW), Duration::from_secs(5)..Duration::from_secs(600));
    let app = storage.app();
    let answers = publish_during(&app, serve_until(&app, &storage, Duration::from_secs(60))).await;
    let rate = |from: u64, to: u64| {
        let (start, end) = (Duration::from_secs(from), Duration::from_secs(to));
        answers.iter().filter(|at| (start..end).contains(*at)).count() / (to - from) as usize
    };
    println!("{} orders/s before, {} in the first 15 s, {} then", rate(0, 5), rate(5, 20), rate(20, 60));
    assert!(rate(20, 60) * 10 >= rate(0, 5) * 9, "{} orders/s instead of {}", rate(20, 60), rate(0, 5));
    let asked =
        storage.requests.lock().unwrap().iter().filter(|(at, kind)| *kind == PutMessage && at.as_secs() >= 20).count();
    assert!(asked <= 60, "{asked} puts in 40 seconds");
    assert!(storage.unpublished() >= rate(20, 60) * 40, "they are in the outbox");
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_nothing_behind() {
    let storage = Storage::new((LATENCY, Duration::from_millis(200)), NEVER);
    let app = storage.app();
    publish_during(&app, async {
        serve_until(&app, &storage, Duration::from_millis(100)).await;
        app.publisher.stop().await;
        assert_eq!(storage.unpublished(), 0);
        serve(&app, 1_000_000, &storage).await;
        assert_eq!(storage.unpublished(), 0, "it is published before the answer");
    })
    .await;
}
