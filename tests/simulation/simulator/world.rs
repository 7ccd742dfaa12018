//! Everything in one place: the messages, the workers, the storage, and the choices among what can happen.

use super::{
    choice::{Action, Chooser},
    fate::Fate,
    host::{End, Queued},
    network::Network,
    operation::DOMAIN,
    plan::{Budget, Message, Plan, RETENTION},
    task::{self, Began, Outcome, Task, Work},
    ticks,
};
use handler::{
    attempt::Attempt,
    functions::App,
    idempotency::Ledger,
    storage::{Account, Queue, Table},
};
use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};
use tokio::time::Instant;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Arc<Network>,
    pub(crate) budget: Budget,
    /// What was left of it when faults stopped.
    pub(crate) left: Budget,
    pub(crate) messages: Vec<Queued>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) ends: Vec<End>,
    /// Promises that were broken by an answer, at its time.
    pub(crate) broken: Vec<String>,
    pub(crate) chooser: Chooser,
    /// Deliveries that failed.
    pub(crate) failures: u32,
    /// Messages that were given up by the host.
    pub(crate) poisoned: u32,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    app: Rc<App>,
    driver: std::task::Waker,
    pub(crate) start: Instant,
}

impl World {
    pub(crate) async fn new(plan: Plan, chooser: Chooser) -> Self {
        let partitions = plan.messages.iter().map(|message| message.key().partition_key()).collect();
        let partitions = (!plan.parks_all).then_some(partitions);
        let network = Network::new(partitions, (plan.page, plan.resets));
        // A shared access signature, because there is nothing to compute for it.
        let connection =
            "TableEndpoint=https://table.example;QueueEndpoint=https://queue.example;SharedAccessSignature=sig=a";
        let account = Account::from_connection_string(connection).unwrap();
        let table = Table::new(&account, "idempotency", network.clone());
        let events = Queue::new(&account, "order-events", network.clone());
        Self {
            budget: plan.budget,
            left: plan.budget,
            messages: plan.messages.iter().map(|message| Queued::new(*message)).collect(),
            plan,
            network,
            tasks: Vec::new(),
            ends: Vec::new(),
            broken: Vec::new(),
            chooser,
            failures: 0,
            poisoned: 0,
            is_calm: false,
            app: Rc::new(App { domain: DOMAIN, ledger: Ledger::new(table, RETENTION), events }),
            driver: poll_fn(|context| Poll::Ready(context.waker().clone())).await,
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
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
            let now = self.now();
            self.tasks[task].go_on(now);
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
            (Work::Tick(_), Outcome::Ticked) => ticks::check(self, task),
            (Work::Tick(_), _) => {}
        }
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
            Action::Rest => {
                self.budget.rests -= 1;
                self.rest().await;
            }
            Action::Leap(index) => {
                self.budget.leaps -= 1;
                self.leap(index).await;
                self.tick();
            }
        }
    }

    pub(crate) fn spawn(&mut self, work: Work, message: Option<Message>) {
        let attempt = self.attempt(work);
        let task = self.tasks.len();
        let text = message.map(Message::text).unwrap_or_default();
        self.note(|| format!("task {task}: {work:?} {text} at {}", attempt.now));
        let journal = self.network.state().storage.journal.len();
        let began = Began { at: self.now(), now: attempt.now, journal };
        let future = task::serve(self.app.clone(), message, attempt);
        self.tasks.push(Task::new((work, began), future, &self.driver));
    }

    fn attempt(&mut self, work: Work) -> Attempt {
        let number = match work {
            Work::Message { index, delivery } => 1 + index as u64 * 1_000 + u64::from(delivery),
            Work::Tick(number) => u64::MAX - u64::from(number),
        };
        let random = fastrand::Rng::with_seed(self.plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let now = self.plan.start + self.now() + self.skew();
        Attempt::new(String::new(), now, Instant::now() + Duration::from_secs(290), random)
    }

    /// By how much the clock of a new worker is wrong: not at all when nothing goes wrong any more.
    fn skew(&mut self) -> time::Duration {
        if self.is_calm {
            return time::Duration::ZERO;
        }
        let most = self.plan.skew.whole_milliseconds().unsigned_abs().try_into().unwrap_or(u64::MAX);
        let drawn = self.chooser.below(2 * most + 1).cast_signed() - most.cast_signed();
        time::Duration::milliseconds(drawn)
    }
}
