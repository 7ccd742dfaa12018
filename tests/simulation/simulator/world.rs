//! The host, the workers, the timer and the time: what can happen next, and what happens then.

use super::{
    choice::{Action, Chooser},
    network::{Fate, Network},
    plan::{Budget, Message, Plan, RETENTION, Verdict},
    storage::What,
    task::{App, Outcome, Task, Work},
};
use futures::FutureExt;
use handler::{
    attempt::Attempt,
    idempotency::{
        Ledger,
        key::{bucket_of_the_tick, partition_key},
    },
    storage::{Account, Queue, Table},
};
use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};
use time::{OffsetDateTime, macros::datetime};
use tokio::time::Instant;

/// The time on the wall when a history starts.
const START: OffsetDateTime = datetime!(2026-11-21 10:20 UTC);

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

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Arc<Network>,
    pub(crate) budget: Budget,
    /// What was left of it when faults stopped.
    pub(crate) left: Budget,
    pub(crate) messages: Vec<Queued>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) ends: Vec<End>,
    pub(crate) chooser: Chooser,
    /// Deliveries that failed.
    pub(crate) failures: u32,
    /// Messages that were given up by the host.
    pub(crate) poisoned: u32,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    app: Rc<App>,
    driver: std::task::Waker,
    start: Instant,
}

impl World {
    pub(crate) async fn new(plan: Plan, chooser: Chooser) -> Self {
        let partitions = plan.messages.iter().map(|message| message.key().partition_key()).collect();
        let network = Network::new(partitions, (plan.page, plan.resets));
        // A shared access signature, because there is nothing to compute for it.
        let connection =
            "TableEndpoint=https://table.example;QueueEndpoint=https://queue.example;SharedAccessSignature=sig=a";
        let account = Account::from_connection_string(connection).unwrap();
        let table = Table::new(&account, "idempotency", network.clone());
        let events = Queue::new(&account, "order-events", network.clone());
        let queued = |message: &Message| Queued {
            message: *message,
            visible: Duration::ZERO,
            dequeued: 0,
            delivery: 0,
            place: Place::Queue,
        };
        Self {
            budget: plan.budget,
            left: plan.budget,
            messages: plan.messages.iter().map(queued).collect(),
            plan,
            network,
            tasks: Vec::new(),
            ends: Vec::new(),
            chooser,
            failures: 0,
            poisoned: 0,
            is_calm: false,
            app: Rc::new(App { ledger: Ledger::new(table, RETENTION), events }),
            driver: poll_fn(|context| Poll::Ready(context.waker().clone())).await,
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.network.state().note(text);
    }

    /// Lets every task go on until it waits for the network or the time, and remembers what they answer.
    pub(crate) fn progress(&mut self) {
        loop {
            let able: Vec<_> = (0..self.tasks.len()).filter(|task| self.tasks[*task].can_go_on()).collect();
            if able.is_empty() {
                break;
            }
            let task = able[self.chooser.first_of(able.len())];
            self.network.state().sender = task;
            self.tasks[task].go_on();
            self.remember(task);
        }
        self.network.state().abandon();
    }

    fn remember(&mut self, task: usize) {
        let Task { work, outcome: Some(outcome), .. } = &self.tasks[task] else { return };
        self.note(|| format!("task {task}: {outcome:?}"));
        match (work, outcome) {
            (Work::Message { index, .. }, Outcome::Verdict(verdict)) => {
                let journal = self.network.state().storage.journal.len();
                let message = self.messages[*index].message;
                self.ends.push(End { task, message, verdict: verdict.clone(), journal });
            }
            (Work::Message { .. }, _) => self.failures += 1,
            (Work::Tick(_), _) => {}
        }
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let (now, state) = (self.now(), self.network.state());
        let mut actions: Vec<_> = (0..state.parked.len()).map(|index| Action::Meet(index, Fate::Delivered)).collect();
        actions.extend((0..state.late.len()).map(Action::Land));
        let can_be_taken = |queued: &Queued| queued.place == Place::Queue && queued.visible <= now;
        actions.extend((0..self.messages.len()).filter(|index| can_be_taken(&self.messages[*index])).map(Action::Take));
        actions.extend((0..self.tasks.len()).filter(|task| self.tasks[*task].outcome.is_some()).map(Action::Settle));
        if !self.is_calm {
            let (parked, late) = (state.parked.len(), state.late.len());
            drop(state);
            self.mishaps(&mut actions, (parked, late));
        }
        actions
    }

    /// What can happen while there is a budget for it.
    fn mishaps(&self, actions: &mut Vec<Action>, (parked, late): (usize, usize)) {
        let (budget, is_seeded) = (self.budget, matches!(self.chooser, Chooser::Seeded { .. }));
        let is_idle = parked + late == 0 && !self.tasks.iter().any(|task| task.is_running() || task.outcome.is_some());
        if budget.faults > 0 {
            let fates = if is_seeded { Fate::FAULTS } else { Fate::KINDS_OF_FAULT };
            let faults = |index| fates.iter().map(move |fate| Action::Meet(index, *fate));
            actions.extend((0..parked).flat_map(faults));
        }
        if budget.kills > 0 {
            let can_be_killed = |task: &usize| self.tasks[*task].is_running() || self.tasks[*task].outcome.is_some();
            actions.extend((0..self.tasks.len()).filter(can_be_killed).map(Action::Kill));
        }
        if budget.lapses > 0 {
            let is_worked_on = |index: &usize| self.messages[*index].visible > self.now() && self.is_running(*index);
            actions.extend((0..self.messages.len()).filter(is_worked_on).map(Action::Lapse));
        }
        if budget.ticks > 0 {
            actions.push(Action::Tick);
        }
        // In a list, time passes only when nobody waits for the network: a request that takes long has no answer.
        if budget.waits > 0 && (is_idle || is_seeded && budget.faults > 0) {
            actions.push(Action::Wait);
        }
        if is_seeded {
            actions.extend((0..late).map(Action::Vanish));
        }
        if budget.leaps > 0 && is_idle {
            actions
                .extend((0..self.messages.len()).filter(|index| self.committed_at(*index).is_some()).map(Action::Leap));
        }
    }

    fn is_running(&self, index: usize) -> bool {
        self.tasks.iter().any(|task| task.is_running() && self.is_current(task.work) == Some(index))
    }

    /// The message whose last delivery this is.
    fn is_current(&self, work: Work) -> Option<usize> {
        match work {
            Work::Message { index, delivery } if self.messages[index].delivery == delivery => Some(index),
            Work::Message { .. } | Work::Tick(_) => None,
        }
    }

    /// When the record of this message's order was inserted, if it is there.
    fn committed_at(&self, index: usize) -> Option<Duration> {
        let row_key = self.messages[index].message.key().record_row_key();
        let state = self.network.state();
        let last = state.storage.journal.iter().rev().find_map(|change| match &change.what {
            What::Inserted(row) if row["RowKey"] == *row_key => Some(Some(change.at)),
            What::Deleted(row) if row["RowKey"] == *row_key => Some(None),
            _ => None,
        });
        last.flatten()
    }

    pub(crate) async fn act(&mut self, action: Action) {
        match action {
            Action::Meet(index, fate) => {
                self.budget.faults -= u32::from(fate != Fate::Delivered);
                self.network.state().meet(index, fate);
            }
            Action::Land(index) => self.network.state().land(index),
            Action::Vanish(index) => self.network.state().vanish(index),
            Action::Take(index) => self.take(index),
            Action::Settle(task) => self.settle(task),
            Action::Kill(task) => self.kill(task),
            Action::Lapse(index) => {
                self.budget.lapses -= 1;
                self.messages[index].visible = self.now();
                self.note(|| format!("message {index} is visible again"));
            }
            Action::Tick => {
                self.budget.ticks -= 1;
                self.tick();
            }
            Action::Wait => {
                self.budget.waits -= 1;
                let pause = self.chooser.pause();
                self.pass(self.start + self.now() + pause).await;
            }
            Action::Leap(index) => {
                self.budget.leaps -= 1;
                self.leap(index).await;
            }
        }
    }

    fn take(&mut self, index: usize) {
        let now = self.now();
        let queued = &mut self.messages[index];
        queued.visible = now + INVISIBLE;
        queued.dequeued += 1;
        queued.delivery += 1;
        let (work, message) = (Work::Message { index, delivery: queued.delivery }, queued.message);
        self.spawn(work, Some(message.text()));
    }

    pub(crate) fn tick(&mut self) {
        let ticks = self.tasks.iter().filter(|task| matches!(task.work, Work::Tick(_))).count();
        self.spawn(Work::Tick(ticks.try_into().unwrap()), None);
    }

    fn spawn(&mut self, work: Work, text: Option<String>) {
        let attempt = self.attempt(work);
        let task = self.tasks.len();
        self.note(|| format!("task {task}: {work:?} {} at {}", text.as_deref().unwrap_or_default(), attempt.now));
        self.tasks.push(Task::new(work, text, attempt, (&self.app, &self.driver)));
    }

    fn attempt(&mut self, work: Work) -> Attempt {
        let skew = self.plan.skew.whole_milliseconds().unsigned_abs().try_into().unwrap_or(u64::MAX);
        let skew = time::Duration::milliseconds(self.chooser.below(2 * skew + 1).cast_signed() - skew.cast_signed());
        let number = match work {
            Work::Message { index, delivery } => 1 + index as u64 * 1_000 + u64::from(delivery),
            Work::Tick(number) => u64::MAX - u64::from(number),
        };
        Attempt {
            invocation_id: String::new(),
            now: START
                + self.now()
                + if matches!(self.chooser, Chooser::Listed(_)) { time::Duration::ZERO } else { skew },
            deadline: Instant::now() + Duration::from_secs(290),
            random: fastrand::Rng::with_seed(self.plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    /// The host hears the answer of a task.
    fn settle(&mut self, task: usize) {
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

    fn kill(&mut self, task: usize) {
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
    }

    /// Leaps to a tick that purges the bucket of this message, some time before or after its record expires.
    pub(crate) async fn leap(&mut self, index: usize) {
        let Some(committed_at) = self.committed_at(index) else { return };
        let early = time::Duration::seconds(self.chooser.below(3 * 3_600).cast_signed());
        let expiry = START + committed_at + RETENTION;
        let bucket = self.messages[index].message.key().partition_key();
        let mut at = expiry - early + time::Duration::seconds(1);
        while partition_key(bucket_of_the_tick(at)) != bucket {
            at += time::Duration::minutes(5);
        }
        let at = (at - START).unsigned_abs();
        if at > self.now() {
            self.note(|| format!("leap to {:?} before the expiry of message {index}", expiry - START - at));
            tokio::time::sleep_until(self.start + at).await;
        }
    }
}
