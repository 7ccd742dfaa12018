//! The host: what it does with messages, and when it fires the timer.

use super::{
    plan::{Message, Verdict},
    task::{Outcome, Work},
    world::World,
};
use std::time::Duration;

/// As `host.json` has it.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// As `host.json` has it.
const MAX_DEQUEUE_COUNT: u32 = 5;
/// How long the host takes a message off the queue for; it renews that while the invocation runs.
const INVISIBLE: Duration = Duration::from_secs(10 * 60);

/// A message on the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    /// From when on it can be taken.
    pub(crate) visible: Duration,
    /// How often it was taken since it was put on the queue.
    dequeued: u32,
    /// How often it was taken ever; only who took it last can remove it.
    delivery: u32,
    pub(crate) place: Place,
}

impl Queued {
    pub(crate) const fn new(message: Message) -> Self {
        Self { message, visible: Duration::ZERO, dequeued: 0, delivery: 0, place: Place::Queue }
    }

    /// What matters for the future: of a message that is gone, not when it would have become visible.
    pub(crate) fn state(&self) -> Self {
        let visible = if self.place == Place::Gone { Duration::ZERO } else { self.visible };
        Self { visible, ..self.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Queue,
    Poison,
    Gone,
}

/// An answer that was given, and how long the journal was then.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) task: usize,
    pub(crate) message: Message,
    pub(crate) verdict: Verdict,
    pub(crate) journal: usize,
}

impl World {
    pub(crate) fn is_running(&self, index: usize) -> bool {
        self.tasks.iter().any(|task| task.is_running() && self.is_current(task.work) == Some(index))
    }

    /// The message whose last delivery this is.
    fn is_current(&self, work: Work) -> Option<usize> {
        match work {
            Work::Message { index, delivery } if self.messages[index].delivery == delivery => Some(index),
            Work::Message { .. } | Work::Tick(_) => None,
        }
    }

    pub(crate) fn take(&mut self, index: usize) {
        let now = self.now();
        let queued = &mut self.messages[index];
        queued.visible = now + INVISIBLE;
        queued.dequeued += 1;
        queued.delivery += 1;
        let (work, message) = (Work::Message { index, delivery: queued.delivery }, queued.message);
        self.spawn(work, Some(message));
    }

    pub(crate) fn tick(&mut self) {
        let ticks = self.tasks.iter().filter(|task| matches!(task.work, Work::Tick(_))).count();
        self.spawn(Work::Tick(ticks.try_into().unwrap()), None);
    }

    /// The host hears the answer of a task.
    pub(crate) fn settle(&mut self, task: usize) {
        let (now, outcome) = (self.now(), self.tasks[task].outcome.take());
        let Some(index) = self.is_current(self.tasks[task].work) else { return };
        let queued = &mut self.messages[index];
        match outcome {
            Some(Outcome::Verdict(_)) => queued.place = Place::Gone,
            _ if queued.dequeued >= MAX_DEQUEUE_COUNT => {
                queued.place = Place::Poison;
                self.poisoned += 1;
            }
            _ => queued.visible = now + RETRY_AFTER,
        }
    }

    pub(crate) fn kill(&mut self, task: usize) {
        self.budget.kills -= 1;
        self.tasks[task].kill();
        self.network.state().abandon();
        self.note(|| format!("task {task}: killed"));
        if let Some(index) = self.is_current(self.tasks[task].work) {
            // The host notices at once that the handler died; when it died itself, it takes longer.
            let after = if self.chooser.below(2) == 0 { RETRY_AFTER } else { INVISIBLE };
            self.messages[index].visible = self.now() + after;
        }
    }
}
