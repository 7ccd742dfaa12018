//! The domain of the tests: orders, each with as many events as its message asks for.
//!
//! It is apart from `src/order.rs`, so that the tests of the library pass whatever that file says.

use handler::{
    decision::{Decision, Domain, Event, to_json},
    json::{Number, present},
    message::Message,
    quarantine::Rejection,
};
use serde::{Deserialize, Serialize};

pub(crate) const DOMAIN: Domain = Domain {
    scope: "orders",
    event_source: "/orders",
    id_member: "id",
    ignored: &["sent_at"],
    printable: &["amount"],
    decide,
};

#[derive(Deserialize)]
struct Order {
    #[serde(default, deserialize_with = "present")]
    amount: Option<Number>,
    #[serde(default = "one")]
    events: usize,
}

const fn one() -> usize {
    1
}

#[derive(Serialize)]
struct Receipt<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
}

fn decide(message: &Message<'_>) -> Result<Decision, Rejection> {
    let Order { amount, events } = message.read()?;
    let receipt = to_json(&Receipt { id: message.id(), status: "accepted", amount })?;
    let accepted = || Event { kind: "order.accepted", data: receipt.clone() };
    Ok(Decision { events: std::iter::repeat_with(accepted).take(events).collect(), receipt })
}
