//! The responses of the two services, in the forms that the handler asks for.

use std::fmt::Write;

use serde::{Serialize, Serializer};
use serde_json::json;

use super::entity::{Entity, Refusal, Row, text};

const ENDPOINT: &str = "https://account.table.core.windows.net";
const JSON: &str = "application/json;odata=fullmetadata;streaming=true;charset=utf-8";
const JSON_ERROR: &str = "application/json;odata=minimalmetadata;streaming=true;charset=utf-8";
const XML: &str = "application/xml";
const TIMESTAMP: &str = r#""Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026-11-21T10:20:00.1234567Z","#;
const BATCH: &str = "batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";
const CHANGE_SET: &str = "changesetresponse_2f6f4c11-6e0a-4a6e-9d6b-0f1f7a0a9c22";

/// The headers of the response to every operation of a transaction.
const OPERATION_HEADERS: &str = "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n";

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
pub(super) fn entity(entity: &Entity) -> Response {
    let mut response = Response::new(200, JSON, entity_json(entity, &[]));
    response.headers.push(("etag", entity.etag.clone()));
    response
}

/// Makes the response to an insert outside a transaction, of which the client wants no content.
pub(super) fn inserted(etag: String) -> Response {
    let headers = vec![("etag", etag), ("preference-applied", "return-no-content".to_owned())];
    Response { headers, ..Response::empty(204) }
}

/// Makes one page of a query, with the key at which the next one begins: the service may name a partition without a row.
pub(super) fn page(entities: &[&Entity], select: &[String], next: Option<(String, Option<String>)>) -> Response {
    let entities: Vec<_> = entities.iter().map(|entity| entity_json(entity, select)).collect();
    let body = format!(r#"{{"odata.metadata":"{ENDPOINT}/$metadata#idempotency","value":[{}]}}"#, entities.join(","));
    let mut response = Response::new(200, JSON, body);
    if let Some((partition_key, row_key)) = next {
        response.headers.push(("x-ms-continuation-nextpartitionkey", partition_key));
        response.headers.extend(row_key.map(|row_key| ("x-ms-continuation-nextrowkey", row_key)));
    }
    response
}

/// Makes the response to a transaction that was applied, of what each operation stored. The service sends entities back
/// that it only inserted.
pub(super) fn transaction<'a>(stored: impl Iterator<Item = Option<(&'a Entity, bool)>>) -> Response {
    let answer = |stored: Option<(&Entity, bool)>| match stored {
        Some((entity, true)) => format!(
            "HTTP/1.1 201 Created\r\n{OPERATION_HEADERS}Content-Type: {JSON}\r\nDataServiceVersion: 3.0;\r\n\
             Location: {ENDPOINT}/{}\r\nETag: {}\r\n\r\n{}",
            edit_link(&entity.row),
            entity.etag,
            entity_json(entity, &[])
        ),
        Some((entity, false)) => {
            format!("HTTP/1.1 204 No Content\r\n{OPERATION_HEADERS}ETag: {}\r\n\r\n", entity.etag)
        }
        None => format!("HTTP/1.1 204 No Content\r\n{OPERATION_HEADERS}DataServiceVersion: 1.0;\r\n\r\n"),
    };
    multipart(&stored.map(answer).collect::<Vec<_>>())
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

/// Makes the response with the messages of a queue that has none.
pub(super) fn no_messages() -> Response {
    Response::new(200, XML, "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList />".to_owned())
}

/// Makes the response with the length of a queue that has no messages.
pub(super) fn empty_queue() -> Response {
    let headers = vec![("x-ms-approximate-messages-count", "0".to_owned())];
    Response { status: 200, headers, body: String::new() }
}

/// Returns the text of an entity: the selected properties, or all, after what the service adds to them.
fn entity_json(Entity { row, etag }: &Entity, select: &[String]) -> String {
    let (edit_link, etag) = (edit_link(row), etag.replace('"', "\\\""));
    let added = if select.is_empty() { TIMESTAMP } else { "" };
    let properties = serde_json::to_string(&Selected(row, select)).unwrap_or_default();
    format!(
        r#"{{"odata.metadata":"{ENDPOINT}/$metadata#idempotency/@Element","odata.type":"account.idempotency","odata.id":"{ENDPOINT}/{edit_link}","odata.etag":"{etag}","odata.editLink":"{edit_link}",{added}{}"#,
        &properties[1..]
    )
}

/// Some properties of an entity; all if none is selected.
struct Selected<'a>(&'a Row, &'a [String]);

impl Serialize for Selected<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row, select) = self;
        let is_selected = |name: &str| {
            let property = name.split('@').next().unwrap_or_default();
            select.is_empty() || select.iter().any(|other| other == property)
        };
        serializer.collect_map(row.iter().filter(|(name, _)| is_selected(name)))
    }
}

fn edit_link(row: &Row) -> String {
    let [partition_key, row_key] = ["PartitionKey", "RowKey"].map(|name| text(row, name));
    format!("idempotency(PartitionKey='{partition_key}',RowKey='{row_key}')")
}

fn error(code: &str, message: &str) -> String {
    let message =
        format!("{message}\nRequestId:6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90\nTime:2026-11-21T10:20:00.1234567Z");
    json!({ "odata.error": { "code": code, "message": { "lang": "en-US", "value": message } } }).to_string()
}
