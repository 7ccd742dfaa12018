//! The domain: what an order is, and what accepting it means. **This is the file to replace with your own.**
//!
//! Everything here is pure: no I/O, no clock, no randomness. Two workers may therefore decide the same order at the
//! same time; the ledger lets only one of them commit, and everybody else answers with the receipt that was committed.
//!
//! To carry a field of your own through, add it to [`Order`]; it is read by its type, and a message in which it does
//! not fit is quarantined as [`INVALID_ORDER`]. To answer something else, change [`decide`].

use crate::{json::Object, quarantine::Rejection};
use serde::{Deserialize, Serialize, de};
use serde_json::value::{RawValue, to_raw_value};

/// Names this kind of operation in the idempotency key: the same id in another scope is another operation. Changing it
/// makes every order unknown.
pub const SCOPE: &str = "orders";

/// Names the place where the events happened, as in
/// [CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#source-1).
pub const SOURCE: &str = "/orders";

/// The member that identifies the operation: the producer's business key, the same in every copy of the message.
pub const ID: &str = "id";

/// Reason of quarantine: the message has no id.
pub const MISSING_ID: &str = "missing_id";
/// Reason of quarantine: the id cannot identify anything.
pub const INVALID_ID: &str = "invalid_id";
/// Reason of quarantine: something else in the order is not what it should be.
pub const INVALID_ORDER: &str = "invalid_order";

/// One order, as its producer sent it.
#[derive(Debug, Deserialize)]
pub struct Order<'a> {
    /// Which order this is.
    pub id: OrderId,
    /// How much is ordered, exactly as written; absent when the producer says nothing about it.
    #[serde(default, deserialize_with = "present")]
    pub amount: Option<Amount>,
    /// Whether it is to be sent at once.
    #[serde(default)]
    pub express: bool,
    /// The whole message, with the members that this type does not name: for a decision that passes them on.
    #[serde(skip)]
    pub source: &'a str,
}

impl<'a> Order<'a> {
    /// Reads an order.
    ///
    /// # Errors
    ///
    /// The order cannot be accepted, however often it is delivered.
    pub fn parse(object: &Object<'a>) -> Result<Self, Rejection> {
        let raw_id = object.get(ID).filter(|raw| *raw != "null").ok_or_else(|| Rejection {
            reason: MISSING_ID,
            detail: format!("the message has no member `{ID}`"),
            warning: format!("Missing id field; cannot apply idempotency. payload={}", logged(object)),
        })?;
        serde_json::from_str::<OrderId>(raw_id).map_err(|error| Rejection {
            reason: INVALID_ID,
            detail: error.to_string(),
            warning: format!("Missing id field; cannot apply idempotency. payload={}", logged(object)),
        })?;
        let order: Self = serde_json::from_str(object.text()).map_err(|error| Rejection {
            reason: INVALID_ORDER,
            detail: error.to_string(),
            warning: format!("Invalid order; quarantining it. payload={}", logged(object)),
        })?;
        Ok(Self { source: object.text(), ..order })
    }
}

/// The business key of an order: 1 to 256 characters, none of them a control character, no white space at the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderId(String);

impl OrderId {
    /// Longest id, in characters.
    pub const MAX_CHARS: usize = 256;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let id = id_text(raw.get()).ok_or_else(|| de::Error::custom("the id must be a string or an integer"))?;
        match id.trim() {
            "" => Err(de::Error::custom("the id is blank")),
            id if id.chars().count() > Self::MAX_CHARS => {
                Err(de::Error::custom(format_args!("the id is longer than {} characters", Self::MAX_CHARS)))
            }
            id if id.contains(char::is_control) => Err(de::Error::custom("the id has a control character")),
            id => Ok(Self(id.to_owned())),
        }
    }
}

/// A string's content, or an integer's digits: never through a machine number, which would merge long ids.
fn id_text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' if !raw.contains(['.', 'e', 'E']) => {
            Some(if raw == "-0" { "0".to_owned() } else { raw.to_owned() })
        }
        _ => None,
    }
}

/// A number that keeps the text it was sent in: 10.50 stays 10.50, and no digit of a big one is lost.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Amount(Box<RawValue>);

impl Amount {
    /// The number as it was sent, in the grammar of JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if is_number(raw.get()) { Ok(Self(raw)) } else { Err(de::Error::custom("the amount is not a number")) }
    }
}

/// Whether a valid JSON value is a number.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Reads a member that may be absent but, when present, must not be null.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What accepting an order means, as data: nothing has happened yet.
#[derive(Debug)]
pub struct Decision {
    /// The answer to this order and to every duplicate of it, as JSON.
    pub receipt: String,
    /// What the rest of the world is told, at least once each, after the order is committed and never before.
    pub events: Vec<Event>,
}

/// Something that happened, for the queue of events.
#[derive(Debug)]
pub struct Event {
    /// What kind of thing, as in
    /// [CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type).
    pub kind: &'static str,
    /// What is to be known about it.
    pub data: Box<RawValue>,
}

/// Decides an order.
///
/// # Errors
///
/// The order cannot be accepted, however often it is delivered.
pub fn decide(order: &Order<'_>) -> Result<Decision, Rejection> {
    #[derive(Serialize)]
    struct Receipt<'a> {
        id: &'a str,
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        amount: Option<&'a Amount>,
    }
    let receipt = Receipt { id: order.id.as_str(), status: "accepted", amount: order.amount.as_ref() };
    let receipt = to_raw_value(&receipt).map_err(|error| invalid(order, &error.to_string()))?;
    let accepted = Event { kind: "order.accepted", data: receipt.clone() };
    let mut events = vec![accepted];
    if order.express {
        events.push(Event { kind: "shipment.requested", data: receipt.clone() });
    }
    Ok(Decision { receipt: receipt.get().to_owned(), events })
}

/// The rejection of an order that has a usable id but cannot be accepted.
#[must_use]
pub fn invalid(order: &Order<'_>, detail: &str) -> Rejection {
    Rejection {
        reason: INVALID_ORDER,
        detail: detail.to_owned(),
        warning: format!("Invalid order; quarantining it. id={}", order.id),
    }
}

/// The members of a message that may be printed, as JSON: a usable id and an amount that is a number. Anything else
/// that stands in their place is not known to be harmless, and printed as `…`.
#[must_use]
pub fn logged(object: &Object<'_>) -> String {
    let id = object.get(ID).map(|raw| (ID, raw, serde_json::from_str::<OrderId>(raw).is_ok()));
    let amount = object.get("amount").map(|raw| ("amount", raw, raw.len() <= 64 && is_number(raw)));
    let members = id.into_iter().chain(amount);
    let members = members.map(|(name, raw, printable)| format!("\"{name}\":{}", if printable { raw } else { "…" }));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}
