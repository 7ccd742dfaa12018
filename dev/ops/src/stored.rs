//! The rows of one order, read by their keys: its record, its index row, and its events until they are published.

use futures::TryStreamExt;
use handler::{
    idempotency::{
        Key,
        ledger::OutboxEntry,
        record::{SCHEMA, StoredRecord},
    },
    storage::{Error, RowTag},
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    account::{Account, patiently},
    kept::{Line, time},
    order::DOMAIN,
};

/// Everything that is stored of an order.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The record as it lies there.
    pub(crate) row: Option<Value>,
    /// The index row, by which the record is purged.
    pub(crate) index_row: Option<RowTag>,
    /// The events that are not published.
    pub(crate) events: Vec<OutboxEntry>,
}

impl Stored {
    /// Reads the rows of an order: two by their keys and a range.
    pub(crate) async fn read(account: &Account, key: &Key) -> Result<Self, Error> {
        let partition_key = key.partition_key();
        let get = async |row_key: String| {
            patiently(async || account.table.get::<Value>(&partition_key, &row_key).await).await
        };
        let row = get(key.record_row_key()).await?;
        let mut stored = Self { row, ..Self::default() };
        if let (Some(Ok(record)), Some(expires_at)) = (stored.record(), stored.expires_at()) {
            let index_row = get(key.expiry_row_key(expires_at, &record.commit_id)).await?;
            stored.index_row = index_row.as_ref().and_then(tag);
        }
        let (start, end) = key.outbox_range();
        let range = format!("PartitionKey eq '{partition_key}' and RowKey ge '{start}' and RowKey lt '{end}'");
        stored.events = patiently(async || {
            let pages = account.table.query::<OutboxEntry>(range.clone(), "PartitionKey,RowKey,schema,body,created_at");
            pages.try_concat().await
        })
        .await?;
        Ok(stored)
    }

    /// Reads what is stored of the order `id`; `None` when there is no table.
    pub(crate) async fn of(account: &Account, id: &str) -> Result<Option<Self>, Error> {
        match Self::read(account, &Key::new(DOMAIN.scope, id)).await {
            Err(error) if error.is_table_missing() => Ok(None),
            stored => stored.map(Some),
        }
    }

    /// Returns the record, or its version if that cannot be read.
    pub(crate) fn record(&self) -> Option<Result<StoredRecord, i32>> {
        self.row.clone().map(StoredRecord::read)
    }

    /// Returns all rows as they were seen.
    pub(crate) fn tags(&self) -> Vec<RowTag> {
        let record = self.row.as_ref().and_then(tag);
        let events = self.events.iter().map(|event| event.tag.clone());
        record.into_iter().chain(self.index_row.clone()).chain(events).collect()
    }

    pub(crate) fn expires_at(&self) -> Option<OffsetDateTime> {
        time(self.text("expires_at")?)
    }

    /// Returns a property of the record that is a text.
    pub(crate) fn text(&self, property: &str) -> Option<&str> {
        self.row.as_ref()?.get(property)?.as_str()
    }
}

fn tag(row: &Value) -> Option<RowTag> {
    serde_json::from_value(row.clone()).ok()
}

/// Tells of an event that is not published.
pub(crate) fn event(entry: &OutboxEntry) -> Line {
    let state = if is_readable(entry) { "left to the timer" } else { "cannot be published" };
    let line = Line::new(state, entry.created_at.as_deref().and_then(time), "", false);
    Line { detail: Some(entry.tag.row_key.clone()), ..line }
}

pub(crate) const fn is_readable(entry: &OutboxEntry) -> bool {
    entry.schema == SCHEMA && !entry.body.is_empty()
}
