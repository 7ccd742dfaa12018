//! How time passes.

use super::{
    host::Place,
    plan::{Plan, RETENTION},
    storage::What,
    task::Task,
    world::World,
};
use futures::FutureExt;
use handler::idempotency::key::{bucket_to_purge, partition_key};
use std::{future::poll_fn, task::Poll, time::Duration};
use time::OffsetDateTime;
use tokio::time::Instant;

/// How long the timer purges one bucket.
const TURN: time::Duration = time::Duration::minutes(5);

impl World {
    /// When the record of this message's order was inserted, if it is there.
    pub(crate) fn committed_at(&self, index: usize) -> Option<Duration> {
        let row_key = self.messages[index].message.key().record_row_key();
        let state = self.network.state();
        let last = state.storage.journal.iter().rev().find_map(|change| match &change.what {
            What::Inserted(row) if row["RowKey"] == *row_key => Some(Some(change.at)),
            What::Deleted(row) if row["RowKey"] == *row_key => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// Lets time pass until a message becomes visible or a task goes on; false when there is nothing to wait for.
    pub(crate) async fn rest(&mut self) -> bool {
        let waiting = self.messages.iter().filter(|queued| queued.place == Place::Queue);
        let next = waiting.map(|queued| queued.visible).filter(|visible| *visible > self.now()).min();
        if next.is_none() && !self.tasks.iter().any(Task::is_running) {
            return false;
        }
        let hour = self.now() + Duration::from_secs(3_600);
        self.pass(self.start + next.map_or(hour, |next| next.min(hour))).await;
        true
    }

    /// Lets time pass until `end`, or until a task can go on.
    pub(crate) async fn pass(&self, end: Instant) {
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(end));
        poll_fn(|context| {
            let is_over = self.tasks.iter().any(Task::can_go_on) || sleep.as_mut().poll_unpin(context).is_ready();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.network.state().vanish_old();
    }

    /// Leaps to the turn of the bucket of this message that is nearest to where leaps lead.
    pub(crate) async fn leap(&self, index: usize) {
        let Some(committed_at) = self.committed_at(index) else { return };
        let Plan { start, leap, .. } = self.plan;
        let expiry = start + committed_at + RETENTION;
        let now = start + self.now();
        let bucket = self.messages[index].message.key().partition_key();
        let around = (0..).flat_map(|turns| [-TURN * turns, TURN * turns]).map(|turns| expiry + leap + turns);
        let at = around.into_iter().find(|at| *at > now && is_turn_of(*at, &bucket)).unwrap_or(now);
        self.note(|| format!("leap to {} after the expiry of message {index}", at - expiry));
        self.sleep_until(at).await;
    }

    /// Lets time pass until the next turn of a bucket.
    pub(crate) async fn until_turn_of(&self, bucket: &str) {
        let now = self.plan.start + self.now();
        let turns = (0..).map(|turns| now + TURN * turns);
        let at = turns.into_iter().find(|at| is_turn_of(*at, bucket)).unwrap_or(now);
        self.sleep_until(at).await;
    }

    async fn sleep_until(&self, at: OffsetDateTime) {
        let since_start = (at - self.plan.start).unsigned_abs();
        tokio::time::sleep_until(self.start + since_start).await;
    }
}

fn is_turn_of(at: OffsetDateTime, bucket: &str) -> bool {
    partition_key(bucket_to_purge(at)) == bucket
}
