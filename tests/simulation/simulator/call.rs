//! What a request asks for, read from its method, its URL and its body.

use azure_core::{Body, Request, Url, headers::HeaderName};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(crate) type Row = Map<String, Value>;

/// A key of the table: partition and row.
pub(crate) type RowKey = (String, String);

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    CreateTable,
    CreateQueue,
    Put(String),
    Get(RowKey),
    Query(Query),
    Delete(RowKey, String),
    Batch(Vec<Operation>),
}

/// One operation of an entity group transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Insert(Row),
    /// Insert or replace: no production code does it, one of its mutants does.
    Upsert(Row),
    Delete(RowKey, String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    /// The conditions, all of which must hold.
    pub(crate) filter: Vec<String>,
    pub(crate) select: Vec<String>,
    pub(crate) top: usize,
    pub(crate) from: Option<RowKey>,
}

impl Call {
    pub(crate) fn read(request: &Request) -> Self {
        let Body::Bytes(body) = request.body() else { panic!("only plain bodies are sent") };
        let body = std::str::from_utf8(body).unwrap();
        let if_match = request.headers().get_optional_string(&HeaderName::from_static("if-match")).unwrap_or_default();
        let (url, path) = (request.url(), request.url().path());
        match request.method().as_ref() {
            "PUT" => Self::CreateQueue,
            "POST" if path.ends_with("/Tables") => Self::CreateTable,
            "POST" if path.ends_with("/$batch") => Self::Batch(operations(body)),
            "POST" if path.ends_with("/messages") => Self::Put(message(body)),
            "GET" if path.ends_with("()") => Self::Query(Query::read(url)),
            "GET" => Self::Get(key(path)),
            "DELETE" => Self::Delete(key(path), if_match),
            method => panic!("not simulated: {method} {url}"),
        }
    }

    /// The partition that a query is about; `None` if it is no query.
    pub(crate) fn queried_partition(request: &Request) -> Option<String> {
        let query = request.url().query().filter(|_| request.url().path().ends_with("()"))?;
        let (_, rest) = query.split_once("PartitionKey+eq+%27")?;
        Some(rest.split_once("%27")?.0.replace("%7E", "~"))
    }

    /// In one word, for the budget of requests.
    pub(crate) const fn verb(&self) -> &'static str {
        match self {
            Self::CreateTable | Self::CreateQueue => "create",
            Self::Put(_) => "put",
            Self::Get(_) => "get",
            Self::Query(_) => "query",
            Self::Delete(..) => "delete",
            Self::Batch(_) => "batch",
        }
    }

    /// In a few words, for the history.
    pub(crate) fn short(&self) -> String {
        match self {
            Self::CreateTable => "create the table".to_owned(),
            Self::CreateQueue => "create the queue".to_owned(),
            Self::Put(text) => format!("put {}", abridged(text)),
            Self::Get(key) => format!("get {}", abridged(&key.1)),
            Self::Query(query) => format!("query {}", query.filter.join(" and ")),
            Self::Delete(key, _) => format!("delete {}", abridged(&key.1)),
            Self::Batch(operations) => {
                let rows =
                    operations.iter().map(|operation| format!("{} {}", operation.verb(), abridged(&operation.key().1)));
                format!("transaction: {}", rows.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Operation {
    pub(crate) fn key(&self) -> RowKey {
        match self {
            Self::Insert(row) | Self::Upsert(row) => row_key(row),
            Self::Delete(key, _) => key.clone(),
        }
    }

    const fn verb(&self) -> &'static str {
        match self {
            Self::Insert(_) => "insert",
            Self::Upsert(_) => "upsert",
            Self::Delete(..) => "delete",
        }
    }

    /// One part of the multipart body of a transaction.
    fn read(part: &str) -> Self {
        let mut lines = part.lines().skip_while(|line| !line.ends_with(" HTTP/1.1"));
        let request = lines.next().unwrap().replace("%7E", "~");
        let if_match = part.lines().find_map(|line| line.strip_prefix("if-match: "));
        let row = lines.find(|line| line.starts_with('{')).map(|text| serde_json::from_str(text).unwrap());
        match (request.split(' ').next().unwrap(), row) {
            ("POST", Some(row)) => Self::Insert(row),
            ("PUT", Some(row)) if if_match.is_none() => Self::Upsert(row),
            ("DELETE", None) => Self::Delete(key(&request), if_match.unwrap_or_default().to_owned()),
            _ => panic!("not simulated: {part}"),
        }
    }
}

impl Query {
    fn read(url: &Url) -> Self {
        let parameters: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        let parameter = |name: &str| parameters.get(name).cloned();
        let list = |name, separator| {
            parameter(name).map_or_else(Vec::new, |list: String| list.split(separator).map(ToOwned::to_owned).collect())
        };
        let top = parameter("$top").map_or(1_000, |top| top.parse().unwrap());
        let from = parameter("NextPartitionKey").map(|key| (key, parameter("NextRowKey").unwrap_or_default()));
        Self { filter: list("$filter", " and "), select: list("$select", ","), top, from }
    }
}

pub(crate) fn row_key(row: &Row) -> RowKey {
    let [partition_key, row_key] = ["PartitionKey", "RowKey"].map(|name| row[name].as_str().unwrap().to_owned());
    (partition_key, row_key)
}

/// `…(PartitionKey='a',RowKey='b')…` → (a, b)
fn key(path: &str) -> RowKey {
    let (_, keys) = path.split_once("(PartitionKey='").unwrap();
    let (partition, rest) = keys.split_once("',RowKey='").unwrap();
    (partition.replace("%7E", "~"), rest.split_once("')").unwrap().0.replace("%7E", "~"))
}

fn operations(body: &str) -> Vec<Operation> {
    body.split("--changeset_").filter(|part| part.contains(" HTTP/1.1\r\n")).map(Operation::read).collect()
}

fn message(body: &str) -> String {
    let text = body.split_once("<MessageText>").unwrap().1.split_once("</MessageText>").unwrap().0;
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&#13;", "\r").replace("&amp;", "&")
}

/// Hashes are too long to be read.
fn abridged(text: &str) -> String {
    if text.starts_with('{') { text.to_owned() } else { text.chars().take(13).collect() }
}
