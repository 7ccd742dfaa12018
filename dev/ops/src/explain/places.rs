//! The messages of an order that lie on queues. Quarantine and poison are read through. At the queue of orders it only looks,
//! since to receive a message spends one of its deliveries.

use anyhow::Result;
use handler::storage::queue::ReceivedMessage;
use serde::Serialize;

use super::Arguments;
use crate::{
    account::{Account, patiently},
    kept::{Joiner, Kept, id_and_printable},
    output::rfc3339,
    walk::{Unseen, look_through},
};

/// A message with this id that lies on a queue.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) queue: String,
    pub(super) reason: String,
    pub(super) since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invocation: Option<String>,
    pub(super) envelopes: usize,
    pub(super) printable: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// Finds the messages with this id, whichever queue they are on.
pub(super) async fn find(account: &Account, id: &str, arguments: &Arguments) -> Result<(Vec<Place>, Unseen)> {
    let (app, shows) = (&account.app, arguments.show_message);
    let (mut found, mut joiner) = (Vec::new(), Joiner::default());
    let quarantine = &app.quarantine.queue;
    let see = |received| {
        let kept = joiner.add(received);
        found.extend(kept.and_then(|kept| in_quarantine(quarantine.name(), (kept, id), shows)));
        Ok(())
    };
    let mut unseen = look_through(quarantine, arguments.hold, see).await?;
    let see = |received| {
        found.extend(on_queue(account, app.poison.name(), (&received, id), shows));
        Ok(())
    };
    unseen.add(&look_through(&app.poison, arguments.hold, see).await?);
    for seen in patiently(async || app.orders.peek_some().await).await? {
        found.extend(on_queue(account, app.orders.name(), (&seen, id), shows));
    }
    Ok((found, unseen))
}

/// Describes a message in quarantine, if it has this id.
fn in_quarantine(queue: &str, (kept, id): (Kept, &str), shows: bool) -> Option<Place> {
    let place = place(queue, (&kept.envelope.message, id), shows)?;
    Some(Place {
        reason: kept.envelope.reason,
        since: kept.envelope.first_seen,
        invocation: Some(kept.envelope.invocation_id),
        envelopes: kept.held_in.len(),
        detail: shows.then_some(kept.envelope.detail),
        ..place
    })
}

/// Describes a message that lies on a queue as it came, if it has this id.
fn on_queue(account: &Account, queue: &str, (message, id): (&ReceivedMessage, &str), shows: bool) -> Option<Place> {
    let text = account.app.orders_encoding.decode(message.text.clone());
    Some(Place { since: message.inserted.map(rfc3339), ..place(queue, (&text, id), shows)? })
}

fn place(queue: &str, (text, id): (&str, &str), shows: bool) -> Option<Place> {
    let (own, printable) = id_and_printable(text);
    own.filter(|own| own == id)?;
    Some(Place {
        queue: queue.to_owned(),
        reason: String::new(),
        since: None,
        invocation: None,
        envelopes: 1,
        printable,
        detail: None,
        message: shows.then(|| text.to_owned()),
    })
}
