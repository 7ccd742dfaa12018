//! The Functions host: it receives messages, fires the timer, and deletes or keeps a message by the result.

use super::{
    invocation::{Outcome, Trigger},
    queue::{HIDDEN, Location, RETRY_AFTER},
    world::World,
};

use handler::quarantine::QueueMessage as Delivery;

/// `maxDequeueCount` of `host.json`.
const MAX_DEQUEUE_COUNT: u32 = 16;

impl World {
    pub(crate) fn is_in_progress(&self, index: usize) -> bool {
        self.invocations.iter().any(|one| one.is_running() && self.owned_message(one.trigger) == Some(index))
    }

    /// Returns the message of which this trigger has the last pop receipt.
    fn owned_message(&self, trigger: Trigger) -> Option<usize> {
        match trigger {
            Trigger::Message { index, pop_receipt } if self.messages[index].pop_receipt == pop_receipt => Some(index),
            Trigger::Message { .. } | Trigger::Tick(_) | Trigger::Publisher => None,
        }
    }

    pub(crate) fn receive(&mut self, index: usize) {
        let now = self.now();
        let queued = &mut self.messages[index];
        queued.visible_at = now + HIDDEN;
        queued.dequeue_count += 1;
        queued.pop_receipt += 1;
        let trigger = Trigger::Message { index, pop_receipt: queued.pop_receipt };
        let (text, dequeue_count) = (queued.message.text(), Some(queued.dequeue_count));
        self.invoke(trigger, Some(Delivery { text, dequeue_count, inserted: None }));
    }

    pub(crate) fn fire_timer(&mut self) {
        let ticks = self.invocations.iter().filter(|one| matches!(one.trigger, Trigger::Tick(_))).count();
        self.invoke(Trigger::Tick(ticks.try_into().unwrap()), None);
    }

    /// Deletes the message of an invocation that answered; lets it be received again otherwise.
    pub(crate) fn handle_outcome(&mut self, invocation: usize) {
        let (now, outcome) = (self.now(), self.invocations[invocation].outcome.take());
        let Some(index) = self.owned_message(self.invocations[invocation].trigger) else { return };
        let queued = &mut self.messages[index];
        match outcome {
            Some(Outcome::Answered(_)) => queued.location = Location::Deleted,
            _ if queued.dequeue_count >= MAX_DEQUEUE_COUNT => {
                queued.location = Location::PoisonQueue;
                self.poisoned += 1;
            }
            _ => queued.visible_at = now + RETRY_AFTER,
        }
    }

    pub(crate) fn kill(&mut self, invocation: usize) {
        self.budget.kills -= 1;
        self.invocations[invocation].kill();
        self.network.state().detach_cancelled();
        self.note(|| format!("invocation {invocation}: killed"));
        if let Some(index) = self.owned_message(self.invocations[invocation].trigger) {
            // The host notices at once that the handler died; when it died itself, the message stays hidden.
            let after = if self.schedule.below(2) == 0 { RETRY_AFTER } else { HIDDEN };
            self.messages[index].visible_at = self.now() + after;
        }
    }
}
