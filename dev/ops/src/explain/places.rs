//! The messages of an order that lie on queues. Quarantine and poison are read through. At the queue of orders it only looks,
//! since to receive a message spends one of its deliveries.

use anyhow::Result;
use handler::storage::queue::ReceivedMessage;
use serde::Serialize;

use super::Arguments;
use crate::{
    account::{Account, patiently},
    kept::{Found, Joiner, Kept, id_and_printable},
    output::rfc3339,
    walk::Walk,
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
pub(super) async fn find(account: &Account, id: &str, arguments: &Arguments) -> Result<Vec<Place>> {
    let app = &account.app;
    let mut found = Vec::new();
    let mut walk = Walk::begin(&app.quarantine.queue, arguments.hold, account.began).await?;
    let mut joiner = Joiner::default();
    while let Some(page) = walk.next().await? {
        for received in page {
            walk.leave(&received)?;
            if let Found::Whole(Kept { envelope, held_in }) = joiner.add(received) {
                let place = place(app.quarantine.queue.name(), (&envelope.message, id), arguments.show_message);
                found.extend(place.map(|place| Place {
                    reason: envelope.reason,
                    since: envelope.first_seen,
                    invocation: Some(envelope.invocation_id),
                    envelopes: held_in.len(),
                    detail: arguments.show_message.then_some(envelope.detail),
                    ..place
                }));
            }
        }
    }
    walk.end().await?;
    let mut walk = Walk::begin(&app.poison, arguments.hold, account.began).await?;
    while let Some(page) = walk.next().await? {
        for received in page {
            walk.leave(&received)?;
            found.extend(on_queue(account, app.poison.name(), (&received, id), arguments.show_message));
        }
    }
    walk.end().await?;
    for seen in patiently(async || app.orders.peek_some().await).await? {
        found.extend(on_queue(account, app.orders.name(), (&seen, id), arguments.show_message));
    }
    Ok(found)
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
