//! The record of a committed operation, as it is stored and as it is read back.
//!
//! One entity, inserted once and never changed: [types and limits](https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model).
//! The schema version lets a later program read what an earlier one wrote; a version this program does not know stops the
//! invocation instead of guessing.

use super::{Fingerprint, Key};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};

/// Version of the record's properties.
pub const SCHEMA: i32 = 1;

/// The longest text one property can hold, in UTF-16 units: 64 KiB.
pub const MAX_TEXT: usize = 32_768;

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

impl<'a> Record<'a> {
    /// The record of the operation `key`, which `commit_id` tries to commit.
    #[must_use]
    pub fn new(
        key: &Key,
        (fingerprint, receipt): (&'a Fingerprint, &'a str),
        commit_id: &'a str,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            partition_key: key.partition_key(),
            row_key: key.record_row_key(),
            schema: SCHEMA,
            fingerprint: fingerprint.as_str(),
            receipt,
            commit_id,
            committed_at_type: "Edm.DateTime",
            committed_at: edm_date_time(lifetime.committed_at),
            expires_at_type: "Edm.DateTime",
            expires_at: edm_date_time(lifetime.expires_at),
        }
    }
}

/// A record as the table holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredRecord {
    /// See [`SCHEMA`].
    pub schema: i32,
    /// What the committed message said.
    pub fingerprint: String,
    /// What it was answered.
    pub receipt: String,
    /// Which attempt committed it.
    pub commit_id: String,
}

/// A time as Table Storage writes it: [ISO 8601 in UTC](https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values).
#[must_use]
pub fn edm_date_time(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");
    time.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;
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
        let record = Record::new(&key, (&fingerprint, r#"{"id":"order-123"}"#), "c0ffee", lifetime);
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            serde_json::json!({
                "PartitionKey": key.partition_key(),
                "RowKey": key.record_row_key(),
                "schema": 1,
                "fingerprint": fingerprint.as_str(),
                "receipt": r#"{"id":"order-123"}"#,
                "commit_id": "c0ffee",
                "committed_at@odata.type": "Edm.DateTime",
                "committed_at": "2026-11-21T08:20:00.5000000Z",
                "expires_at@odata.type": "Edm.DateTime",
                "expires_at": "2026-12-21T08:20:00.5000000Z",
            })
        );
    }

    #[test]
    fn a_stored_record_reads_back_whatever_was_added_to_it() {
        let stored: StoredRecord = serde_json::from_str(
            r#"{"odata.etag":"W/\"1\"","schema":1,"fingerprint":"f","receipt":"r","commit_id":"c","note":"later"}"#,
        )
        .unwrap();
        assert_eq!((stored.schema, stored.fingerprint.as_str()), (1, "f"));
    }
}
