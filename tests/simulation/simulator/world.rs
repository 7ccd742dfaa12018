//! The state of a history: messages, invocations, network with storage, and the schedule.

use super::{
    domain::DOMAIN,
    invocation::{self, Begin, GivenAnswer, Invocation, Trigger},
    network::Network,
    plan::{Budget, Plan, RETENTION},
    queue::QueueMessage,
    schedule::Schedule,
};
use azure_core::HttpClient;
use handler::{
    attempt::Attempt,
    config::{self, AppConfig},
    functions::App,
    idempotency::Publisher,
    quarantine::QueueMessage as Delivery,
    storage::{Account, MessageEncoding},
};
use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};
use tokio::time::Instant;

/// A shared access signature needs no computation for each request.
const CONNECTION: &str =
    "TableEndpoint=http://127.0.0.1/a;QueueEndpoint=http://127.0.0.1/a;SharedAccessSignature=sig=a";

/// The protocol moves bodies as they are; raw ones can be read in a trace.
pub(crate) fn app_config() -> AppConfig {
    AppConfig {
        table: "idempotency".to_owned(),
        events_queue: "order-events".to_owned(),
        events_encoding: MessageEncoding::None,
        trigger: config::Trigger { queue: "orders".to_owned(), encoding: MessageEncoding::None },
        retention: RETENTION,
        retry_delay: None,
    }
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Arc<Network>,
    pub(crate) budget: Budget,
    /// The budget that was left when the faults stopped.
    pub(crate) unused: Budget,
    pub(crate) messages: Vec<QueueMessage>,
    pub(crate) invocations: Vec<Invocation>,
    pub(crate) answers: Vec<GivenAnswer>,
    /// Promises that an invocation broke when it ended.
    pub(crate) violations: Vec<String>,
    pub(crate) schedule: Schedule,
    /// The number of failed invocations of messages.
    pub(crate) failures: u32,
    /// The number of messages that the host moved to the poison queue.
    pub(crate) poisoned: u32,
    /// Whether faults have stopped.
    pub(crate) is_fault_free: bool,
    app: Rc<App>,
    driver: std::task::Waker,
    pub(crate) start: Instant,
}

impl World {
    pub(crate) async fn new(plan: Plan, schedule: Schedule) -> Self {
        let partitions = plan.messages.iter().map(|message| message.key().partition_key()).collect();
        let partitions = (!plan.holds_empty_queries).then_some(partitions);
        let network = Network::new(partitions, (plan.page, plan.resets));
        let account = Account::from_connection_string(CONNECTION).unwrap();
        let client: Arc<dyn HttpClient> = network.clone();
        Self {
            budget: plan.budget,
            unused: plan.budget,
            messages: plan.messages.iter().map(|message| QueueMessage::new(*message)).collect(),
            plan,
            network,
            invocations: Vec::new(),
            answers: Vec::new(),
            violations: Vec::new(),
            schedule,
            failures: 0,
            poisoned: 0,
            is_fault_free: false,
            // One operation at a time, so that others wait.
            app: Rc::new(App { publisher: Publisher::new(1), ..App::new(DOMAIN, &account, &client, &app_config()) }),
            driver: poll_fn(|context| Poll::Ready(context.waker().clone())).await,
            start: Instant::now(),
        }
    }

    /// Returns the time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.network.state().note(text);
    }

    pub(crate) fn invoke(&mut self, trigger: Trigger, message: Option<Delivery>) {
        let attempt = self.attempt(trigger);
        let invocation = self.invocations.len();
        self.note(|| format!("invocation {invocation}: {trigger:?} {message:?} at {}", attempt.began));
        let journal = self.network.state().journal.len();
        let begin = Begin { at: self.now(), now: attempt.began, journal };
        let future = invocation::serve(self.app.clone(), message, attempt);
        self.invocations.push(Invocation::new((trigger, begin), future, &self.driver));
    }

    /// Lets the process publish what its invocations handed over, unless it is at it; says whether it began.
    pub(crate) fn publish(&mut self) -> bool {
        let is_publishing = |one: &Invocation| one.is_running() && one.trigger == Trigger::Publisher;
        if self.app.publisher.is_idle() || self.invocations.iter().any(is_publishing) {
            return false;
        }
        let begin = Begin { at: self.now(), now: self.plan.start, journal: 0 };
        let future = invocation::publish(self.app.clone());
        self.invocations.push(Invocation::new((Trigger::Publisher, begin), future, &self.driver));
        true
    }

    fn attempt(&mut self, trigger: Trigger) -> Attempt {
        let number = match trigger {
            Trigger::Message { index, pop_receipt } => 1 + index as u64 * 1_000 + u64::from(pop_receipt),
            Trigger::Tick(number) => u64::MAX - u64::from(number),
            Trigger::Publisher => unreachable!("it begins no attempt of its own"),
        };
        let mut random = fastrand::Rng::with_seed(self.plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let now = self.plan.start + self.now() + self.skew();
        Attempt::new(String::new(), now, Instant::now() + Duration::from_secs(290), random.u128(..))
    }

    /// Draws the clock error of a new invocation; there is none when faults have stopped.
    fn skew(&mut self) -> time::Duration {
        if self.is_fault_free {
            return time::Duration::ZERO;
        }
        let most = self.plan.skew.whole_milliseconds().unsigned_abs().try_into().unwrap_or(u64::MAX);
        let drawn = self.schedule.below(2 * most + 1).cast_signed() - most.cast_signed();
        time::Duration::milliseconds(drawn)
    }
}
