//! The requests that the services understand, read from method, target and body.

use std::{fmt, sync::Arc, time::Duration};

use quick_xml::escape::unescape;

use super::{
    entity::{Key, Row, key_of},
    query::Query,
};
use crate::kind::Kind;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Creates the table.
    CreateTable,
    /// Creates a queue.
    CreateQueue(String),
    /// Puts a message on a queue, to be seen after this time.
    Put(String, String, Duration),
    /// Receives or peeks messages.
    GetMessages(String),
    /// Asks for the length of a queue.
    GetQueue(String),
    /// Reads one entity.
    Get(Key),
    /// Reads some entities.
    Query(Query),
    /// Inserts one entity outside a transaction, as `benches/baseline` does.
    Insert(Operation),
    /// Deletes one entity under a condition on its `ETag`.
    Delete(Key, String),
    /// Applies an [entity group
    /// transaction](https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions).
    Transaction(Vec<Operation>),
}

/// One operation of an entity group transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Inserts an entity.
    Insert(Key, Arc<Row>),
    /// Inserts or replaces an entity.
    Upsert(Key, Arc<Row>),
    /// Deletes an entity under a condition on its `ETag`.
    Delete(Key, String),
}

impl Call {
    /// Reads a request whose target begins with the account; `None` if it is none that the handler makes.
    #[must_use]
    pub fn read((method, target): (&str, &str), if_match: &str, body: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = path.split('/').nth(2)?;
        Some(match Kind::of(method, target) {
            Kind::Batch => Self::Transaction(operations(body)?),
            Kind::GetEntity => Self::Get(key(path)?),
            Kind::Query => Self::Query(Query::read(query)?),
            Kind::CreateTable => Self::CreateTable,
            Kind::Insert => row(body).map(|(key, row)| Self::Insert(Operation::Insert(key, row)))?,
            Kind::Delete => Self::Delete(key(path)?, if_match.to_owned()),
            Kind::PutMessage => Self::Put(name.to_owned(), message(body)?, invisible(query)?),
            Kind::GetMessages => Self::GetMessages(name.to_owned()),
            Kind::GetQueue => Self::GetQueue(name.to_owned()),
            Kind::CreateQueue => Self::CreateQueue(name.to_owned()),
            Kind::Change | Kind::Other => return None,
        })
    }

    /// Returns the kind of the request.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::CreateTable => Kind::CreateTable,
            Self::CreateQueue(_) => Kind::CreateQueue,
            Self::Put(..) => Kind::PutMessage,
            Self::GetMessages(_) => Kind::GetMessages,
            Self::GetQueue(_) => Kind::GetQueue,
            Self::Get(_) => Kind::GetEntity,
            Self::Query(_) => Kind::Query,
            Self::Insert(_) => Kind::Insert,
            Self::Delete(..) => Kind::Delete,
            Self::Transaction(_) => Kind::Batch,
        }
    }
}

/// Describes the request in a few words, for a trace.
impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable => formatter.write_str(self.kind().name()),
            Self::CreateQueue(queue) | Self::GetMessages(queue) | Self::GetQueue(queue) => {
                write!(formatter, "{} {queue}", self.kind().name())
            }
            Self::Put(queue, text, _) => write!(formatter, "put on {queue} {text}"),
            Self::Get(key) => write!(formatter, "get {}", short(key)),
            Self::Query(query) => write!(formatter, "query {query:?}"),
            Self::Insert(operation) => write!(formatter, "{operation}"),
            Self::Delete(key, _) => write!(formatter, "delete {}", short(key)),
            Self::Transaction(operations) => {
                let operations: Vec<_> = operations.iter().map(ToString::to_string).collect();
                write!(formatter, "transaction: {}", operations.join(", "))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Insert(..) => "insert",
            Self::Upsert(..) => "upsert",
            Self::Delete(..) => "delete",
        };
        write!(formatter, "{verb} {}", short(self.key()))
    }
}

/// Returns the begin of a row key, whose hash is too long to be read.
fn short((_, row_key): &Key) -> String {
    row_key.chars().take(13).collect()
}

impl Operation {
    /// Returns the key of the entity.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Insert(key, _) | Self::Upsert(key, _) | Self::Delete(key, _) => key,
        }
    }

    /// Reads one part of the multipart body, which is a request of its own.
    fn read(part: &str) -> Option<Self> {
        let (head, body) = part.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let (method, url) = lines.next()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
        let is_if_match = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("if-match");
        let if_match = lines.filter_map(|line| line.split_once(':')).find(is_if_match).map(|(_, value)| value.trim());
        match (method, if_match) {
            ("POST", None) => row(body).map(|(key, row)| Self::Insert(key, row)),
            ("PUT", None) => row(body).map(|(key, row)| Self::Upsert(key, row)),
            ("DELETE", Some(etag)) => Some(Self::Delete(key(url)?, etag.to_owned())),
            _ => None,
        }
    }
}

/// Reads the parts of a transaction: in each the headers of the part come before those of its request.
fn operations(body: &str) -> Option<Vec<Operation>> {
    let parts = body.split("--changeset_").skip(1).filter_map(|part| part.split_once("\r\n\r\n"));
    parts.map(|(_, request)| Operation::read(request)).collect()
}

/// Reads the entity of a request, which is one line.
fn row(body: &str) -> Option<(Key, Arc<Row>)> {
    let row: Row = serde_json::from_str(body.lines().next()?).ok()?;
    Some((key_of(&row), Arc::new(row)))
}

/// Reads the keys in `table(PartitionKey='…',RowKey='…')`. The keys of the handler have no quotes.
fn key(path: &str) -> Option<Key> {
    let (_, keys) = path.split_once("(PartitionKey='")?;
    let (partition, rest) = keys.split_once("',RowKey='")?;
    Some((partition.replace("%7E", "~"), rest.split_once("')")?.0.replace("%7E", "~")))
}

fn invisible(query: &str) -> Option<Duration> {
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("visibilitytimeout="));
    seconds.map_or(Some(0), |seconds| seconds.parse().ok()).map(Duration::from_secs)
}

fn message(body: &str) -> Option<String> {
    let (text, _) = body.split_once("<MessageText>")?.1.split_once("</MessageText>")?;
    Some(unescape(text).ok()?.into_owned())
}
