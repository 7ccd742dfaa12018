//! Operations with another number of events than the domain decides on.
//!
//! An order has exactly one event. The protocol knows no such number, and much of it is about several: pages,
//! transactions that delete, events of which some are published. So these operations go the way of
//! `queue_with_idempotency`, through the same ledger and outbox, with a decision that is made up.

use super::{plan::Message, task::App};
use handler::{
    attempt::Attempt,
    functions::{Failure, queue_with_idempotency::CONFLICT},
    idempotency::{Fingerprint, Operation, Outcome},
    json::Object,
    order::{self, Event, Order},
    outbox,
    quarantine::Rejection,
};

/// Commits the order of a message with as many events as the message says, and publishes them.
pub(crate) async fn run(app: &App, message: Message, attempt: &Attempt) -> Result<String, Failure> {
    let (text, key) = (message.text(), message.key());
    let object = Object::parse(text.trim()).unwrap();
    let order = Order::parse(&object)?;
    let fingerprint = Fingerprint::new(&object, order::ID);
    let decision = order::decide(&order)?;
    let event = |_| Event { kind: "order.accepted", data: decision.events[0].data.clone() };
    let events: Vec<_> = (0..message.events).map(event).collect();
    let bodies = outbox::bodies(&events, (order::SOURCE, order.id.as_str()), &key, attempt);
    let operation = Operation { key: &key, fingerprint: &fingerprint, receipt: &decision.receipt, events: &bodies };
    let (receipt, pending) = match app.ledger.commit(&operation, attempt).await? {
        Outcome::Committed(pending) => (decision.receipt, pending),
        Outcome::Duplicate { receipt, pending } => (receipt, pending),
        Outcome::Conflict => {
            return Err(Rejection { reason: CONFLICT, detail: String::new(), warning: String::new() }.into());
        }
    };
    outbox::publish(&app.ledger, &app.events, &pending, attempt).await;
    Ok(receipt)
}
