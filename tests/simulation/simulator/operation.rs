//! Operations with another number of events than the sample domain decides on.
//!
//! An order has exactly one event. The protocol knows no such number, and much of it is about several: pages,
//! transactions that delete, events of which some are published. So the simulation hands in a domain that decides on as
//! many events as the message has in its plan.

use super::plan::Message;
use handler::{
    attempt::Attempt,
    decision::{Decision, Domain, Event},
    functions::{App, Failure, queue_with_idempotency},
};
use std::cell::Cell;

#[path = "../../../src/order.rs"]
mod order;

pub(crate) const DOMAIN: Domain = Domain { decide: with_events, ..order::DOMAIN };

thread_local! {
    /// Number of events of the message that is decided now.
    static EVENTS: Cell<u8> = const { Cell::new(1) };
}

fn with_events(message: &handler::message::Message<'_>) -> Result<Decision, handler::quarantine::Rejection> {
    let Decision { receipt, events } = (order::DOMAIN.decide)(message)?;
    let event = |_| Event { kind: events[0].kind, data: events[0].data.clone() };
    Ok(Decision { receipt, events: (0..EVENTS.get()).map(event).collect() })
}

/// Serves a message whose order has as many events as its plan says.
pub(crate) async fn run(app: &App, message: Message, attempt: &Attempt) -> Result<String, Failure> {
    EVENTS.set(message.events);
    let decided = queue_with_idempotency::read_and_decide(&app.domain, &message.text(), attempt)?;
    queue_with_idempotency::commit_and_publish(app, decided, attempt).await
}
