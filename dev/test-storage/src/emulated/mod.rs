//! A table and a queue service as a state machine: a [call](Call) goes in, and [what it did](Applied) comes out. Nothing
//! else happens: no network, no clock, no chance.
//!
//! The simulation runs it without a network, and `cargo load` behind a server, where Azurite would be the limit. It
//! knows the requests that the handler makes, and answers like [Table
//! Storage](https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api) and [Queue
//! Storage](https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api), not like the emulator: no
//! error code in the headers of the table, and whole entities in the response to a transaction. Signatures are not
//! checked. Queues do not keep what is put on them. The conformance test of the simulation compares it with Azurite.

// Each imports only from those below it.
mod call;
mod response;
mod query;
mod entity;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

pub use call::{Call, Operation};
pub use entity::{Entity, Key, Refusal, Row};
pub use query::Query;
pub use response::Response;

use entity::{check_key, check_texts};
use query::{LAST, holds, range_of};

/// The largest number of operations of a transaction.
const MAX_OPERATIONS: usize = 100;

/// One table, whatever its name, and queues.
#[derive(Debug)]
pub struct EmulatedStorage {
    table: Option<BTreeMap<Key, Entity>>,
    queues: BTreeSet<String>,
    /// The number of rows that the service reads for one page, whether or not they match.
    page: usize,
    /// The number of times that each row was written, for its `ETag`.
    versions: BTreeMap<Key, u32>,
}

/// The result of a call.
#[derive(Debug)]
pub struct Applied {
    /// The response to it.
    pub response: Response,
    /// The changes that it made.
    pub changes: Vec<Change>,
    /// The number of entities that count against the [targets](https://learn.microsoft.com/azure/storage/tables/scalability-targets)
    /// of the partition: those of a transaction, and those that a query looked at, [whether or not they
    /// matched](https://learn.microsoft.com/azure/storage/tables/storage-performance-checklist#capacity-and-performance-targets).
    pub entities: usize,
}

/// A change of what is stored or queued.
#[derive(Debug, Clone)]
pub enum Change {
    /// A row was inserted.
    Inserted(Arc<Row>),
    /// A row was replaced by this one.
    Replaced(Arc<Row>),
    /// A row was deleted.
    Deleted(Arc<Row>),
    /// A message was put on a queue, to be seen after this time.
    Put {
        /// Name of the queue.
        queue: String,
        /// Text of the message.
        text: String,
        /// Time until it is seen.
        invisible: Duration,
    },
}

impl EmulatedStorage {
    /// Makes services without table and queues, which read so many rows for one page.
    #[must_use]
    pub const fn new(page: usize) -> Self {
        Self { table: None, queues: BTreeSet::new(), page, versions: BTreeMap::new() }
    }

    /// Returns the stored entities in the order of their keys.
    pub fn entities(&self) -> impl Iterator<Item = (&Key, &Entity)> {
        self.table.iter().flatten()
    }

    /// Applies a call.
    pub fn apply(&mut self, call: &Call) -> Applied {
        let mut changes = Vec::new();
        let mut entities = match call {
            Call::Get(_) | Call::Insert(_) | Call::Delete(..) => 1,
            Call::Transaction(operations) => operations.len(),
            _ => 0,
        };
        let response = match call {
            Call::CreateTable if self.table.is_some() => Response::table_error((409, "TableAlreadyExists")),
            Call::CreateTable => {
                self.table = Some(BTreeMap::new());
                response::table_created()
            }
            Call::CreateQueue(queue) => Response::empty(if self.queues.insert(queue.clone()) { 201 } else { 204 }),
            Call::Put(queue, ..) | Call::GetMessages(queue) | Call::GetQueue(queue) if !self.queues.contains(queue) => {
                Response::queue_error((404, "QueueNotFound"))
            }
            Call::Put(queue, text, invisible) => {
                changes.push(Change::Put { queue: queue.clone(), text: text.clone(), invisible: *invisible });
                response::message_put()
            }
            Call::GetMessages(_) => response::no_messages(),
            Call::GetQueue(_) => response::empty_queue(),
            Call::Transaction(operations) => match self.transaction(operations) {
                Ok(applied) => {
                    changes = applied;
                    response::transaction(operations.iter().map(|operation| self.stored(operation)))
                }
                Err((index, refusal)) => Response::transaction_error(refusal, index),
            },
            Call::Insert(operation) => match self.transaction(std::slice::from_ref(operation)) {
                Ok(applied) => {
                    changes = applied;
                    response::inserted(
                        self.stored(operation).map(|(entity, _)| entity.etag.clone()).unwrap_or_default(),
                    )
                }
                Err((_, refusal)) => Response::table_error(refusal),
            },
            Call::Delete(key, if_match) => match self.check_delete(key, if_match) {
                Ok(()) => {
                    changes.extend(self.delete(key));
                    Response::empty(204)
                }
                Err(refusal) => Response::table_error(refusal),
            },
            Call::Get(key) => self.get(key),
            Call::Query(query) => {
                let (page, looked_at) = self.query(query);
                entities = looked_at;
                page
            }
        };
        Applied { response, changes, entities }
    }

    /// Applies all operations or none.
    fn transaction(&mut self, operations: &[Operation]) -> Result<Vec<Change>, (usize, Refusal)> {
        self.check_transaction(operations)?;
        let apply = |operation: &Operation| match operation {
            Operation::Insert(key, row) | Operation::Upsert(key, row) => Some(self.write(key, row)),
            Operation::Delete(key, _) => self.delete(key),
        };
        Ok(operations.iter().filter_map(apply).collect())
    }

    /// Checks every operation. No row is twice in a transaction, so none depends on another.
    fn check_transaction(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)> {
        let mut keys = BTreeSet::new();
        if operations.len() > MAX_OPERATIONS {
            return Err((0, (400, "InvalidInput")));
        }
        for (index, operation) in operations.iter().enumerate() {
            let key = operation.key();
            if key.0 != operations[0].key().0 {
                return Err((index, (400, "CommandsInBatchActOnDifferentPartitions")));
            }
            if !keys.insert(key) {
                return Err((index, (400, "InvalidDuplicateRow")));
            }
            self.check(operation).map_err(|refusal| (index, refusal))?;
        }
        Ok(())
    }

    fn check(&self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Delete(key, if_match) => self.check_delete(key, if_match),
            Operation::Insert(key, row) | Operation::Upsert(key, row) => {
                check_key(key)?;
                check_texts(row)?;
                let is_present = self.table()?.contains_key(key);
                let is_refused = is_present && matches!(operation, Operation::Insert(..));
                if is_refused { Err((409, "EntityAlreadyExists")) } else { Ok(()) }
            }
        }
    }

    fn check_delete(&self, key: &Key, if_match: &str) -> Result<(), Refusal> {
        check_key(key)?;
        match self.table()?.get(key) {
            None => Err((404, "ResourceNotFound")),
            Some(entity) if if_match != "*" && entity.etag != if_match => Err((412, "UpdateConditionNotSatisfied")),
            Some(_) => Ok(()),
        }
    }

    fn table(&self) -> Result<&BTreeMap<Key, Entity>, Refusal> {
        self.table.as_ref().ok_or((404, "TableNotFound"))
    }

    /// Returns the entity that an applied operation wrote, and whether it could only insert it.
    fn stored(&self, operation: &Operation) -> Option<(&Entity, bool)> {
        let entity = self.table.as_ref()?.get(operation.key())?;
        Some((entity, matches!(operation, Operation::Insert(..))))
    }

    /// Writes a row with an `ETag` that neither it nor another row had before.
    fn write(&mut self, key: &Key, row: &Arc<Row>) -> Change {
        let version = self.versions.entry(key.clone()).or_default();
        *version += 1;
        let number = BuildHasherDefault::<DefaultHasher>::default().hash_one((key, version)) % 10_000_000;
        let etag = format!("W/\"datetime'2026-11-21T10%3A20%3A00.{number:07}Z'\"");
        let row = row.clone();
        let before = self.table.get_or_insert_default().insert(key.clone(), Entity { row: row.clone(), etag });
        if before.is_some() { Change::Replaced(row) } else { Change::Inserted(row) }
    }

    fn delete(&mut self, key: &Key) -> Option<Change> {
        self.table.as_mut()?.remove(key).map(|entity| Change::Deleted(entity.row))
    }

    fn get(&self, key: &Key) -> Response {
        let entity = self.table().and_then(|table| table.get(key).ok_or((404, "ResourceNotFound")));
        entity.map_or_else(Response::table_error, response::entity)
    }

    /// Returns one page, and how many rows were read for it. It ends when it has as many rows as were asked for, or when
    /// the service has read enough: it may be empty and have a continuation token.
    fn query(&self, query: &Query) -> (Response, usize) {
        let table = match self.table() {
            Ok(table) => table,
            Err(refusal) => return (Response::table_error(refusal), 0),
        };
        let (mut entities, mut read, mut next) = (Vec::new(), 0, None);
        for (key, entity) in table.range(range_of(query)) {
            let is_match = query.conditions.iter().all(|condition| holds(condition, &entity.row));
            if read == self.page || is_match && entities.len() == query.top {
                next = Some((key.0.clone(), Some(key.1.clone())));
                break;
            }
            read += 1;
            entities.extend(is_match.then_some(entity));
        }
        if next.is_none() && read == self.page {
            // The service may look into another partition next, before it sees that the query is about one.
            let after = (query.partition.clone(), LAST.to_owned());
            let other = table.range((Bound::Excluded(after), Bound::Unbounded)).next();
            next = other.map(|((partition, _), _)| (partition.clone(), None));
        }
        (response::page(&entities, &query.select, next), read)
    }
}
