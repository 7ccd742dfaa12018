//! The rows of the table: their keys, and the limits on them.

use serde_json::{Map, Value};

use super::Refusal;

/// An entity: its properties with their type annotations, and its `odata.etag`.
pub type Row = Map<String, Value>;

/// `PartitionKey` and `RowKey`.
pub type Key = (String, String);

/// The longest text of a property, in UTF-16 units.
const MAX_TEXT: usize = 32_768;

/// Returns the key of an entity; `None` if it has none.
pub(super) fn key_of(row: &Row) -> Option<Key> {
    let text = |name: &str| row.get(name)?.as_str().map(ToOwned::to_owned);
    Some((text("PartitionKey")?, text("RowKey")?))
}

/// Checks the characters of a key.
pub(super) fn check_key((partition_key, row_key): &Key) -> Result<(), Refusal> {
    let is_forbidden = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    let is_refused = [partition_key, row_key].iter().any(|key| key.contains(is_forbidden));
    if is_refused { Err((400, "InvalidInput")) } else { Ok(()) }
}

/// Checks the lengths of the properties.
pub(super) fn check_texts(row: &Row) -> Result<(), Refusal> {
    let is_long = |value: &Value| value.as_str().is_some_and(|text| text.encode_utf16().count() > MAX_TEXT);
    if row.values().any(is_long) { Err((400, "PropertyValueTooLarge")) } else { Ok(()) }
}
