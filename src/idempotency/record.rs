//! The rows of a committed operation: its record, and its events until they are published.
//!
//! Entities that are inserted once and never changed: [types and
//! limits](https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model). The schema
//! version lets a later program read what an earlier one wrote; a version this program does not know stops the
//! invocation instead of guessing.

use super::{Fingerprint, Key};
use crate::storage::{
    RowTag,
    batch::MAX_OPERATIONS,
    queue::{self, MAX_MESSAGE},
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;
use time::{Duration, OffsetDateTime, macros::format_description};

/// Version of the record's properties.
pub const SCHEMA: i32 = 1;

/// The longest text one property can hold, in UTF-16 units: 64 KiB.
pub const MAX_TEXT: usize = 32_768;

/// The most events of one operation: a transaction has at most 100 entities, and two are the record and its index row.
pub const MAX_EVENTS: usize = MAX_OPERATIONS - 2;

/// The most all texts of one operation can have, in bytes. A transaction has at most 4 MiB; in it every text is escaped
/// once more, which doubles it at worst, and every entity has less than a kilobyte around it.
pub const MAX_TEXTS: usize = 2 * 1024 * 1024 - 64 * 1024;

/// An operation that does not fit into the table or the queue.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TooLarge(String);

/// Checks that a `receipt` and the bodies of its `events`, encoded as they are published, can be committed and published,
/// each event with so much `room` more.
///
/// # Errors
///
/// The limit that is broken.
pub fn check_size(receipt: &str, events: &[String], room: usize) -> Result<(), TooLarge> {
    check_text("the receipt", receipt, 0)?;
    if events.len() > MAX_EVENTS {
        let limit =
            format!("more than the {MAX_EVENTS} of an entity group transaction beside the record and its index row");
        return Err(TooLarge(format!("there are {} events, {limit}", events.len())));
    }
    for (index, event) in events.iter().enumerate() {
        check_text(&format!("event {index} as published"), event, room)?;
        if !queue::fits(event, room) {
            let limit =
                format!("more than the {MAX_MESSAGE} of a queue message, or more than that when escaped in XML");
            return Err(TooLarge(format!("event {index} as published has {} bytes, {limit}", event.len() + room)));
        }
    }
    let bytes = receipt.len() + events.iter().map(|event| event.len() + room).sum::<usize>();
    if bytes > MAX_TEXTS {
        let limit = format!("more than the {MAX_TEXTS} that surely fit into an entity group transaction");
        return Err(TooLarge(format!("receipt and events have {bytes} bytes, {limit}")));
    }
    Ok(())
}

fn check_text(name: &str, text: &str, room: usize) -> Result<(), TooLarge> {
    let units = text.encode_utf16().count() + room;
    if units > MAX_TEXT {
        return Err(TooLarge(format!("{name} has {units} UTF-16 units, more than the {MAX_TEXT} of a table property")));
    }
    Ok(())
}

/// An operation to commit.
#[derive(Debug)]
pub struct Operation {
    /// Identity of the operation.
    pub key: Key,
    /// Identity of the attempt that commits it.
    pub commit_id: String,
    /// Invocation in which it does, by the host's id.
    pub invocation: String,
    /// [Trace](crate::trace_context) to which it belongs.
    pub traceparent: Option<String>,
    /// Content of its message.
    pub fingerprint: Fingerprint,
    /// Answer to this delivery and to all later ones, once it is committed.
    pub receipt: String,
    /// Bodies of its events as they will lie on the queue, to publish after the commit.
    pub events: Vec<String>,
}

/// An entity of the transaction that commits an operation.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    #[serde(rename = "PartitionKey")]
    partition_key: String,
    #[serde(rename = "RowKey")]
    row_key: String,
    schema: i32,
    #[serde(flatten)]
    properties: Properties<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Properties<'a> {
    /// Properties of the record.
    Record {
        fingerprint: &'a str,
        receipt: &'a str,
        commit_id: &'a str,
        invocation: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<&'a str>,
        events: usize,
        #[serde(rename = "committed_at@odata.type")]
        committed_at_type: &'static str,
        committed_at: String,
        #[serde(rename = "expires_at@odata.type")]
        expires_at_type: &'static str,
        expires_at: String,
    },
    /// Properties of the index row: its key says it all.
    Expiry {},
    /// Properties of an event to publish.
    Event {
        /// For the eyes of an operator: the body has it too.
        event_id: String,
        body: &'a str,
        #[serde(rename = "created_at@odata.type")]
        created_at_type: &'static str,
        created_at: String,
    },
}

const DATE_TIME: &str = "Edm.DateTime";

/// Makes the entities of the transaction that commits an operation at `now`. The record comes first, so that a refusal is
/// about it; then its index row, and the events.
#[must_use]
pub fn rows<'a>(operation: &'a Operation, now: OffsetDateTime, retention: Duration) -> Vec<Row<'a>> {
    let Operation { key, commit_id, invocation, traceparent, fingerprint, receipt, events } = operation;
    let row = |row_key, properties| Row { partition_key: key.partition_key(), row_key, schema: SCHEMA, properties };
    let expires_at = now.saturating_add(retention);
    let record = Properties::Record {
        fingerprint: fingerprint.as_str(),
        receipt,
        commit_id,
        invocation,
        traceparent: traceparent.as_deref(),
        events: events.len(),
        committed_at_type: DATE_TIME,
        committed_at: edm_date_time(now),
        expires_at_type: DATE_TIME,
        expires_at: edm_date_time(expires_at),
    };
    let event = |(index, body): (usize, &'a String)| {
        let (event_id, created_at) = (key.event_id(commit_id, index), edm_date_time(now));
        let event = Properties::Event { event_id, body, created_at_type: DATE_TIME, created_at };
        row(key.outbox_row_key(commit_id, index), event)
    };
    let first =
        [row(key.record_row_key(), record), row(key.expiry_row_key(expires_at, commit_id), Properties::Expiry {})];
    first.into_iter().chain(events.iter().enumerate().map(event)).collect()
}

/// A record as the table holds it, in the version of this program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredRecord {
    /// Content of the committed message.
    pub fingerprint: String,
    /// Answer to it.
    pub receipt: String,
    /// Id of the attempt that committed it.
    pub commit_id: String,
    /// Invocation in which it did.
    pub invocation: String,
    /// Number of its events.
    pub events: usize,
    /// Time of the commit.
    #[serde(with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
}

impl StoredRecord {
    /// Reads the properties of a row.
    ///
    /// # Errors
    ///
    /// The version of a row that is of another version, or damaged.
    pub fn read(row: Value) -> Result<Self, i32> {
        let schema = row.get("schema").and_then(Value::as_i64).and_then(|schema| i32::try_from(schema).ok());
        let schema = schema.unwrap_or_default();
        if schema == SCHEMA { serde_json::from_value(row).map_err(|_| schema) } else { Err(schema) }
    }
}

/// Properties of a record that a purge has to know. A row of any version, and a damaged one, has some of them.
#[derive(Debug, Deserialize)]
pub struct RecordTag {
    /// Version of the entity, for deleting it as it was seen.
    #[serde(rename = "odata.etag", default, deserialize_with = "or_default")]
    pub etag: Option<String>,
    /// See [`SCHEMA`].
    #[serde(default, deserialize_with = "or_default")]
    pub schema: i32,
    /// Id of the attempt that committed it.
    #[serde(default, deserialize_with = "or_default")]
    pub commit_id: Option<String>,
}

/// An index row as the table holds it.
#[derive(Debug, Deserialize)]
pub struct IndexRow {
    /// Row, as it was seen there.
    #[serde(flatten)]
    pub tag: RowTag,
    /// See [`SCHEMA`].
    #[serde(default, deserialize_with = "or_default")]
    pub schema: i32,
}

/// Reads a property, or nothing where it is not of this type: one row that cannot be read must not keep the others of its
/// page. Asked for a property that a row does not have, the service answers with null, and the emulator leaves it out.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// Writes a time as Table Storage does: [ISO 8601 in
/// UTC](https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values).
#[must_use]
pub fn edm_date_time(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");
    time.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;
    use proptest::prelude::*;
    use time::macros::datetime;

    /// An operation with so many events.
    fn operation(events: usize) -> Operation {
        let object = Object::parse(r#"{"id":"order-123","amount":42}"#).unwrap();
        Operation {
            key: Key::new("orders", "order-123"),
            commit_id: "c0ffee".to_owned(),
            invocation: "5b0c1f4e".to_owned(),
            traceparent: None,
            fingerprint: Fingerprint::new(&object, &["id"]),
            receipt: r#"{"id":"order-123"}"#.to_owned(),
            events: vec!["{}".to_owned(); events],
        }
    }

    #[test]
    fn a_record_is_stored_with_its_version_and_its_typed_times() {
        let operation = Operation { traceparent: Some("00-a-b-01".to_owned()), ..operation(1) };
        let rows = rows(&operation, datetime!(2026-11-21 10:20:00.5 +02:00), Duration::days(30));
        assert_eq!(rows.len(), 3);
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::json!({
                "PartitionKey": operation.key.partition_key(),
                "RowKey": operation.key.record_row_key(),
                "schema": 1,
                "fingerprint": operation.fingerprint.as_str(),
                "receipt": r#"{"id":"order-123"}"#,
                "commit_id": "c0ffee",
                "invocation": "5b0c1f4e",
                "traceparent": "00-a-b-01",
                "events": 1,
                "committed_at@odata.type": "Edm.DateTime",
                "committed_at": "2026-11-21T08:20:00.5000000Z",
                "expires_at@odata.type": "Edm.DateTime",
                "expires_at": "2026-12-21T08:20:00.5000000Z",
            })
        );
    }

    #[test]
    fn the_index_row_of_a_record_says_with_its_key_when_it_expires() {
        let operation = operation(0);
        let rows = rows(&operation, datetime!(2026-11-21 10:20:00 UTC), Duration::days(30));
        let key = &operation.key;
        assert_eq!(
            serde_json::to_value(&rows[1]).unwrap(),
            serde_json::json!({
                "PartitionKey": key.partition_key(),
                "RowKey": key.expiry_row_key(datetime!(2026-12-21 10:20:00 UTC), "c0ffee"),
                "schema": 1,
            })
        );
    }

    #[test]
    fn an_event_is_stored_under_a_key_and_an_id_of_its_own() {
        let operation = operation(4);
        let rows = rows(&operation, datetime!(2026-11-21 08:20 UTC), Duration::days(30));
        let key = &operation.key;
        let hash = key.record_row_key().replace("record~", "");
        assert_eq!(
            serde_json::to_value(&rows[5]).unwrap(),
            serde_json::json!({
                "PartitionKey": key.partition_key(),
                "RowKey": format!("outbox~{hash}~c0ffee~3"),
                "schema": 1,
                "event_id": format!("{hash}-c0ffee-3"),
                "body": "{}",
                "created_at@odata.type": "Edm.DateTime",
                "created_at": "2026-11-21T08:20:00.0000000Z",
            })
        );
        let (start, end) = key.outbox_range();
        assert!((start.as_str()..end.as_str()).contains(&format!("outbox~{hash}~c0ffee~97").as_str()));
        assert!(!(start.as_str()..end.as_str()).contains(&format!("outbox~{hash}0~0").as_str()));
    }

    #[test]
    fn a_stored_record_reads_back_whatever_was_added_to_it_and_one_that_cannot_be_read_says_its_version() {
        let operation = operation(1);
        let rows = rows(&operation, datetime!(2026-11-21 08:20:00.1234567 UTC), Duration::days(30));
        let with = |name: &str, value: Value| {
            let mut row = serde_json::to_value(&rows[0]).unwrap();
            row[name] = value;
            StoredRecord::read(row)
        };
        let stored = with("note", "later".into()).unwrap();
        assert_eq!((stored.receipt.as_str(), stored.events), (r#"{"id":"order-123"}"#, 1));
        assert_eq!(stored.committed_at, datetime!(2026-11-21 08:20:00.1234567 UTC));
        for (name, value, version) in [
            ("schema", 2.into(), 2),
            ("schema", "2".into(), 0),
            ("schema", Value::Null, 0),
            ("schema", 4_294_967_297_i64.into(), 0),
            ("events", "1".into(), 1),
            ("fingerprint", Value::Null, 1),
        ] {
            assert_eq!(with(name, value.clone()), Err(version), "{name} {value}");
        }
        assert_eq!(StoredRecord::read(serde_json::json!({ "schema": 2, "receipt_blob": "https://…" })), Err(2));
        assert_eq!(StoredRecord::read(serde_json::json!({ "receipt": "no version" })), Err(0));
    }

    #[test]
    fn everything_is_measured_one_over_its_limit() {
        assert_eq!((MAX_TEXT, MAX_EVENTS, MAX_TEXTS), (32_768, 98, 2_031_616));
        let text = |length| "x".repeat(length);
        #[track_caller]
        fn check(receipt: &str, events: &[String], limit: &str) {
            let error = check_size(receipt, events, 0).unwrap_err().to_string();
            assert!(error.starts_with(limit), "{error}");
        }
        assert_eq!(check_size(&text(MAX_TEXT), &[text(MAX_TEXT)], 0), Ok(()));
        check(&text(MAX_TEXT + 1), &[], "the receipt has 32769 UTF-16 units, more than the 32768 of a table property");
        check("", &[text(1), text(MAX_TEXT + 1)], "event 1 as published has 32769 UTF-16 units");
        check(
            "",
            &["€".repeat(22_000)],
            "event 0 as published has 66000 bytes, more than the 65536 of a queue message",
        );
        check("", &["&".repeat(30_000)], "event 0 as published has 30000 bytes");
        assert_eq!(check_size("", &vec![text(1); MAX_EVENTS], 0), Ok(()));
        check("", &vec![text(1); MAX_EVENTS + 1], "there are 99 events, more than the 98");
        assert_eq!(check_size("", &[text(MAX_TEXT - 96)], 96), Ok(()));
        assert!(check_size("", &[text(MAX_TEXT - 95)], 96).is_err());
        let all = vec![text(MAX_TEXT); MAX_TEXTS / MAX_TEXT];
        assert_eq!(check_size("", &all, 0), Ok(()));
        check("x", &all, "receipt and events have 2031617 bytes, more than the 2031616");
    }

    proptest! {
        /// The filters of the ledger compare times; other readers parse them.
        #[test]
        fn times_are_written_in_their_own_order_and_read_back(
            one in 0_i64..250_000_000_000, other in 0_i64..250_000_000_000, hundreds in 0_u32..10_000_000
        ) {
            let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap().replace_nanosecond(hundreds * 100);
            let (one, other) = (time(one).unwrap(), time(other).unwrap());
            prop_assert_eq!(edm_date_time(one).cmp(&edm_date_time(other)), one.cmp(&other));
            let read = OffsetDateTime::parse(&edm_date_time(one), &time::format_description::well_known::Rfc3339);
            prop_assert_eq!(read.unwrap(), one);
        }
    }
}
