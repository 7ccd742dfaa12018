//! [Queries](https://learn.microsoft.com/rest/api/storageservices/query-entities) about one partition: a range of row
//! keys, and conditions on times.

use std::{collections::HashMap, ops::Range};

use reqwest::Url;

use super::entity::{Key, Row, text};

/// A text greater than every key.
pub(super) const LAST: &str = "\u{10ffff}";

/// A query for entities of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The `PartitionKey` of all entities.
    pub partition: String,
    /// The range of their `RowKey`s.
    pub row_keys: Range<String>,
    /// Conditions on other properties, all of which must hold.
    pub(super) conditions: Vec<Condition>,
    /// The properties of interest; all if it is empty.
    pub(super) select: Vec<String>,
    /// The largest number of entities in one page.
    pub(super) top: usize,
    /// The continuation token: the first key to read.
    pub next: Option<Key>,
}

/// `property lt datetime'value'`: times are written alike, so they compare as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    property: String,
    below: String,
}

impl Query {
    /// Reads the query of a URL; `None` if the filter has another form than
    /// `PartitionKey eq '…' and RowKey ge '…' and RowKey lt '…' and property lt datetime'…'`.
    pub(super) fn read(query: &str) -> Option<Self> {
        let url = Url::parse(&format!("http://localhost/?{query}")).ok()?;
        let mut parameters: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let (mut partition, mut row_keys, mut conditions) = (None, String::new()..LAST.to_owned(), Vec::new());
        for condition in parameters.remove("$filter")?.split(" and ") {
            let mut words = condition.splitn(3, ' ');
            let (property, operator, value) = (words.next()?, words.next()?, words.next()?);
            let value = value.trim_start_matches("datetime").trim_matches('\'').to_owned();
            match (property, operator) {
                ("PartitionKey", "eq") => partition = Some(value),
                ("RowKey", "ge") => row_keys.start = value,
                ("RowKey", "lt") => row_keys.end = value,
                (property, "lt") => conditions.push(Condition { property: property.to_owned(), below: value }),
                _ => return None,
            }
        }
        let select = parameters.remove("$select").unwrap_or_default();
        let select = select.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
        let top = parameters.remove("$top").map_or(Some(1_000), |top| top.parse().ok())?;
        let next_row = parameters.remove("NextRowKey").unwrap_or_default();
        let next = parameters.remove("NextPartitionKey").map(|partition| (partition, next_row));
        Some(Self { partition: partition?, row_keys, conditions, select, top, next })
    }
}

/// Returns the keys that are to be read, which are none after a continuation token of another partition.
pub(super) fn range_of(query: &Query) -> Range<Key> {
    let key = |row_key: &String| (query.partition.clone(), row_key.clone());
    let (start, end) = (key(&query.row_keys.start), key(&query.row_keys.end));
    let start = query.next.clone().map_or(start.clone(), |next| next.max(start)).min(end.clone());
    start..end
}

pub(super) fn holds(condition: &Condition, row: &Row) -> bool {
    row.contains_key(&condition.property) && text(row, &condition.property) < condition.below.as_str()
}
