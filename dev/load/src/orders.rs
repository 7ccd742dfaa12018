//! The orders, as the host posts them.
//!
//! Bodies are built once for each size, with room for the id, so that an order costs one copy while the clock runs. An
//! order is a function of its number: nothing is kept about those that were sent, however many there are.

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

/// A placeholder, as long as every id.
const PLACE: &str = "order-00-0000000000";
/// A duplicate comes so many orders after the first.
const DISTANCE: u64 = 64;
/// The first orders are no duplicates: there is nothing to duplicate yet.
const FIRST: u64 = 100;
/// Lines that make an order of about 2 KiB, and of almost 64 KiB, the most that a queue message can hold.
const MEDIUM_LINES: usize = 17;
const LARGE_LINES: usize = 640;

/// Shares of the orders, in percent.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Mix {
    /// Delivered before, with the same content.
    pub(crate) duplicates: u64,
    /// About 2 KiB.
    pub(crate) medium: u64,
    /// Almost 64 KiB.
    pub(crate) large: u64,
}

/// The orders of one run, by number.
pub(super) struct Orders {
    mix: Mix,
    run: u8,
    small: Template,
    medium: Template,
    large: Template,
}

impl Orders {
    /// Makes the orders of the run `run`, whose ids are its own.
    pub(super) fn new(mix: Mix, run: u8) -> Result<Self> {
        ensure!(run < 100, "too many runs: an id has two digits for them");
        Ok(Self {
            mix,
            run,
            small: Template::new(&json!({ "id": PLACE, "amount": 42 }))?,
            medium: Template::new(&order(MEDIUM_LINES))?,
            large: Template::new(&order(LARGE_LINES))?,
        })
    }

    /// Returns the body of the invocation for the order `number`.
    pub(super) fn body(&self, number: u64) -> Bytes {
        let original = self.original(number);
        let size = chance(original, 1);
        let template = match size {
            size if size < self.mix.large => &self.large,
            size if size < self.mix.large + self.mix.medium => &self.medium,
            _ => &self.small,
        };
        template.with_id(&format!("order-{:02}-{original:010}", self.run))
    }

    pub(super) fn is_duplicate(&self, number: u64) -> bool {
        number >= FIRST && chance(number, 2) < self.mix.duplicates
    }

    /// Returns the number under which the order was sent first.
    fn original(&self, number: u64) -> u64 {
        let mut original = number;
        while self.is_duplicate(original) {
            original -= DISTANCE;
        }
        original
    }
}

/// Returns a number below 100 that looks random and is not.
fn chance(number: u64, salt: u64) -> u64 {
    fastrand::Rng::with_seed(number * 4 + salt).u64(0..100)
}

/// The body of an invocation, and where in it the id stands.
struct Template {
    body: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    fn new(order: &Value) -> Result<Self> {
        let body = invocation(order)?;
        let places = body.match_indices(PLACE).map(|(place, _)| place).collect();
        Ok(Self { body: body.into_bytes(), places })
    }

    fn with_id(&self, id: &str) -> Bytes {
        let mut body = self.body.clone();
        for place in &self.places {
            body[*place..place + PLACE.len()].copy_from_slice(id.as_bytes());
        }
        body.into()
    }
}

fn order(lines: usize) -> Value {
    let line = |number: usize| {
        json!({
            "sku": format!("SKU-{number:06}"),
            "name": "Kaffeemühle \"Zoë\", 350 ml",
            "quantity": number % 7 + 1,
            "price": "19.90",
            "gift": number.is_multiple_of(5),
        })
    };
    json!({
        "id": PLACE,
        "amount": 1234.5,
        "currency": "EUR",
        "customer": { "name": "Zoë Ångström", "email": "zoe@example.com", "city": "Göteborg" },
        "placed_at": "2026-11-21T10:15:30.123Z",
        "lines": (0..lines).map(line).collect::<Vec<_>>(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Invocation<'a> {
    data: Data,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Data {
    msg: String,
}

/// Returns the metadata of the host: its own, then the members of the message except lists, which overwrite it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    dequeue_count: &'a str,
    expiration_time: &'a str,
    id: String,
    insertion_time: &'a str,
    next_visible_time: &'a str,
    pop_receipt: &'a str,
    #[serde(rename = "sys")]
    system: Value,
    #[serde(flatten)]
    members: serde_json::Map<String, Value>,
}

/// Makes the body as the host does: all but objects is JSON in a JSON string.
fn invocation(order: &Value) -> Result<String> {
    let mut members = serde_json::Map::new();
    for (name, value) in order.as_object().into_iter().flatten() {
        match value {
            Value::Array(_) => {}
            Value::Object(_) => drop(members.insert(name.clone(), value.clone())),
            // It overwrites the message's id, whose name differs in case only.
            _ if name == "id" => {}
            Value::String(_) => drop(members.insert(name.clone(), value.to_string().into())),
            other => drop(members.insert(name.clone(), Value::from(other.to_string()).to_string().into())),
        }
    }
    let metadata = Metadata {
        dequeue_count: "1",
        expiration_time: "2026-11-28T10:15:30+00:00",
        id: order["id"].to_string(),
        insertion_time: "2026-11-21T10:15:30+00:00",
        next_visible_time: "2026-11-21T10:16:00+00:00",
        pop_receipt: "\"AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=\"",
        system: json!({
            "MethodName": "queue_with_idempotency",
            "UtcNow": "2026-11-21T10:15:31.2103812Z",
            "RandGuid": "7ce67ce0-0f0e-4d5e-9a51-3f1f1f2a9c11",
        }),
        members,
    };
    let msg = Value::from(order.to_string()).to_string();
    Ok(serde_json::to_string(&Invocation { data: Data { msg }, metadata })?)
}
