//! What became of an order, in one word and a sentence: decided by what is stored and found, and nothing else.

use handler::idempotency::{
    ledger::{OutboxEntry, PUBLISH_GRACE},
    record::SCHEMA,
};
use serde::Serialize;
use time::OffsetDateTime;

use super::places::Place;
use crate::{
    kept::time,
    stored::{Stored, is_readable},
};

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fate {
    pub(super) verdict: &'static str,
    pub(super) says: &'static str,
}

impl Fate {
    /// Whether nothing can be said of the order.
    pub(super) fn is_unknown(self) -> bool {
        [UNKNOWN, NO_TABLE, UNUSABLE].contains(&self)
    }
}

const NO_TABLE: Fate = Fate {
    verdict: "no_table",
    says: "the table is not there: every id would be new. Look at --account and IDEMPOTENCY_TABLE; `ops init` makes an empty one",
};

pub(super) const UNUSABLE: Fate = Fate {
    verdict: "unusable_id",
    says: "no order can have this id: it is empty, too long or has control characters. Such messages are quarantined as `invalid_id`",
};

const UNKNOWN: Fate = Fate {
    verdict: "unknown",
    says: "nothing is stored of it: it never took effect, or its retention is over, or it was forgotten. See --queues",
};

/// Says what became of an order of which this is `stored`, and which was `found` on queues.
pub(super) fn fate(stored: Option<&Stored>, found: Option<&[Place]>, now: OffsetDateTime) -> Fate {
    let fate = |verdict, says| Fate { verdict, says };
    let Some(stored) = stored else { return NO_TABLE };
    let is_on = |end: &str| found.is_some_and(|found| found.iter().any(|place| place.queue.ends_with(end)));
    match stored.record() {
        Some(Err(version)) if version > SCHEMA => {
            fate("newer_schema", "its record was written by a newer version of the handler, which has to run again")
        }
        Some(Err(_)) => fate(
            "damaged",
            "its record cannot be read: messages with this id are put back for ever. See `forget --force`",
        ),
        Some(Ok(_)) => committed(stored, now),
        None if !stored.events.is_empty() => {
            fate("forgotten", "its record was deleted, and its events are not published yet: the timer does that")
        }
        None if is_on("-quarantine") => fate("quarantined", "it did not take effect, and is kept in quarantine"),
        None if is_on("-poison") => fate("poisoned", "the host gave it up; the timer moves it to quarantine"),
        None if found.is_some_and(|found| !found.is_empty()) => fate("waiting", "it is on the queue of orders"),
        None => UNKNOWN,
    }
}

/// Says what became of an order that took effect.
fn committed(stored: &Stored, now: OffsetDateTime) -> Fate {
    let fate = |verdict, says| Fate { verdict, says };
    let is_younger =
        |event: &OutboxEntry| event.created_at.as_deref().and_then(time).is_some_and(|time| now - time < PUBLISH_GRACE);
    let events = &stored.events;
    match () {
        () if events.iter().any(|event| !is_readable(event)) => {
            fate("event_stuck", "it took effect, and one of its events cannot be published: mend or delete its row")
        }
        () if events.iter().any(is_younger) => fate("publishing", "it took effect; its events are being published"),
        () if !events.is_empty() => fate("unpublished", "it took effect; its events are left to the timer"),
        () if stored.index_row.is_none() => {
            fate("never_expires", "it took effect; its index row is not there, so its record is never purged")
        }
        () if stored.expires_at().is_some_and(|time| time < now) => {
            fate("expired", "it took effect; its retention is over, and the next purge forgets it")
        }
        () => fate("committed", "it took effect, and its events are published"),
    }
}
