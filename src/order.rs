//! The domain: what an order is, and what accepting one means. **Replace this file with your own.**
//!
//! `decide` is pure: no I/O, no clock, no randomness. A new member of [`Order`] is optional at first; it can be required
//! when no message without it is left on a queue.

use handler::{
    decision::{Decision, Domain, Event, to_json},
    json::{Number, present},
    message::Message,
    quarantine::Rejection,
};
use serde::{Deserialize, Serialize};

/// The orders of this app.
pub(crate) const DOMAIN: Domain = Domain {
    // Never change scope and id member over a table in use: every order would be unknown.
    scope: "orders",
    event_source: "/orders",
    id_member: "id",
    // Members that are not content, like a renewed time stamp. Another list turns late copies of orders into conflicts.
    ignored: &[],
    // Members that a log line may show.
    printable: &["amount"],
    decide,
};

/// The members of a message that the decision needs. Others are allowed, and count as content.
#[derive(Deserialize)]
struct Order {
    #[serde(default, deserialize_with = "present")]
    amount: Option<Number>,
}

#[derive(Serialize)]
struct Receipt<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
}

fn decide(message: &Message<'_>) -> Result<Decision, Rejection> {
    let Order { amount } = message.read()?;
    let receipt = to_json(&Receipt { id: message.id(), status: "accepted", amount })?;
    let accepted = Event { kind: "order.accepted", data: receipt.clone() };
    Ok(Decision { receipt, events: vec![accepted] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use handler::message::object;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let message = object(text).and_then(|object| Message::new(object, DOMAIN.id_member));
        let decision = message.and_then(|message| decide(&message));
        let receipt = decision.as_ref().map(|decision| decision.receipt.get());
        assert_eq!(receipt.map_err(|rejection| rejection.reason.as_str()), expected, "{text}");
    }

    #[test]
    fn an_order_is_accepted_with_the_amount_as_it_was_written() {
        check(r#"{"id":"order-123"}"#, Ok(r#"{"id":"order-123","status":"accepted"}"#));
        check(
            r#"{"id":42,"amount":10.50,"lines":[{"sku":"X1"}]}"#,
            Ok(r#"{"id":"42","status":"accepted","amount":10.50}"#),
        );
    }

    #[test]
    fn an_amount_that_is_no_number_is_rejected() {
        for amount in ["null", r#""42""#, "true", "{}", "[]"] {
            check(&format!(r#"{{"id":"order-123","amount":{amount}}}"#), Err("invalid_order"));
        }
    }

    #[test]
    fn the_acceptance_of_an_order_is_announced_with_its_receipt() {
        let object = object(r#"{"id":"order-123","amount":42}"#).unwrap();
        let decision = decide(&Message::new(object, DOMAIN.id_member).unwrap()).unwrap();
        let events: Vec<_> = decision.events.iter().map(|event| (event.kind, event.data.get())).collect();
        assert_eq!(events, [("order.accepted", decision.receipt.get())]);
    }
}
