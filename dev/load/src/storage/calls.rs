//! What a request asks for, and how often each is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rows::Key;

/// The kinds of requests, as they are reported.
pub(crate) const KINDS: [&str; 9] =
    ["batch", "get", "delete", "insert", "query", "create table", "put", "create queue", "other"];

/// One request.
pub(super) enum Call<'a> {
    /// An entity group transaction.
    Batch,
    /// One entity.
    Get(Key),
    /// Delete of one entity.
    Delete(Key),
    /// Insert of one entity.
    Insert,
    /// Some entities; the query of the URL.
    Query(&'a str),
    /// Create of the table.
    CreateTable,
    /// A message for a queue.
    PutMessage(&'a str),
    /// Create of a queue.
    CreateQueue(&'a str),
    /// Anything else: nothing the handler should do.
    Other,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &str, target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // `/account/rest`
        let rest = path.splitn(3, '/').nth(2).unwrap_or_default();
        match (method, key(rest), rest.strip_suffix("/messages")) {
            ("POST", _, Some(queue)) => Self::PutMessage(queue),
            ("POST", ..) if rest == "$batch" => Self::Batch,
            ("POST", ..) if rest == "Tables" => Self::CreateTable,
            ("POST", ..) if !rest.contains('/') => Self::Insert,
            ("GET", Some(key), _) => Self::Get(key),
            ("DELETE", Some(key), _) => Self::Delete(key),
            ("GET", None, None) if rest.ends_with("()") => Self::Query(query),
            ("PUT", None, None) if !rest.contains('/') => Self::CreateQueue(rest),
            _ => Self::Other,
        }
    }

    const fn index(&self) -> usize {
        match self {
            Self::Batch => 0,
            Self::Get(_) => 1,
            Self::Delete(_) => 2,
            Self::Insert => 3,
            Self::Query(_) => 4,
            Self::CreateTable => 5,
            Self::PutMessage(_) => 6,
            Self::CreateQueue(_) => 7,
            Self::Other => 8,
        }
    }
}

/// The keys in `table(PartitionKey='…',RowKey='…')`. The handler's keys need no escapes.
pub(super) fn key(path: &str) -> Option<Key> {
    let (_, keys) = path.split_once("(PartitionKey='")?;
    let (partition, rest) = keys.split_once("',RowKey='")?;
    Some((partition.to_owned(), rest.strip_suffix("')")?.to_owned()))
}

/// Counts while others read.
#[derive(Default)]
pub(super) struct Counters {
    requests: [AtomicU64; KINDS.len()],
    connections: AtomicU64,
}

/// How often each kind was asked, and over how many connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: [u64; KINDS.len()],
    pub(crate) connections: u64,
}

impl Counters {
    pub(super) fn count(&self, call: &Call<'_>) {
        self.requests[call.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        let requests = std::array::from_fn(|kind| self.requests[kind].load(Ordering::Relaxed));
        Counts { requests, connections: self.connections.load(Ordering::Relaxed) }
    }
}

impl Counts {
    /// What was asked since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let requests = std::array::from_fn(|kind| self.requests[kind] - earlier.requests[kind]);
        Self { requests, connections: self.connections - earlier.connections }
    }
}
