//! The rows of the table: their keys, and the limits on them.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The properties of an entity, with their type annotations.
pub type Row = Map<String, Value>;

/// A stored entity.
#[derive(Debug)]
pub struct Entity {
    /// Its properties.
    pub row: Arc<Row>,
    /// Its version.
    pub etag: String,
}

/// `PartitionKey` and `RowKey`.
pub type Key = (String, String);

/// Status and error code of a refusal.
pub type Refusal = (u16, &'static str);

/// The longest text of a property, in UTF-16 units.
const MAX_TEXT: usize = 32_768;

/// Returns a property that is a text, empty if there is none.
pub(super) fn text<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn key_of(row: &Row) -> Key {
    (text(row, "PartitionKey").to_owned(), text(row, "RowKey").to_owned())
}

/// Checks the characters of a key.
pub(super) fn check_key((partition_key, row_key): &Key) -> Result<(), Refusal> {
    let is_forbidden = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    let is_refused = [partition_key, row_key].iter().any(|key| key.contains(is_forbidden));
    if is_refused { Err((400, "InvalidInput")) } else { Ok(()) }
}

/// Checks the lengths of the properties.
pub(super) fn check_texts(row: &Row) -> Result<(), Refusal> {
    // Counting is slow, and no text has more units than bytes.
    let is_long = |text: &str| text.len() > MAX_TEXT && text.encode_utf16().count() > MAX_TEXT;
    if row.values().filter_map(Value::as_str).any(is_long) { Err((400, "PropertyValueTooLarge")) } else { Ok(()) }
}
