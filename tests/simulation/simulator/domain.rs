//! The domain of the simulation: an order says in its message how many events it has.
//!
//! Much of the protocol is about several events, or none: pages, transactions that delete, events of which some are
//! published.

use handler::{
    decision::{Decision, Domain, Event, to_json},
    idempotency::Key,
    message,
    quarantine::Rejection,
};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) const DOMAIN: Domain =
    Domain { scope: "orders", event_source: "/orders", id_member: "id", ignored: &[], printable: &[], decide };

/// One message: an order, its content, and one of the spellings of that content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) order: u8,
    pub(crate) amount: u8,
    pub(crate) spelling: u8,
    /// The number of events.
    pub(crate) events: u8,
}

impl Message {
    pub(crate) fn text(self) -> String {
        let Self { order, events, .. } = self;
        let amounts = self.amounts();
        let amount = &amounts[usize::from(self.spelling)];
        match self.spelling {
            0 => format!(r#"{{"id":"order-{order}","amount":{amount},"events":{events}}}"#),
            1 => format!(r#" {{ "amount": {amount}, "events": {events}, "id": "order-{order}" }}"#),
            _ => format!(r#"{{"events":{events},"amount":{amount},"id":"\u006frder-{order}"}}"#),
        }
    }

    pub(crate) fn key(self) -> Key {
        Key::new(DOMAIN.scope, &format!("order-{}", self.order))
    }

    /// Tells whether this is the receipt of this order with this content, in any of its spellings.
    pub(crate) fn is_receipt(self, receipt: &str) -> bool {
        self.amounts().iter().any(|amount| receipt == format!(r#"["order-{}",{amount}]"#, self.order))
    }

    /// Returns the amount in each of its spellings.
    fn amounts(self) -> [String; 3] {
        let Self { amount, .. } = self;
        [format!("{amount}"), format!("{amount}.0"), format!("{amount}0e-1")]
    }
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    amount: &'a RawValue,
    events: u8,
}

/// Decides on the receipt `[id, amount]`, with the amount as it is spelled, and on the events.
fn decide(message: &message::Message<'_>) -> Result<Decision, Rejection> {
    let Order { amount, events } = message.read()?;
    let event = |_| Event { kind: "order.accepted", data: amount.to_owned() };
    Ok(Decision { receipt: to_json(&(message.id(), amount))?, events: (0..events).map(event).collect() })
}
