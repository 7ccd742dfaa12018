//! The clock, which stands still unless an action moves it.

use super::{
    invocation::Invocation,
    plan::{Plan, RETENTION},
    queue::Location,
    world::World,
};
use futures::FutureExt;
use std::{future::poll_fn, task::Poll, time::Duration};
use test_storage::emulated::Change;
use tokio::time::Instant;

impl World {
    /// Returns when the record of this message was inserted, if it is stored.
    pub(crate) fn committed_at(&self, index: usize) -> Option<Duration> {
        let row_key = self.messages[index].message.key().record_row_key();
        let state = self.network.state();
        let last = state.journal.iter().rev().find_map(|entry| match &entry.change {
            Change::Inserted(row) if row["RowKey"] == *row_key => Some(Some(entry.at)),
            Change::Deleted(row) if row["RowKey"] == *row_key => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// Lets time pass until a message becomes visible or an invocation wakes; false when there is nothing to wait for.
    pub(crate) async fn advance_to_next_event(&mut self) -> bool {
        let queued = self.messages.iter().filter(|queued| queued.location == Location::Queue);
        let next = queued.map(|queued| queued.visible_at).filter(|visible_at| *visible_at > self.now()).min();
        if next.is_none() && !self.invocations.iter().any(Invocation::is_running) {
            return false;
        }
        let hour = self.now() + Duration::from_secs(3_600);
        self.advance_to(self.start + next.map_or(hour, |next| next.min(hour))).await;
        true
    }

    /// Lets time pass until `end`, or until an invocation wakes.
    pub(crate) async fn advance_to(&self, end: Instant) {
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(end));
        poll_fn(|context| {
            let is_over = self.invocations.iter().any(Invocation::is_ready) || sleep.poll_unpin(context).is_ready();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.network.state().drop_overdue();
    }

    /// Moves the clock to the planned time around the expiry of this message's record.
    pub(crate) async fn jump_to_expiry(&self, index: usize) {
        let Some(committed_at) = self.committed_at(index) else { return };
        let Plan { jump, .. } = self.plan;
        let at = committed_at + (RETENTION + jump).unsigned_abs();
        self.note(|| format!("jump to {jump} after the expiry of message {index}"));
        tokio::time::sleep_until(self.start + at).await;
    }
}
