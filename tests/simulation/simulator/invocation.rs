//! One invocation: the future of the production code, polled by hand, and dropped when its process is killed.

use super::domain::Message;
use futures::future::LocalBoxFuture;
use handler::{
    attempt::Attempt,
    functions::{
        App,
        queue_with_idempotency::{self, Served},
        scheduled_with_retry,
    },
    quarantine::{QueueMessage, Reason},
};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use time::OffsetDateTime;

/// The trigger of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    /// The message with this index, received under this pop receipt.
    Message { index: usize, pop_receipt: u32 },
    /// The timer tick with this number.
    Tick(u32),
    /// No invocation, but the publishing behind their answers.
    Publisher,
}

/// The answer to a message, after which the host deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Receipt(String),
    Quarantined(Reason),
    GivenBack,
}

impl Answer {
    pub(crate) fn is_conflict(&self) -> bool {
        *self == Self::Quarantined(Reason::Conflict)
    }
}

/// An answer that was given, by which invocation, and how long the journal was then.
#[derive(Debug, Clone)]
pub(crate) struct GivenAnswer {
    pub(crate) invocation: usize,
    pub(crate) message: Message,
    pub(crate) answer: Answer,
    pub(crate) journal: usize,
}

/// The result of an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Answered(Answer),
    /// The host delivers the message again.
    Failed(String),
    Ticked,
    Published,
}

/// The begin of an invocation: since the start of the history, by its own clock, and as a length of the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) at: Duration,
    pub(crate) now: OffsetDateTime,
    pub(crate) journal: usize,
}

pub(crate) struct Invocation {
    pub(crate) trigger: Trigger,
    pub(crate) begin: Begin,
    /// The time of the last poll. If the invocation sleeps, this and its observations say when it wakes.
    pub(crate) polled_at: Duration,
    pub(crate) outcome: Option<Outcome>,
    future: Option<LocalBoxFuture<'static, Outcome>>,
    waker: Arc<Flag>,
}

/// A waker that can be asked whether it was called.
struct Flag {
    is_set: AtomicBool,
    driver: Waker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Relaxed);
        self.driver.wake_by_ref();
    }
}

impl Invocation {
    pub(crate) fn new(
        (trigger, begin): (Trigger, Begin),
        future: LocalBoxFuture<'static, Outcome>,
        driver: &Waker,
    ) -> Self {
        let waker = Arc::new(Flag { is_set: AtomicBool::new(true), driver: driver.clone() });
        Self { trigger, begin, polled_at: begin.at, outcome: None, future: Some(future), waker }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.future.is_some()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_running() && self.waker.is_set.load(Ordering::Relaxed)
    }

    pub(crate) fn poll(&mut self, now: Duration) {
        let Some(future) = &mut self.future else { return };
        self.polled_at = now;
        self.waker.is_set.store(false, Ordering::Relaxed);
        let waker = Waker::from(self.waker.clone());
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.outcome = Some(outcome);
            self.future = None;
        }
    }

    pub(crate) fn kill(&mut self) {
        self.future = None;
        self.outcome = None;
    }
}

/// Serves a message, or a timer tick, as `handler::app` does.
pub(crate) fn serve(app: Rc<App>, message: Option<QueueMessage>, attempt: Attempt) -> LocalBoxFuture<'static, Outcome> {
    match message {
        Some(message) => Box::pin(deliver(app, message, attempt)),
        None => Box::pin(tick(app, attempt)),
    }
}

/// Publishes what was handed over, until nothing is left.
pub(crate) fn publish(app: Rc<App>) -> LocalBoxFuture<'static, Outcome> {
    Box::pin(async move {
        app.publisher.run(&app.ledger, &app.events).await;
        Outcome::Published
    })
}

async fn deliver(app: Rc<App>, message: QueueMessage, attempt: Attempt) -> Outcome {
    let run = queue_with_idempotency::run(&app, &message, &attempt);
    match tokio::time::timeout_at(attempt.deadline, run).await {
        Ok(Ok(Served::Receipt(receipt))) => Outcome::Answered(Answer::Receipt(receipt)),
        Ok(Ok(Served::Quarantined(reason))) => Outcome::Answered(Answer::Quarantined(reason)),
        Ok(Ok(Served::GivenBack)) => Outcome::Answered(Answer::GivenBack),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("not finished in time".to_owned()),
    }
}

async fn tick(app: Rc<App>, attempt: Attempt) -> Outcome {
    let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
    let run = scheduled_with_retry::run(&app, &tick, &attempt);
    match tokio::time::timeout_at(attempt.deadline, run).await {
        Ok(Ok(())) => Outcome::Ticked,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("not finished in time".to_owned()),
    }
}
