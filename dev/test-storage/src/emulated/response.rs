//! The responses of the two services, in the forms that the handler asks for.

use std::fmt::Write;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{Change, Key, Operation, Row, entity::key_of};

const ENDPOINT: &str = "https://account.table.core.windows.net";
const JSON: &str = "application/json;odata=fullmetadata;streaming=true;charset=utf-8";
const JSON_ERROR: &str = "application/json;odata=minimalmetadata;streaming=true;charset=utf-8";
const XML: &str = "application/xml";
const BATCH: &str = "batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";
const CHANGE_SET: &str = "changesetresponse_2f6f4c11-6e0a-4a6e-9d6b-0f1f7a0a9c22";

/// The headers of the response to every operation of a transaction.
const OPERATION_HEADERS: &str = "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n";

/// Status and error code of a refusal.
pub type Refusal = (u16, &'static str);

/// A response: status, headers, body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// Makes a response without a body.
    #[must_use]
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    fn new(status: u16, content_type: &str, body: String) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body }
    }

    /// Makes an error of the table service, which has the code in the body only.
    #[must_use]
    pub fn table_error((status, code): Refusal) -> Self {
        Self::new(status, JSON_ERROR, error(code, &format!("{code}.")))
    }

    /// Makes an error of the queue service.
    #[must_use]
    pub fn queue_error((status, code): Refusal) -> Self {
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code></Error>");
        let headers = vec![("content-type", XML.to_owned()), ("x-ms-error-code", code.to_owned())];
        Self { status, headers, body }
    }

    /// Makes the response to a transaction of which one operation was refused: nothing was applied.
    #[must_use]
    pub fn transaction_error((status, code): Refusal, index: usize) -> Self {
        let body = error(code, &format!("{index}:{code}."));
        multipart(&[format!(
            "HTTP/1.1 {status} {code}\r\n{OPERATION_HEADERS}DataServiceVersion: 3.0;\r\nContent-Type: {JSON_ERROR}\r\n\r\n\
             {body}"
        )])
    }

    /// Returns a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }
}

/// Makes the response to the creation of the table.
pub(super) fn table_created() -> Response {
    let table = json!({
        "odata.metadata": format!("{ENDPOINT}/$metadata#Tables/@Element"),
        "odata.type": "account.Tables",
        "odata.id": format!("{ENDPOINT}/Tables('idempotency')"),
        "odata.editLink": "Tables('idempotency')",
        "TableName": "idempotency",
    });
    Response::new(201, JSON, table.to_string())
}

/// Makes the response with one entity.
pub(super) fn entity(row: &Row) -> Response {
    let mut response = Response::new(200, JSON, entity_json(row, &[]));
    response.headers.push(("etag", etag(row).to_owned()));
    response
}

/// Makes one page of a query, with the key at which the next one begins: the service may name a partition without a row.
pub(super) fn page(rows: &[&Row], select: &[String], next: Option<(String, Option<String>)>) -> Response {
    let entities: Vec<_> = rows.iter().map(|row| entity_json(row, select)).collect();
    let body = format!(r#"{{"odata.metadata":"{ENDPOINT}/$metadata#idempotency","value":[{}]}}"#, entities.join(","));
    let mut response = Response::new(200, JSON, body);
    if let Some((partition_key, row_key)) = next {
        response.headers.push(("x-ms-continuation-nextpartitionkey", partition_key));
        response.headers.extend(row_key.map(|row_key| ("x-ms-continuation-nextrowkey", row_key)));
    }
    response
}

/// Makes the response to a transaction that was applied. The service sends inserted entities back.
pub(super) fn transaction(operations: &[Operation], changes: &[Change]) -> Response {
    let answer = |(operation, change): (&Operation, &Change)| match (operation, change) {
        (Operation::Insert(_), Change::Inserted(row)) => format!(
            "HTTP/1.1 201 Created\r\n{OPERATION_HEADERS}Content-Type: {JSON}\r\nDataServiceVersion: 3.0;\r\n\
             Location: {}\r\nETag: {}\r\n\r\n{}",
            location(row),
            etag(row),
            entity_json(row, &[])
        ),
        (_, Change::Inserted(row) | Change::Replaced(row)) => {
            format!("HTTP/1.1 204 No Content\r\n{OPERATION_HEADERS}ETag: {}\r\n\r\n", etag(row))
        }
        _ => format!("HTTP/1.1 204 No Content\r\n{OPERATION_HEADERS}DataServiceVersion: 1.0;\r\n\r\n"),
    };
    multipart(&operations.iter().zip(changes).map(answer).collect::<Vec<_>>())
}

fn multipart(answers: &[String]) -> Response {
    let length = answers.iter().map(|answer| answer.len() + 256).sum::<usize>() + 256;
    let mut body = String::with_capacity(length);
    let _ = write!(body, "--{BATCH}\r\nContent-Type: multipart/mixed; boundary={CHANGE_SET}\r\n\r\n");
    for answer in answers {
        let _ = write!(
            body,
            "--{CHANGE_SET}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{answer}\r\n"
        );
    }
    let _ = write!(body, "--{CHANGE_SET}--\r\n--{BATCH}--\r\n");
    Response::new(202, &format!("multipart/mixed; boundary={BATCH}"), body)
}

/// Makes the response to a put message.
pub(super) fn message_put() -> Response {
    let receipt = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage>\
        <MessageId>5974b586-0df3-4e2d-ad0c-18e3892bfca2</MessageId>\
        <InsertionTime>Sat, 21 Nov 2026 10:20:00 GMT</InsertionTime>\
        <ExpirationTime>Fri, 31 Dec 9999 23:59:59 GMT</ExpirationTime>\
        <PopReceipt>AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=</PopReceipt>\
        <TimeNextVisible>Sat, 21 Nov 2026 10:20:00 GMT</TimeNextVisible></QueueMessage></QueueMessagesList>";
    Response::new(201, XML, receipt.to_owned())
}

/// Returns the text of an entity with what the service adds to it.
fn entity_json(row: &Row, select: &[String]) -> String {
    serde_json::to_string(&Entity { row, select }).unwrap_or_default()
}

struct Entity<'a> {
    row: &'a Row,
    /// The selected properties; all if it is empty.
    select: &'a [String],
}

impl Serialize for Entity<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = location(self.row);
        let edit_link = id[ENDPOINT.len() + 1..].to_owned();
        let metadata = [
            ("odata.metadata", format!("{ENDPOINT}/$metadata#idempotency/@Element")),
            ("odata.type", "account.idempotency".to_owned()),
            ("odata.id", id),
            ("odata.editLink", edit_link),
            ("Timestamp@odata.type", "Edm.DateTime".to_owned()),
            ("Timestamp", "2026-11-21T10:20:00.1234567Z".to_owned()),
        ]
        .map(|(name, value)| (name, Value::String(value)));
        let is_selected = |name: &str| {
            let property = name.split('@').next().unwrap_or_default();
            self.select.is_empty() || name.starts_with("odata.") || self.select.iter().any(|other| other == property)
        };
        let added = metadata.iter().map(|(name, value)| (*name, value));
        let stored = self.row.iter().map(|(name, value)| (name.as_str(), value));
        serializer.collect_map(added.chain(stored).filter(|(name, _)| is_selected(name)))
    }
}

fn etag(row: &Row) -> &str {
    row.get("odata.etag").and_then(Value::as_str).unwrap_or_default()
}

fn location(row: &Row) -> String {
    let (partition_key, row_key): Key = key_of(row).unwrap_or_default();
    format!("{ENDPOINT}/idempotency(PartitionKey='{partition_key}',RowKey='{row_key}')")
}

fn error(code: &str, message: &str) -> String {
    let message =
        format!("{message}\nRequestId:6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90\nTime:2026-11-21T10:20:00.1234567Z");
    json!({ "odata.error": { "code": code, "message": { "lang": "en-US", "value": message } } }).to_string()
}
