//! The [table service](https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api), one request on one
//! entity or one query each.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use reqwest::Url;
use serde_json::{Value, json};

use super::{
    respond,
    rows::{Key, Operation, Refusal, Row, Rows},
};

const ENDPOINT: &str = "https://account.table.core.windows.net";
const JSON: (&str, &str) = ("content-type", "application/json;odata=fullmetadata;streaming=true;charset=utf-8");
const JSON_ERROR: (&str, &str) =
    ("content-type", "application/json;odata=minimalmetadata;streaming=true;charset=utf-8");
/// Greater than every key in use.
const LAST: &str = "\u{10ffff}";

pub(super) fn create(rows: &Rows) -> Result<Response<Full<Bytes>>> {
    if !rows.create() {
        return refused(&Refusal(409, "TableAlreadyExists"));
    }
    let table = json!({
        "odata.metadata": format!("{ENDPOINT}/$metadata#Tables/@Element"),
        "odata.type": "account.Tables",
        "odata.id": format!("{ENDPOINT}/Tables('idempotency')"),
        "odata.editLink": "Tables('idempotency')",
        "TableName": "idempotency",
    });
    respond(201, &[JSON, ("preference-applied", "return-content")], table.to_string())
}

pub(super) fn get(rows: &Rows, key: &Key) -> Result<Response<Full<Bytes>>> {
    match rows.get(key) {
        Ok(row) => respond(200, &[JSON, ("etag", &row.etag())], full_entity(key, &row)),
        Err(refusal) => refused(&refusal),
    }
}

pub(super) fn delete(rows: &Rows, key: &Key, if_match: &str) -> Result<Response<Full<Bytes>>> {
    match rows.apply(&[Operation::Delete(key.clone(), if_match)])? {
        Ok(_) => respond(204, &[], String::new()),
        Err((_, refusal)) => refused(&refusal),
    }
}

pub(super) fn insert(rows: &Rows, body: &[u8]) -> Result<Response<Full<Bytes>>> {
    match rows.apply(&[Operation::Insert(std::str::from_utf8(body)?)])? {
        Ok(rows) => {
            let etag = rows.first().map(|(_, row)| row.etag()).unwrap_or_default();
            respond(204, &[("preference-applied", "return-no-content"), ("etag", &etag)], String::new())
        }
        Err((_, refusal)) => refused(&refusal),
    }
}

/// One page, never continued: what the handler asks for is empty when all went well.
pub(super) fn query(rows: &Rows, query: &str) -> Result<Response<Full<Bytes>>> {
    let url = Url::parse(&format!("{ENDPOINT}/?{query}"))?;
    let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let Some(filter) = parameter("$filter").as_deref().and_then(Filter::parse) else {
        return refused(&Refusal(501, "NotImplemented"));
    };
    let top = parameter("$top").and_then(|top| top.parse().ok()).unwrap_or(1000);
    match rows.range(&filter.from, &filter.to) {
        Ok(rows) => {
            let matching = rows.iter().filter(|(_, row)| filter.is_match(&row.entity)).take(top);
            let entities: Vec<_> = matching.map(|(key, row)| full_entity(key, row)).collect();
            let metadata = format!("{ENDPOINT}/$metadata#idempotency");
            respond(200, &[JSON], format!(r#"{{"odata.metadata":"{metadata}","value":[{}]}}"#, entities.join(",")))
        }
        Err(refusal) => refused(&refusal),
    }
}

/// A range of keys in one partition, and times before which a property lies.
struct Filter {
    from: Key,
    to: Key,
    before: Vec<(String, String)>,
}

impl Filter {
    /// Reads `PartitionKey eq '…' and RowKey ge '…' and RowKey lt '…' and property lt datetime'…'`.
    fn parse(text: &str) -> Option<Self> {
        let (mut from, mut to) = (Key::default(), (String::new(), LAST.to_owned()));
        let mut before = Vec::new();
        for condition in text.split(" and ") {
            let mut words = condition.splitn(3, ' ');
            let (name, operator, value) = (words.next()?, words.next()?, words.next()?);
            let value = value.trim_start_matches("datetime").trim_matches('\'').to_owned();
            match (name, operator) {
                ("PartitionKey", "eq") => (from.0, to.0) = (value.clone(), value),
                ("RowKey", "ge") => from.1 = value,
                ("RowKey", "lt") => to.1 = value,
                (property, "lt") => before.push((property.to_owned(), value)),
                _ => return None,
            }
        }
        Some(Self { from, to, before })
    }

    /// All times are written alike, so they compare as texts.
    fn is_match(&self, entity: &str) -> bool {
        let entity: Value = serde_json::from_str(entity).unwrap_or_default();
        self.before.iter().all(|(name, time)| entity[name].as_str().is_some_and(|value| value < time.as_str()))
    }
}

/// Where an entity is.
pub(super) fn location((partition, row): &Key) -> String {
    format!("{ENDPOINT}/idempotency(PartitionKey='{partition}',RowKey='{row}')")
}

/// An entity with all that the service adds to it.
pub(super) fn full_entity(key: &Key, row: &Row) -> String {
    let (id, etag) = (location(key), row.etag().replace('"', "\\\""));
    let edit_link = &id[ENDPOINT.len() + 1..];
    let properties = &row.entity[1..];
    format!(
        r#"{{"odata.metadata":"{ENDPOINT}/$metadata#idempotency/@Element","odata.type":"account.idempotency","odata.id":"{id}","odata.etag":"{etag}","odata.editLink":"{edit_link}","Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026-11-21T10:20:00.1234567Z",{properties}"#
    )
}

/// An error as the table service writes it: in the body only.
pub(super) fn error(code: &str, message: &str) -> String {
    let message =
        format!("{message}\nRequestId:6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90\nTime:2026-11-21T10:20:00.1234567Z");
    json!({ "odata.error": { "code": code, "message": { "lang": "en-US", "value": message } } }).to_string()
}

fn refused(Refusal(status, code): &Refusal) -> Result<Response<Full<Bytes>>> {
    respond(*status, &[JSON_ERROR], error(code, &format!("{code}.")))
}
