//! The domain of the simulation: an order says in its message how many events it has.
//!
//! Much of the protocol is about several events, or none: pages, transactions that delete, events of which some are
//! published. Every message is written in a way of its own by a random producer, and what some orders say is in members
//! that look like additions of transport.

use handler::{
    decision::{Decision, Domain, Event, to_json},
    idempotency::Key,
    message,
    quarantine::Rejection,
};
use serde_json::{Map, Value, value::RawValue};
use test_storage::Producer;

pub(crate) const DOMAIN: Domain = Domain {
    scope: "orders",
    event_source: "/orders",
    id_member: "id",
    ignored: &["updated_at"],
    printable: &[],
    decide,
};

/// One message: an order, its content, and the way in which that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) order: u8,
    pub(crate) amount: u8,
    pub(crate) spelling: u32,
    /// The number of events.
    pub(crate) events: u8,
}

impl Message {
    pub(crate) fn text(self) -> String {
        let Self { order, amount, spelling, events } = self;
        let amount = match amount_member(order) {
            "amount" => Value::from(amount),
            _ => Value::from(amount.to_string()),
        };
        let members = [(amount_member(order), amount), ("events", events.into()), ("updated_at", spelling.into())];
        let members: Map<_, _> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Producer::send(spelling.into(), &format!("order-{order}"), &members)
    }

    pub(crate) fn key(self) -> Key {
        Key::new(DOMAIN.scope, &format!("order-{}", self.order))
    }

    /// Tells whether this is the receipt of this order with this content, in any of its spellings.
    pub(crate) fn is_receipt(self, receipt: &str) -> bool {
        let Ok((id, amount)) = serde_json::from_str::<(String, Value)>(receipt) else { return false };
        let number = amount.as_f64().or_else(|| amount.as_str()?.parse().ok());
        id == format!("order-{}", self.order) && number == Some(self.amount.into())
    }
}

/// Returns the name of the member that is the content of an order. In some of them it looks like one that transport adds.
fn amount_member(order: u8) -> &'static str {
    match order {
        22 => "tracestate",
        57 => "$AzureWebJobsParentId",
        _ => "amount",
    }
}

/// Decides on the receipt `[id, amount]`, with the amount as it is spelled, and on the events.
fn decide(message: &message::Message<'_>) -> Result<Decision, Rejection> {
    let order = message.id().trim_start_matches("order-").parse().unwrap();
    let member = |name| message.object().get(name).unwrap().to_owned();
    let amount = RawValue::from_string(member(amount_member(order))).unwrap();
    let events = 0..member("events").parse::<f64>().unwrap() as u8;
    let event = |_| Event { kind: "order.accepted", data: amount.clone() };
    Ok(Decision { receipt: to_json(&(message.id(), &amount))?, events: events.map(event).collect() })
}
