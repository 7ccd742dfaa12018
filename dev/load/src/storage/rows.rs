//! The rows of the one table, spread over many locks by partition: a transaction, which has one partition, takes one.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use serde::Deserialize;

const SHARDS: usize = 64;

/// `PartitionKey` and `RowKey`.
pub(super) type Key = (String, String);

type Shard = BTreeMap<Key, Row>;

/// One row.
#[derive(Clone)]
pub(super) struct Row {
    version: u64,
    /// As it was sent: a JSON object.
    pub(super) entity: Box<str>,
}

/// What is asked of one row.
pub(super) enum Operation<'a> {
    /// A JSON object with both keys.
    Insert(&'a str),
    /// Delete if it has this `ETag`.
    Delete(Key, &'a str),
}

/// Why nothing was done: status and error code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

/// The outcome of a transaction: the inserted or deleted rows, or the index of the operation that was refused.
pub(super) type Applied = Result<Vec<(Key, Row)>, (usize, Refusal)>;

/// All rows.
pub(super) struct Rows {
    created: AtomicBool,
    versions: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "PartitionKey")]
    partition: String,
    #[serde(rename = "RowKey")]
    row: String,
}

impl Row {
    pub(super) fn etag(&self) -> String {
        format!("W/\"datetime'2026-11-21T10%3A20%3A00.{:07}Z'\"", self.version)
    }
}

impl Rows {
    pub(super) fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { created: AtomicBool::new(false), versions: AtomicU64::new(0), shards }
    }

    /// Whether the table is new.
    pub(super) fn create(&self) -> bool {
        !self.created.swap(true, Ordering::Relaxed)
    }

    pub(super) fn get(&self, key: &Key) -> Result<Row, Refusal> {
        self.check_table()?;
        self.shard(&key.0).get(key).cloned().ok_or(Refusal(404, "ResourceNotFound"))
    }

    /// The rows between two keys, the end excluded.
    pub(super) fn range(&self, from: &Key, to: &Key) -> Result<Vec<(Key, Row)>, Refusal> {
        self.check_table()?;
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.shard(&from.0);
        Ok(rows.range(from.clone()..to.clone()).map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    pub(super) fn count(&self, prefix: &str) -> u64 {
        let count = |shard: &Mutex<Shard>| lock(shard).keys().filter(|(_, row)| row.starts_with(prefix)).count();
        self.shards.iter().map(|shard| count(shard) as u64).sum()
    }

    /// Applies all operations, which have one partition, or none.
    pub(super) fn apply(&self, operations: &[Operation<'_>]) -> Result<Applied> {
        if let Err(refusal) = self.check_table() {
            return Ok(Err((0, refusal)));
        }
        let rows = operations.iter().map(|operation| self.resulting(operation)).collect::<Result<Vec<_>>>()?;
        let ((partition, _), _) = rows.first().context("a transaction without operations")?;
        let mut shard = self.shard(partition);
        for (index, (operation, (key, _))) in operations.iter().zip(&rows).enumerate() {
            if let Err(refusal) = check(operation, shard.get(key)) {
                return Ok(Err((index, refusal)));
            }
        }
        for (operation, (key, row)) in operations.iter().zip(&rows) {
            match operation {
                Operation::Insert(_) => shard.insert(key.clone(), row.clone()),
                Operation::Delete(..) => shard.remove(key),
            };
        }
        Ok(Ok(rows))
    }

    /// The key of an operation, and the row it would insert.
    fn resulting(&self, operation: &Operation<'_>) -> Result<(Key, Row)> {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        match operation {
            Operation::Insert(entity) => {
                let Keys { partition, row } = serde_json::from_str(entity).context("an entity without keys")?;
                Ok(((partition, row), Row { version, entity: (*entity).into() }))
            }
            Operation::Delete(key, _) => Ok((key.clone(), Row { version, entity: Box::default() })),
        }
    }

    fn check_table(&self) -> Result<(), Refusal> {
        if self.created.load(Ordering::Relaxed) { Ok(()) } else { Err(Refusal(404, "TableNotFound")) }
    }

    fn shard(&self, partition: &str) -> MutexGuard<'_, Shard> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(partition);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an operation may be applied to what is `stored` under its key.
fn check(operation: &Operation<'_>, stored: Option<&Row>) -> Result<(), Refusal> {
    match (operation, stored) {
        (Operation::Insert(_), None) => Ok(()),
        (Operation::Insert(_), Some(_)) => Err(Refusal(409, "EntityAlreadyExists")),
        (Operation::Delete(_, etag), Some(row)) if *etag == row.etag() => Ok(()),
        (Operation::Delete(..), Some(_)) => Err(Refusal(412, "UpdateConditionNotSatisfied")),
        (Operation::Delete(..), None) => Err(Refusal(404, "ResourceNotFound")),
    }
}
