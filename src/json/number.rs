//! Members that a domain reads by their types, without a loss.

use serde::{
    Deserialize, Serialize,
    de::{Deserializer, Error},
};
use serde_json::value::RawValue;

/// A number that keeps the text it was sent in: 10.50 stays 10.50, and no digit of a big one is lost.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Number(Box<RawValue>);

impl Number {
    /// The number as it was sent, in the grammar of JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if is_number(raw.get()) { Ok(Self(raw)) } else { Err(Error::custom("a member is not a number")) }
    }
}

/// Whether a valid JSON value is a number.
pub(crate) fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Reads a member that may be absent but, when present, must not be null: for `#[serde(default, deserialize_with)]`.
///
/// # Errors
///
/// The value does not fit the type.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
