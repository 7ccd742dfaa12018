//! The messages of an order that lie on queues. Quarantine and poison are read through. At the queue of orders it only looks,
//! since to receive a message spends one of its deliveries.

use anyhow::Result;
use handler::storage::{Queue, queue::ReceivedMessage};
use serde::Serialize;

use super::Arguments;
use crate::{
    account::{Account, patiently},
    kept::{Joiner, Line},
    walk::{Unseen, look_through},
};

/// A message with this id that lies on a queue.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invocation: Option<String>,
    pub(super) envelopes: usize,
    #[serde(flatten)]
    pub(super) line: Line,
}

/// Finds the messages with this id, whichever queue they are on.
pub(super) async fn find(account: &Account, id: &str, arguments: &Arguments) -> Result<(Vec<Place>, Unseen)> {
    let (app, shows) = (&account.app, arguments.show_message);
    let (mut found, mut joiner) = (Vec::new(), Joiner::default());
    let mut add = |queue: &Queue, (envelopes, invocation), line: Line| {
        let queue = queue.name().to_owned();
        found.extend((line.id.as_deref() == Some(id)).then_some(Place { queue, invocation, envelopes, line }));
    };
    let received_line = |received: &ReceivedMessage| {
        Line::new("", received.inserted, &app.orders_encoding.decode(received.text.clone()), shows)
    };
    let quarantine = &app.quarantine.queue;
    let see = |received| {
        if let Some(kept) = joiner.add(received) {
            let invocation = Some(kept.envelope.invocation_id.clone());
            add(quarantine, (kept.held_in.len(), invocation), Line::of(&kept, shows));
        }
        Ok(())
    };
    let mut unseen = look_through(quarantine, arguments.hold, see).await?;
    let see = |received| {
        add(&app.poison, (1, None), received_line(&received));
        Ok(())
    };
    unseen.add(&look_through(&app.poison, arguments.hold, see).await?);
    for seen in patiently(async || app.orders.peek_some().await).await? {
        add(&app.orders, (1, None), received_line(&seen));
    }
    Ok((found, unseen))
}
