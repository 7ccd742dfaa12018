//! The reach of the purge: ten million orders a day, kept for thirty days, with the production code, on a virtual clock and
//! a service whose partitions are as fast as Azure's targets.
//!
//! The service holds those rows only that are due and were asked for; it makes them when a query gets there. Records that
//! are not due are a number: they cost time when a query scans them. Where a test would take minutes, one record stands for
//! many, and every request takes that many times as long.

use crate::simulator::{
    domain::DOMAIN,
    network::{into_http, read_call},
    world::app_config,
};
use async_trait::async_trait;
use azure_core::{HttpClient, Request, Response as HttpResponse};
use futures::{TryStreamExt, future};
use handler::{
    attempt::Attempt,
    functions::{App, scheduled_with_retry},
    storage::{Account, RowTag, Table},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use test_storage::emulated::{Applied, Call, Change, EmulatedStorage, Operation, Query, Response};
use time::{OffsetDateTime, macros::datetime};
use tokio::time::Instant;

/// Orders a second: ten million a day.
const ORDERS: f64 = 10_000_000.0 / 86_400.0;
const RETENTION_DAYS: f64 = 30.0;
const DAY: Duration = Duration::from_secs(86_400);
const BUCKETS: usize = 64;

/// [Targets](https://learn.microsoft.com/azure/storage/tables/scalability-targets): entities a second.
const PARTITION_RATE: f64 = 2_000.0;
const ACCOUNT_RATE: f64 = 20_000.0;
/// Entities that the commit of an order takes: record, index row and event, and the event's deletion.
const ENTITIES_OF_ORDER: f64 = 4.0;
/// Commits of the busiest hour are so many times the average; all the purging is done in it.
const PEAK: f64 = 3.0;
/// A partition that is behind by more refuses.
const MAX_BEHIND: Duration = Duration::from_secs(1);
/// Rows that the service looks at for one page.
const PAGE: usize = 1_000;

/// `schedule` of `function.json`, and the time limit of an invocation.
const TICK: Duration = Duration::from_secs(300);
const TIME_LIMIT: Duration = Duration::from_secs(290);
/// The longest tick.
const MAX_TICK: Duration = Duration::from_secs(120);

/// The time from which on records expire, by the clock of the tick that may purge the first.
const START: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);
const MARGIN: Duration = Duration::from_secs(3_600);

const CONNECTION: &str =
    "TableEndpoint=https://storage.example/a;QueueEndpoint=https://storage.example/a;SharedAccessSignature=sig=a";

#[derive(Debug)]
struct Service(Mutex<State>);

#[derive(Debug)]
struct State {
    storage: EmulatedStorage,
    /// For how many records one stands, and for how many requests a request.
    scale: u32,
    /// The number of records made in each bucket, and of those that are stored.
    made: [u64; BUCKETS],
    stored: [u64; BUCKETS],
    /// When the account, and each partition, has done what it was asked for.
    free_at: BTreeMap<String, Instant>,
    requests: u64,
    purged: u64,
}

impl State {
    /// Answers after a time.
    fn answer(&mut self, call: &Call) -> (Duration, Response) {
        if matches!(call, Call::GetQueue(_) | Call::GetMessages(_)) {
            return (self.scaled(latency(call, 0)), self.storage.apply(call).response);
        }
        self.requests += 1;
        let partition = match call {
            Call::Query(query) => query.partition.clone(),
            Call::Get(key) | Call::Delete(key, _) => key.0.clone(),
            Call::Transaction(operations) => operations[0].key().0.clone(),
            _ => panic!("not for a purge: {call}"),
        };
        let limits = [(String::new(), ACCOUNT_RATE, 1.0), (partition, PARTITION_RATE, BUCKETS as f64)];
        let now = Instant::now();
        let is_behind =
            |partition: &String| self.free_at.get(partition).is_some_and(|at| *at > now + self.scaled(MAX_BEHIND));
        if limits.iter().any(|(partition, ..)| is_behind(partition)) {
            return (self.scaled(latency(call, 0)), Response::table_error((503, "ServerBusy")));
        }
        let (response, entities) = self.apply(call);
        let mut end = now;
        for (partition, rate, partitions) in limits {
            let rate = rate - ENTITIES_OF_ORDER * ORDERS * PEAK / partitions;
            let work = self.scaled(Duration::from_secs_f64(entities as f64 / rate));
            let free_at = self.free_at.entry(partition).or_insert(now);
            *free_at = (*free_at).max(now) + work;
            end = end.max(*free_at);
        }
        (end - now + self.scaled(latency(call, entities)), response)
    }

    fn scaled(&self, time: Duration) -> Duration {
        time * self.scale
    }

    fn apply(&mut self, call: &Call) -> (Response, usize) {
        if let Call::Query(query) = call {
            match query.row_keys.start.as_str() {
                "expiry~" => self.make(query),
                "record~" => return self.scan(query),
                _ => {}
            }
        }
        let Applied { response, changes, entities } = self.storage.apply(call);
        for change in changes {
            let Change::Deleted(row) = change else { continue };
            if row.contains_key("commit_id") {
                self.stored[bucket(row["PartitionKey"].as_str().unwrap())] -= 1;
                self.purged += 1;
            }
        }
        (response, entities)
    }

    /// Makes the rows of a page, and one behind it.
    fn make(&mut self, query: &Query) {
        let bucket = bucket(&query.partition);
        let end = query.row_keys.end[7..19].parse().unwrap();
        while self.stored[bucket] < 201 && self.expiry(bucket, self.made[bucket]) < end {
            let (number, expires_at) = (self.made[bucket], self.expiry(bucket, self.made[bucket]));
            let insert = |row_key: String, commit_id: Option<&str>| {
                let row = serde_json::json!({ "PartitionKey": query.partition, "RowKey": row_key, "schema": 1 });
                let mut row = row.as_object().unwrap().clone();
                row.extend(commit_id.map(|commit_id| ("commit_id".to_owned(), commit_id.into())));
                Operation::Insert((query.partition.clone(), row_key), Arc::new(row))
            };
            let index_row = insert(format!("expiry~{expires_at:012}~{number:064}~c0ffee"), None);
            let record = insert(format!("record~{number:064}"), Some("c0ffee"));
            assert_eq!(self.storage.apply(&Call::Transaction(vec![record, index_row])).response.status, 202);
            self.made[bucket] += 1;
            self.stored[bucket] += 1;
        }
    }

    /// Returns the second at which a record of a bucket expires.
    fn expiry(&self, bucket: usize, number: u64) -> i64 {
        let order = number * BUCKETS as u64 + bucket as u64;
        START.unix_timestamp() + (order as f64 / ORDERS * f64::from(self.scale)) as i64
    }

    /// Looks at the next live records. Where to go on is in the continuation token.
    fn scan(&mut self, query: &Query) -> (Response, usize) {
        let token = query.next.as_ref().and_then(|(_, row_key)| row_key.strip_prefix("record~")?.parse().ok());
        let next = token.unwrap_or(0) + PAGE;
        let mut response = self.storage.apply(&Call::Query(query.clone())).response;
        if (next as f64) < RETENTION_DAYS * 86_400.0 * ORDERS / BUCKETS as f64 / f64::from(self.scale) {
            response.headers.push(("x-ms-continuation-nextpartitionkey", query.partition.clone()));
            response.headers.push(("x-ms-continuation-nextrowkey", format!("record~{next:020}")));
        }
        (response, PAGE)
    }
}

fn bucket(partition_key: &str) -> usize {
    usize::from_str_radix(partition_key.strip_prefix("bucket~").unwrap(), 16).unwrap()
}

/// Returns the time of a request without any load.
fn latency(call: &Call, entities: usize) -> Duration {
    match call {
        Call::Get(_) => Duration::from_millis(10),
        Call::Query(_) => Duration::from_millis(20),
        _ => Duration::from_millis(20) + Duration::from_micros(500) * u32::try_from(entities).unwrap(),
    }
}

#[async_trait]
impl HttpClient for Service {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<HttpResponse> {
        let (time, response) = self.0.lock().unwrap().answer(&read_call(request));
        tokio::time::sleep(time).await;
        Ok(into_http(response))
    }
}

/// The app, over the service.
struct World {
    service: Arc<Service>,
    app: App,
    start: Instant,
}

/// One tick.
#[derive(Debug)]
struct Tick {
    is_ok: bool,
    took: Duration,
    requests: u64,
    purged: u64,
    /// How long the oldest record that is left is past its time.
    oldest: Duration,
}

impl Tick {
    /// Tells whether all is purged that was due when the tick began.
    fn is_complete(&self) -> bool {
        self.oldest <= self.took + Duration::from_secs(2)
    }
}

impl World {
    /// Begins when the first record has expired for so long.
    fn new(scale: u32) -> Self {
        let mut storage = EmulatedStorage::new(PAGE);
        storage.apply(&Call::CreateTable);
        let state = State {
            storage,
            scale,
            made: [0; BUCKETS],
            stored: [0; BUCKETS],
            free_at: BTreeMap::new(),
            requests: 0,
            purged: 0,
        };
        let service = Arc::new(Service(Mutex::new(state)));
        let account = Account::from_connection_string(CONNECTION).unwrap();
        let client: Arc<dyn HttpClient> = service.clone();
        let app = App::new(DOMAIN, &account, &client, &app_config());
        Self { service, app, start: Instant::now() }
    }

    /// Runs the tick that is due so long after the first record.
    async fn tick(&self, at: Duration) -> Tick {
        tokio::time::sleep_until(self.start + at).await;
        let (begin, before) = (Instant::now(), self.counts());
        let deadline = begin + TIME_LIMIT;
        let attempt = Attempt::new(String::new(), self.time() + MARGIN, deadline, at.as_millis());
        let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
        let is_ok = scheduled_with_retry::run(&self.app, &tick, &attempt).await.is_ok();
        let (took, after) = (begin.elapsed(), self.counts());
        Tick { is_ok, took, requests: after.0 - before.0, purged: after.1 - before.1, oldest: self.oldest() }
    }

    /// Returns the time of day, less the margin that every record has.
    fn time(&self) -> OffsetDateTime {
        START + self.start.elapsed()
    }

    fn counts(&self) -> (u64, u64) {
        let state = self.service.0.lock().unwrap();
        (state.requests, state.purged)
    }

    fn oldest(&self) -> Duration {
        let state = self.service.0.lock().unwrap();
        let first_left = |bucket| state.expiry(bucket, state.made[bucket] - state.stored[bucket]);
        let oldest = OffsetDateTime::from_unix_timestamp((0..BUCKETS).map(first_left).min().unwrap()).unwrap();
        Duration::try_from(self.time() - oldest).unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn ten_million_orders_a_day_are_purged_as_they_expire() {
    let world = World::new(1);
    let idle = world.tick(Duration::ZERO).await;
    assert!(idle.is_ok && idle.requests <= 65 + 65, "{idle:?}");
    for number in 1..=2 {
        let tick = world.tick(TICK * number).await;
        println!("{tick:?}");
        assert!(tick.is_ok && tick.took <= MAX_TICK, "{tick:?}");
        assert!(tick.purged as f64 > 0.99 * ORDERS * TICK.as_secs_f64(), "{tick:?}");
        assert!(tick.is_complete(), "{tick:?}");
        assert!(tick.requests as f64 <= 1.2 * tick.purged as f64, "{tick:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_with_a_backlog_ends_in_time() {
    let tick = World::new(1).tick(2 * DAY).await;
    println!("{tick:?}");
    assert!(tick.is_ok && tick.took <= MAX_TICK, "{tick:?}");
    assert!(tick.requests as f64 <= 1.2 * tick.purged as f64, "{tick:?}");
}

#[tokio::test(start_paused = true)]
async fn the_backlog_of_two_days_without_the_timer_is_gone_within_a_day() {
    let (world, mut at) = (World::new(100), 2 * DAY);
    loop {
        let tick = world.tick(at).await;
        assert!(tick.is_ok && at < 3 * DAY, "{tick:?}");
        if tick.is_complete() {
            return println!("{:?}", at - 2 * DAY);
        }
        at += TICK;
    }
}

/// The filter by which a purge without an index of expiry would look for what is due.
#[tokio::test(start_paused = true)]
async fn a_scan_of_one_bucket_would_take_longer_than_a_tick() {
    let world = World::new(1);
    let account = Account::from_connection_string(CONNECTION).unwrap();
    let table = Table::new(&account, "idempotency", world.service.clone());
    let range = "PartitionKey eq 'bucket~00' and RowKey ge 'record~' and RowKey lt 'record~~'";
    let pages = table.query::<RowTag>(format!("{range} and expires_at lt datetime'2026-11-21T00:00:00Z'"), "RowKey");
    let scan = pages.try_for_each(|page| future::ready(if page.is_empty() { Ok(()) } else { panic!("{page:?}") }));
    assert!(tokio::time::timeout(MAX_TICK, scan).await.is_err());
}
