//! The emulated storage compared with Azurite: the same random requests go to both, through the production client, and
//! must get the same status, error code, index of the refused operation, and content.
//!
//! The emulated storage follows Azure where Azurite does not, and such requests are not made here: Azurite accepts a
//! transaction over two partitions, and neither limits the size of an entity nor the number of its properties.

use crate::simulator::network::{into_http, read_call};
use async_trait::async_trait;
use azure_core::{HttpClient, Request, Response};
use futures::TryStreamExt;
use handler::storage::{Account, Error, PooledClient, Queue, RowTag, Table};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use test_storage::{
    azurite,
    emulated::{Applied, Change, EmulatedStorage, Row},
};

/// The number of sequences of requests.
const SEQUENCES: u64 = 30;

/// The number of requests in each.
const REQUESTS: usize = 40;

/// The begins of the row keys.
const KINDS: [&str; 3] = ["record", "expiry", "outbox"];

/// The number of rows that the service reads for one page.
const PAGE: usize = 1_000;

const EMULATED: &str =
    "TableEndpoint=https://storage.example/a;QueueEndpoint=https://storage.example/a;SharedAccessSignature=sig=a";

/// The emulated storage without a network, and the messages that were put.
#[derive(Debug)]
struct Emulated(Mutex<(EmulatedStorage, Vec<String>)>);

impl Emulated {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((EmulatedStorage::new(PAGE), Vec::new()))))
    }
}

#[async_trait]
impl HttpClient for Emulated {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let (storage, messages) = &mut *self.0.lock().unwrap();
        let Applied { response, changes, .. } = storage.apply(&read_call(request));
        messages.extend(changes.into_iter().filter_map(|change| match change {
            Change::Put { text, .. } => Some(text),
            _ => None,
        }));
        Ok(into_http(response))
    }
}

/// One of the two services, and the `ETag`s that it gave to each row, the latest last.
struct Side {
    table: Table,
    queue: Queue,
    tags: BTreeMap<(String, String), Vec<String>>,
}

impl Side {
    fn new(connection_string: &str, connection: Arc<dyn HttpClient>) -> Self {
        let account = Account::from_connection_string(connection_string).unwrap();
        let table = Table::new(&account, "conformance", connection.clone());
        Self { table, queue: Queue::new(&account, "conformance", connection), tags: BTreeMap::new() }
    }

    /// Returns the response in a form that is the same for equal services.
    async fn answer(&mut self, request: &Asked) -> String {
        match request {
            Asked::CreateTable => shown(self.table.create().await),
            Asked::Put(text) => shown(self.queue.put(text).await),
            Asked::Insert(rows) => shown(self.insert(rows).await),
            Asked::Get(partition_key, row_key) => {
                shown(self.table.get::<Row>(partition_key, row_key).await.map(|row| row.map(without_tags)))
            }
            Asked::Query(filter, select) => {
                let pages = self.table.query::<Row>(filter.clone(), select);
                let rows = pages.try_collect::<Vec<_>>().await.map(|pages| pages.concat());
                shown(rows.map(|rows| rows.into_iter().map(without_tags).collect::<Vec<_>>()))
            }
            Asked::Delete(partition_key, row_keys, age) => {
                let tags: Vec<_> = row_keys.iter().map(|row_key| self.tag(partition_key, row_key, *age)).collect();
                shown(self.table.delete_all(partition_key, &tags.iter().collect::<Vec<_>>()).await)
            }
        }
    }

    /// Returns the keys of the rows of each page.
    async fn pages(&self, filter: &str) -> Vec<Vec<String>> {
        let pages = self.table.query::<RowTag>(filter.to_owned(), "RowKey");
        let pages = pages.map_ok(|page| page.into_iter().map(|row| row.row_key).collect());
        pages.try_collect().await.unwrap()
    }

    async fn insert(&mut self, rows: &[Row]) -> Result<usize, Error> {
        let text = |row: &Row, name: &str| row[name].as_str().unwrap().to_owned();
        let etags = self.table.insert_all(rows).await?;
        for (row, etag) in rows.iter().zip(&etags) {
            let key = (text(row, "PartitionKey"), text(row, "RowKey"));
            self.tags.entry(key).or_default().push(etag.clone().expect("an ETag for every inserted row"));
        }
        Ok(etags.len())
    }

    /// Returns the row with the `ETag` of `age` insertions before, or with one that it never had.
    fn tag(&self, partition_key: &str, row_key: &str, age: usize) -> RowTag {
        let tags = self.tags.get(&(partition_key.to_owned(), row_key.to_owned()));
        let etag = tags.and_then(|tags| tags.iter().rev().nth(age)).cloned();
        let never = "W/\"datetime'2026-11-21T10%3A20%3A00.1234567Z'\"";
        RowTag { row_key: row_key.to_owned(), etag: etag.unwrap_or_else(|| never.to_owned()) }
    }
}

/// A request to both.
#[derive(Debug)]
enum Asked {
    CreateTable,
    Put(String),
    Insert(Vec<Row>),
    Get(String, String),
    Query(String, &'static str),
    Delete(String, Vec<String>, usize),
}

impl Asked {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let partition_key = format!("bucket~0{}", random.u8(0..2));
        let row_keys = |random: &mut fastrand::Rng| {
            let count = random.usize(1..4);
            (0..count).map(|_| format!("{}~{}", KINDS[random.usize(0..KINDS.len())], random.u8(0..4))).collect()
        };
        match random.u8(0..20) {
            0 => Self::CreateTable,
            1 => Self::Put(["plain", "a < b & \"c\" > 'd'", "{\"id\":\"Zoë\"}"][random.usize(0..3)].to_owned()),
            2..9 => {
                let row_keys: Vec<String> = row_keys(random);
                Self::Insert(row_keys.iter().map(|row_key| row(&partition_key, row_key, random)).collect())
            }
            9 => Self::Insert((0..101).map(|n| row(&partition_key, &format!("many~{n}"), random)).collect()),
            10..13 => Self::Get(partition_key, format!("record~{}", random.u8(0..5))),
            13..16 => Self::Query(
                filter(&partition_key, random),
                ["RowKey", "PartitionKey,RowKey,schema,body"][random.usize(0..2)],
            ),
            _ => Self::Delete(partition_key, row_keys(random), random.usize(0..2)),
        }
    }
}

/// Draws a row with properties of all stored types; now and then one that cannot be stored.
fn row(partition_key: &str, row_key: &str, random: &mut fastrand::Rng) -> Row {
    let (row_key, body) = match random.u8(0..60) {
        0 => (format!("{row_key}/"), "x".to_owned()),
        1 => (row_key.to_owned(), "x".repeat(32_769)),
        2 => (row_key.to_owned(), "é".repeat(32_768)),
        _ => (row_key.to_owned(), format!("{{\"n\":{}}}", random.u8(..))),
    };
    let created_at = format!("2026-12-{:02}T10:20:00.0000000Z", random.u8(1..20));
    let row = json!({
        "PartitionKey": partition_key, "RowKey": row_key, "schema": 1, "body": body,
        "created_at@odata.type": "Edm.DateTime", "created_at": created_at,
    });
    let Value::Object(row) = row else { unreachable!() };
    row
}

/// Draws a filter of one of the forms that the ledger uses: all events, those of some age, index rows up to a time.
fn filter(partition_key: &str, random: &mut fastrand::Rng) -> String {
    let range =
        |end: &str, kind| format!("PartitionKey eq '{partition_key}' and RowKey ge '{kind}~' and RowKey lt '{end}'");
    match random.u8(0..3) {
        0 => range("outbox~~", "outbox"),
        1 => {
            let before = format!("2026-12-{:02}T10:20:00.0000000Z", random.u8(1..20));
            format!("{} and created_at lt datetime'{before}'", range("outbox~~", "outbox"))
        }
        _ => range(&format!("expiry~{}", random.u8(0..5)), "expiry"),
    }
}

/// Removes the properties that each service invents for itself.
fn without_tags(row: Row) -> Row {
    row.into_iter().filter(|(name, _)| !name.starts_with("odata.") && !name.starts_with("Timestamp")).collect()
}

fn shown<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(Error::Refused { status, code, operation, .. }) => format!("{status} {code} {operation:?}"),
        Err(error) => format!("unexpected: {error}"),
    }
}

#[tokio::test]
async fn the_emulated_storage_answers_as_azurite_does() {
    let azurite = azurite::shared().await.unwrap();
    let (mut answers, mut different) = (BTreeMap::<String, u32>::new(), Vec::new());
    for seed in 0..SEQUENCES {
        let account = azurite.account().unwrap();
        let mut real = Side::new(&account.connection_string(), Arc::new(PooledClient::new(true)));
        let client = Emulated::new();
        let mut emulated = Side::new(EMULATED, client.clone());
        let mut random = fastrand::Rng::with_seed(seed);
        for step in 0..REQUESTS {
            let asked = if step == 8 { Asked::CreateTable } else { Asked::draw(&mut random) };
            let (expected, answer) = (real.answer(&asked).await, emulated.answer(&asked).await);
            if answer != expected {
                different.push(format!("seed {seed}, step {step}: {answer} instead of {expected} to {asked:?}"));
            }
            *answers.entry(answer.chars().take(40).collect()).or_default() += 1;
        }
        let queued: Vec<_> = match account.peek("conformance").await {
            Ok(messages) => messages.into_iter().map(|message| message.text).collect(),
            Err(_) => Vec::new(),
        };
        assert_eq!(client.0.lock().unwrap().1, queued, "seed {seed}");
    }
    println!("{answers:#?}");
    assert!(different.is_empty(), "{}", different.join("\n"));
    for refusal in [
        "404 TableNotFound",
        "404 ResourceNotFound",
        "409 EntityAlreadyExists",
        "412 UpdateConditionNotSatisfied",
        "400 ",
    ] {
        assert!(answers.keys().any(|answer| answer.starts_with(refusal)), "{refusal} was never the answer");
    }
}

/// Reads more rows than one page has, and than one transaction can insert.
#[tokio::test]
async fn the_emulated_storage_gives_the_pages_that_azurite_gives() {
    let azurite = azurite::shared().await.unwrap();
    let account = azurite.account().unwrap();
    let mut real = Side::new(&account.connection_string(), Arc::new(PooledClient::new(true)));
    let mut emulated = Side::new(EMULATED, Emulated::new());
    let mut random = fastrand::Rng::with_seed(1);
    let mut row = |bucket: &str, n: usize| loop {
        let row = row(bucket, &format!("expiry~{n:03}"), &mut random);
        if row["body"].as_str().unwrap().starts_with('{') && !row["RowKey"].as_str().unwrap().ends_with('/') {
            return row;
        }
    };
    real.table.create().await.unwrap();
    emulated.table.create().await.unwrap();
    for (bucket, numbers) in
        [("bucket~00", 0..100), ("bucket~00", 100..200), ("bucket~00", 200..250), ("bucket~01", 0..100)]
    {
        let rows: Vec<_> = numbers.map(|n| row(bucket, n)).collect();
        assert_eq!((real.insert(&rows).await, emulated.insert(&rows).await), (Ok(rows.len()), Ok(rows.len())));
    }
    let range =
        |bucket, end| format!("PartitionKey eq '{bucket}' and RowKey ge 'expiry~' and RowKey lt 'expiry~{end}'");
    let old = format!("{} and created_at lt datetime'2026-12-11T10:20:00.0000000Z'", range("bucket~00", "~"));
    for (filter, lengths) in [
        (range("bucket~00", "~"), &[100, 100, 50][..]),
        (range("bucket~00", "120"), &[100, 20]),
        (range("bucket~01", "~"), &[100]),
        (range("bucket~02", "~"), &[0]),
    ] {
        let pages = real.pages(&filter).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{filter}");
        assert_eq!(emulated.pages(&filter).await, pages, "{filter}");
    }
    assert_eq!(emulated.pages(&old).await, real.pages(&old).await);
}
