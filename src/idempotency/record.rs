//! What is stored of a committed operation: its record, and its events until they are published.
//!
//! Entities that are inserted once and never changed: [types and
//! limits](https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model). The schema
//! version lets a later program read what an earlier one wrote; a version this program does not know stops the
//! invocation instead of guessing.

use super::{Fingerprint, Key};
use crate::storage::{
    batch::MAX_OPERATIONS,
    queue::{self, MAX_MESSAGE},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};

/// Version of the record's properties.
pub const SCHEMA: i32 = 1;

/// The longest text one property can hold, in UTF-16 units: 64 KiB.
pub const MAX_TEXT: usize = 32_768;

/// The most events of one operation: a transaction has at most 100 entities, and one is the record.
pub const MAX_EVENTS: usize = MAX_OPERATIONS - 1;

/// The most all texts of one operation can have, in bytes. A transaction has at most 4 MiB; in it every text is escaped
/// once more, which doubles it at worst, and every entity has half a kilobyte around it.
pub const MAX_TEXTS: usize = 2 * 1024 * 1024 - 64 * 1024;

/// What is committed does not fit into the table or the queue.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TooLarge {
    /// The receipt.
    #[error("the receipt has {0} UTF-16 units, more than the {MAX_TEXT} of a table property")]
    Receipt(usize),
    /// One event, in the table.
    #[error("event {0} has {1} UTF-16 units, more than the {MAX_TEXT} of a table property")]
    Event(usize, usize),
    /// One event, on the queue.
    #[error(
        "event {0} has {1} bytes, more than the {MAX_MESSAGE} of a queue message, or more than that when escaped in XML"
    )]
    Message(usize, usize),
    /// The number of events.
    #[error("there are {0} events, more than the {MAX_EVENTS} of an entity group transaction beside the record")]
    Events(usize),
    /// All together.
    #[error(
        "receipt and events have {0} bytes, more than the {MAX_TEXTS} that surely fit into an entity group transaction"
    )]
    Transaction(usize),
}

/// Checks that a `receipt` and the bodies of its `events` can be committed and published.
///
/// # Errors
///
/// The limit that is broken.
pub fn check_size(receipt: &str, events: &[String]) -> Result<(), TooLarge> {
    let units = |text: &str| text.encode_utf16().count();
    if units(receipt) > MAX_TEXT {
        return Err(TooLarge::Receipt(units(receipt)));
    }
    if events.len() > MAX_EVENTS {
        return Err(TooLarge::Events(events.len()));
    }
    for (index, event) in events.iter().enumerate() {
        if units(event) > MAX_TEXT {
            return Err(TooLarge::Event(index, units(event)));
        }
        if !queue::fits(event) {
            return Err(TooLarge::Message(index, event.len()));
        }
    }
    let bytes = receipt.len() + events.iter().map(String::len).sum::<usize>();
    if bytes > MAX_TEXTS { Err(TooLarge::Transaction(bytes)) } else { Ok(()) }
}

/// An entity of the transaction that commits an operation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Row<'a> {
    /// The first one: when it exists, nothing is inserted.
    Record(Record<'a>),
    /// One for each event.
    Outbox(OutboxRow<'a>),
}

/// An event to publish.
#[derive(Debug, Serialize)]
pub struct OutboxRow<'a> {
    #[serde(rename = "PartitionKey")]
    partition_key: String,
    #[serde(rename = "RowKey")]
    row_key: String,
    schema: i32,
    /// For the eyes of an operator: the body has it too.
    event_id: String,
    body: &'a str,
    #[serde(rename = "created_at@odata.type")]
    created_at_type: &'static str,
    created_at: String,
}

impl<'a> OutboxRow<'a> {
    /// The event `index` of the operation `key`.
    #[must_use]
    pub fn new(key: &Key, (index, body): (usize, &'a str), created_at: OffsetDateTime) -> Self {
        Self {
            partition_key: key.partition_key(),
            row_key: key.outbox_row_key(index),
            schema: SCHEMA,
            event_id: key.event_id(index),
            body,
            created_at_type: "Edm.DateTime",
            created_at: edm_date_time(created_at),
        }
    }
}

/// A record to insert.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    #[serde(rename = "PartitionKey")]
    partition_key: String,
    #[serde(rename = "RowKey")]
    row_key: String,
    schema: i32,
    fingerprint: &'a str,
    receipt: &'a str,
    commit_id: &'a str,
    events: usize,
    #[serde(rename = "committed_at@odata.type")]
    committed_at_type: &'static str,
    committed_at: String,
    #[serde(rename = "expires_at@odata.type")]
    expires_at_type: &'static str,
    expires_at: String,
}

/// The times of a record.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// When the operation was committed.
    pub committed_at: OffsetDateTime,
    /// From when on the record may be purged.
    pub expires_at: OffsetDateTime,
}

/// What an operation leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// What its message says.
    pub fingerprint: &'a Fingerprint,
    /// What it is answered.
    pub receipt: &'a str,
    /// How many events it has.
    pub events: usize,
}

impl<'a> Record<'a> {
    /// The record of the operation `key`, which `commit_id` tries to commit.
    #[must_use]
    pub fn new(key: &Key, content: Content<'a>, commit_id: &'a str, lifetime: Lifetime) -> Self {
        Self {
            partition_key: key.partition_key(),
            row_key: key.record_row_key(),
            schema: SCHEMA,
            fingerprint: content.fingerprint.as_str(),
            receipt: content.receipt,
            commit_id,
            events: content.events,
            committed_at_type: "Edm.DateTime",
            committed_at: edm_date_time(lifetime.committed_at),
            expires_at_type: "Edm.DateTime",
            expires_at: edm_date_time(lifetime.expires_at),
        }
    }
}

/// A record as the table holds it. Everything but the version may be missing, because of a later version only the
/// version is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredRecord {
    /// See [`SCHEMA`].
    pub schema: i32,
    /// What the committed message said.
    #[serde(default)]
    pub fingerprint: String,
    /// What it was answered.
    #[serde(default)]
    pub receipt: String,
    /// Which attempt committed it.
    #[serde(default)]
    pub commit_id: String,
    /// How many events it has.
    #[serde(default)]
    pub events: usize,
    /// When it was committed.
    #[serde(default = "long_ago", with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
}

const fn long_ago() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

/// A time as Table Storage writes it: [ISO 8601 in
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

    #[test]
    fn a_record_is_stored_with_its_version_and_its_typed_times() {
        let object = Object::parse(r#"{"id":"order-123","amount":42}"#).unwrap();
        let fingerprint = Fingerprint::new(&object, "id");
        let key = Key::new("orders", "order-123");
        let lifetime = Lifetime {
            committed_at: datetime!(2026-11-21 10:20:00.5 +02:00),
            expires_at: datetime!(2026-12-21 08:20:00.5 UTC),
        };
        let content = Content { fingerprint: &fingerprint, receipt: r#"{"id":"order-123"}"#, events: 1 };
        let record = Row::Record(Record::new(&key, content, "c0ffee", lifetime));
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            serde_json::json!({
                "PartitionKey": key.partition_key(),
                "RowKey": key.record_row_key(),
                "schema": 1,
                "fingerprint": fingerprint.as_str(),
                "receipt": r#"{"id":"order-123"}"#,
                "commit_id": "c0ffee",
                "events": 1,
                "committed_at@odata.type": "Edm.DateTime",
                "committed_at": "2026-11-21T08:20:00.5000000Z",
                "expires_at@odata.type": "Edm.DateTime",
                "expires_at": "2026-12-21T08:20:00.5000000Z",
            })
        );
    }

    #[test]
    fn an_event_is_stored_under_a_key_and_an_id_of_its_own() {
        let key = Key::new("orders", "order-123");
        let row = Row::Outbox(OutboxRow::new(&key, (3, "{}"), datetime!(2026-11-21 08:20 UTC)));
        let hash = key.record_row_key().replace("record~", "");
        assert_eq!(
            serde_json::to_value(&row).unwrap(),
            serde_json::json!({
                "PartitionKey": key.partition_key(),
                "RowKey": format!("outbox~{hash}~3"),
                "schema": 1,
                "event_id": format!("{hash}-3"),
                "body": "{}",
                "created_at@odata.type": "Edm.DateTime",
                "created_at": "2026-11-21T08:20:00.0000000Z",
            })
        );
        let (start, end) = key.outbox_range();
        assert!((start.as_str()..end.as_str()).contains(&format!("outbox~{hash}~99").as_str()));
        assert!(!(start.as_str()..end.as_str()).contains(&format!("outbox~{hash}0~0").as_str()));
    }

    #[test]
    fn a_stored_record_reads_back_whatever_was_added_to_it() {
        let stored: StoredRecord = serde_json::from_str(
            r#"{"odata.etag":"W/\"1\"","schema":1,"fingerprint":"f","receipt":"r","commit_id":"c","note":"later",
                "committed_at@odata.type":"Edm.DateTime","committed_at":"2026-11-21T08:20:00.1234567Z"}"#,
        )
        .unwrap();
        assert_eq!((stored.schema, stored.fingerprint.as_str(), stored.events), (1, "f", 0));
        assert_eq!(stored.committed_at, datetime!(2026-11-21 08:20:00.1234567 UTC));
    }

    #[test]
    fn everything_is_measured_one_over_its_limit() {
        assert_eq!((MAX_TEXT, MAX_EVENTS, MAX_TEXTS), (32_768, 99, 2_031_616));
        let text = |length| "x".repeat(length);
        assert_eq!(check_size(&text(MAX_TEXT), &[text(MAX_TEXT)]), Ok(()));
        assert_eq!(check_size(&text(MAX_TEXT + 1), &[]), Err(TooLarge::Receipt(MAX_TEXT + 1)));
        assert_eq!(check_size("", &[text(1), text(MAX_TEXT + 1)]), Err(TooLarge::Event(1, MAX_TEXT + 1)));
        assert_eq!(check_size("", &["€".repeat(22_000)]), Err(TooLarge::Message(0, 66_000)));
        assert_eq!(check_size("", &["&".repeat(30_000)]), Err(TooLarge::Message(0, 30_000)));
        assert_eq!(check_size("", &vec![text(1); MAX_EVENTS]), Ok(()));
        assert_eq!(check_size("", &vec![text(1); MAX_EVENTS + 1]), Err(TooLarge::Events(MAX_EVENTS + 1)));
        let all = vec![text(MAX_TEXT); MAX_TEXTS / MAX_TEXT];
        assert_eq!(check_size("", &all), Ok(()));
        assert_eq!(check_size("x", &all), Err(TooLarge::Transaction(MAX_TEXTS + 1)));
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

    #[test]
    fn of_a_later_version_the_version_is_read_whatever_else_changed() {
        let stored: StoredRecord = serde_json::from_str(r#"{"schema":2,"receipt_blob":"https://…"}"#).unwrap();
        assert_eq!(stored.schema, 2);
    }
}
