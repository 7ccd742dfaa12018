//! The simulated storage service: one table with entity group transactions and `ETag`s, one queue, and a journal of
//! everything that ever changed in them, from which the checks are made.
//!
//! That it answers as the real product does is checked in `conformance`.

use super::{
    answer::{Answer, Refusal, continuation},
    call::{Call, Operation, Query, Row, RowKey, row_key},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

/// The longest text of a property, in UTF-16 units.
const MAX_TEXT: usize = 32_768;

/// Something that changed, when, counted from the start of the history, and by which request.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    pub(crate) request: u32,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Inserted(Row),
    Overwritten(Row),
    Deleted(Row),
    Put(String),
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) table: Option<BTreeMap<RowKey, Row>>,
    pub(crate) queue: Option<Vec<String>>,
    pub(crate) journal: Vec<Change>,
    pub(crate) counts: Counts,
    /// How many rows the service looks at for one page, whether or not they match.
    page: usize,
    /// How many requests there were.
    requests: u32,
    /// How often each row was written, for its `ETag`.
    versions: BTreeMap<RowKey, u32>,
}

/// How often some things happened that a simulation must not miss.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Pages with a continuation token.
    pub(crate) continued: u64,
    /// Transactions that delete, and those of them that were refused.
    pub(crate) deletions: u64,
    pub(crate) refused_deletions: u64,
}

impl Storage {
    pub(crate) fn new(page: usize) -> Self {
        Self {
            table: None,
            queue: None,
            journal: Vec::new(),
            counts: Counts::default(),
            page,
            requests: 0,
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, call: &Call, at: Duration) -> Answer {
        self.requests += 1;
        match call {
            Call::CreateTable if self.table.is_some() => Answer::refused((409, "TableAlreadyExists"), None),
            Call::CreateTable => {
                self.table = Some(BTreeMap::new());
                let table = json!({ "odata.type": "t", "odata.id": "t", "odata.editLink": "t", "TableName": "t" });
                Answer::new(201, table.to_string())
            }
            Call::CreateQueue => {
                let status = if self.queue.is_some() { 204 } else { 201 };
                self.queue.get_or_insert_default();
                Answer::empty(status)
            }
            Call::Put(text) => self.put(text, at),
            Call::Batch(operations) => self.transaction(operations, at),
            Call::Delete(key, if_match) => match self.check(&Operation::Delete(key.clone(), if_match.clone())) {
                Ok(()) => {
                    self.delete(key, at);
                    Answer::empty(204)
                }
                Err(refusal) => Answer::refused(refusal, None),
            },
            Call::Get(key) => self.get(key),
            Call::Query(query) => self.query(query),
        }
    }

    fn put(&mut self, text: &str, at: Duration) -> Answer {
        let Some(queue) = &mut self.queue else {
            return Answer::new(404, "<Error><Code>QueueNotFound</Code></Error>".to_owned());
        };
        queue.push(text.to_owned());
        self.note(at, What::Put(text.to_owned()));
        Answer::empty(201)
    }

    fn note(&mut self, at: Duration, what: What) {
        self.journal.push(Change { at, request: self.requests, what });
    }

    /// All operations or none.
    fn transaction(&mut self, operations: &[Operation], at: Duration) -> Answer {
        let checked = self.check_all(operations);
        if let [Operation::Delete(..), ..] = operations {
            self.counts.deletions += 1;
            self.counts.refused_deletions += u64::from(checked.is_err());
        }
        if let Err((operation, refusal)) = checked {
            return Answer::batch_refused(refusal, operation);
        }
        let answers = operations.iter().map(|operation| match operation {
            Operation::Insert(row) | Operation::Upsert(row) => self.write(row, at),
            Operation::Delete(key, _) => {
                self.delete(key, at);
                String::new()
            }
        });
        let part = |etag| format!("--changesetresponse_1\r\n\r\nHTTP/1.1 204 No Content\r\n{etag}\r\n\r\n");
        let parts: String = answers.map(part).collect();
        Answer::batch(&parts)
    }

    /// The first operation that is refused. No row is twice in a transaction, so none depends on another.
    fn check_all(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)> {
        let mut rows = BTreeSet::new();
        if operations.len() > 100 {
            return Err((0, (400, "InvalidInput")));
        }
        for (index, operation) in operations.iter().enumerate() {
            let key = operation.key();
            if key.0 != operations[0].key().0 {
                return Err((index, (400, "CommandsInBatchActOnDifferentPartitions")));
            }
            if !rows.insert(key) {
                return Err((index, (400, "InvalidDuplicateRow")));
            }
            self.check(operation).map_err(|refusal| (index, refusal))?;
        }
        Ok(())
    }

    fn check(&self, operation: &Operation) -> Result<(), Refusal> {
        check_key(&operation.key())?;
        if let Operation::Insert(row) | Operation::Upsert(row) = operation {
            check_texts(row)?;
        }
        let table = self.table.as_ref().ok_or((404, "TableNotFound"))?;
        let stored = table.get(&operation.key());
        match operation {
            Operation::Insert(_) | Operation::Upsert(_) => {
                let is_refused = stored.is_some() && matches!(operation, Operation::Insert(_));
                if is_refused { Err((409, "EntityAlreadyExists")) } else { Ok(()) }
            }
            Operation::Delete(_, if_match) => match stored {
                None => Err((404, "ResourceNotFound")),
                Some(row) if if_match != "*" && row["odata.etag"] != *if_match => {
                    Err((412, "UpdateConditionNotSatisfied"))
                }
                Some(_) => Ok(()),
            },
        }
    }

    /// Answers with the header for the new `ETag`.
    fn write(&mut self, row: &Row, at: Duration) -> String {
        let key = row_key(row);
        let version = self.versions.entry(key.clone()).or_default();
        *version += 1;
        let etag = format!("W/\"{}~{version}\"", key.1);
        let mut row = row.clone();
        row.insert("odata.etag".to_owned(), etag.clone().into());
        let before = self.table.get_or_insert_default().insert(key, row.clone());
        let what = if before.is_some() { What::Overwritten(row) } else { What::Inserted(row) };
        self.note(at, what);
        format!("ETag: {etag}\r\n")
    }

    fn delete(&mut self, key: &RowKey, at: Duration) {
        if let Some(row) = self.table.as_mut().and_then(|table| table.remove(key)) {
            self.note(at, What::Deleted(row));
        }
    }

    fn get(&self, key: &RowKey) -> Answer {
        let Some(table) = &self.table else { return Answer::refused((404, "TableNotFound"), None) };
        let Some(row) = table.get(key) else { return Answer::refused((404, "ResourceNotFound"), None) };
        let etag = row["odata.etag"].as_str().unwrap().to_owned();
        let mut body = row.clone();
        body.insert("odata.metadata".to_owned(), "m".into());
        Answer { headers: vec![("etag", etag)], ..Answer::new(200, Value::from(body).to_string()) }
    }

    /// The answer to a query for a partition in which nothing is.
    pub(crate) fn empty_page(&self) -> Answer {
        match self.table {
            None => Answer::refused((404, "TableNotFound"), None),
            Some(_) => Answer::new(200, r#"{"odata.metadata":"m","value":[]}"#.to_owned()),
        }
    }

    /// A page ends when it has as many rows as were asked for, or when the service has looked at enough: it may be empty
    /// and have a token.
    fn query(&mut self, query: &Query) -> Answer {
        let Some(table) = &self.table else { return Answer::refused((404, "TableNotFound"), None) };
        let start = query.from.clone().map_or(Bound::Unbounded, Bound::Included);
        let is_about_keys =
            |condition: &&String| condition.starts_with("PartitionKey ") || condition.starts_with("RowKey ");
        let (range, filter): (Vec<_>, Vec<_>) = query.filter.iter().partition(is_about_keys);
        let is_in_range = |row: &Row| range.iter().all(|condition| holds(condition, row));
        let (mut page, mut scanned, mut next) = (Vec::new(), 0, None);
        for (key, row) in table.range((start, Bound::Unbounded)).filter(|(_, row)| is_in_range(row)) {
            let is_match = filter.iter().all(|condition| holds(condition, row));
            if scanned == self.page || is_match && page.len() == query.top {
                next = Some((key.0.clone(), Some(key.1.clone())));
                break;
            }
            scanned += 1;
            page.extend(is_match.then(|| selected(row, query)));
        }
        if next.is_none() && scanned == self.page {
            next = self.next_partition(query).map(|partition| (partition, None));
        }
        self.counts.continued += u64::from(next.is_some());
        let body = json!({ "odata.metadata": "m", "value": page }).to_string();
        Answer { headers: next.map(continuation).unwrap_or_default(), ..Answer::new(200, body) }
    }

    /// Where the service may look next when it has seen all of the partition that a query is about.
    fn next_partition(&self, query: &Query) -> Option<String> {
        let partition = query.filter.iter().find_map(|condition| condition.strip_prefix("PartitionKey eq "))?;
        let partitions = self.table.iter().flat_map(|table| table.keys()).map(|(partition, _)| partition);
        partitions.into_iter().find(|other| other.as_str() > partition.trim_matches('\'')).cloned()
    }
}

fn check_key((partition_key, row_key): &RowKey) -> Result<(), Refusal> {
    let is_forbidden = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    let is_valid = ![partition_key, row_key].iter().any(|key| key.contains(is_forbidden));
    if is_valid { Ok(()) } else { Err((400, "InvalidInput")) }
}

fn check_texts(row: &Row) -> Result<(), Refusal> {
    let is_long = |value: &Value| value.as_str().is_some_and(|text| text.encode_utf16().count() > MAX_TEXT);
    if row.values().any(is_long) { Err((400, "PropertyValueTooLarge")) } else { Ok(()) }
}

fn selected(row: &Row, query: &Query) -> Row {
    let is_selected = |name: &str| query.select.is_empty() || query.select.iter().any(|selected| selected == name);
    row.iter()
        .filter(|(name, _)| name.starts_with("odata.") || is_selected(name.split('@').next().unwrap_or_default()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn holds(condition: &str, row: &Row) -> bool {
    let [property, operator, value] = condition.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{condition}") };
    let value = value.trim_start_matches("datetime").trim_matches('\'');
    let Some(stored) = row.get(property).and_then(Value::as_str) else { return false };
    match operator {
        "eq" => stored == value,
        "ge" => stored >= value,
        "lt" => stored < value,
        _ => panic!("not simulated: {condition}"),
    }
}
