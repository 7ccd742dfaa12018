//! One invocation: the future of the production code, polled by hand, and dropped when its process is killed.

use super::{
    operation,
    plan::{Message, Verdict},
};
use futures::future::LocalBoxFuture;
use handler::{
    attempt::Attempt,
    functions::{App, Failure, scheduled_with_retry},
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

/// What is invoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// The `delivery`th delivery of the message with this index.
    Message { index: usize, delivery: u32 },
    /// The nth tick of the timer.
    Tick(u32),
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Verdict(Verdict),
    /// The host delivers again.
    Failed(String),
    Ticked,
}

pub(crate) type Invocation = LocalBoxFuture<'static, Outcome>;

/// The moment at which an invocation began: since the start, by its own clock, and how long the journal was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Duration,
    pub(crate) now: OffsetDateTime,
    pub(crate) journal: usize,
}

pub(crate) struct Task {
    pub(crate) work: Work,
    pub(crate) began: Began,
    /// When it went on last: if it sleeps, that and what it was told say when it wakes up.
    pub(crate) went_on: Duration,
    pub(crate) outcome: Option<Outcome>,
    future: Option<Invocation>,
    alarm: Arc<Alarm>,
}

/// Whether a task can go on.
struct Alarm {
    is_set: AtomicBool,
    driver: Waker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Relaxed);
        self.driver.wake_by_ref();
    }
}

impl Task {
    pub(crate) fn new((work, began): (Work, Began), future: Invocation, driver: &Waker) -> Self {
        let alarm = Arc::new(Alarm { is_set: AtomicBool::new(true), driver: driver.clone() });
        Self { work, began, went_on: began.at, outcome: None, future: Some(future), alarm }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.future.is_some()
    }

    pub(crate) fn can_go_on(&self) -> bool {
        self.is_running() && self.alarm.is_set.load(Ordering::Relaxed)
    }

    pub(crate) fn go_on(&mut self, now: Duration) {
        let Some(future) = &mut self.future else { return };
        self.went_on = now;
        self.alarm.is_set.store(false, Ordering::Relaxed);
        let waker = Waker::from(self.alarm.clone());
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

/// Serves a message, or a tick of the timer, as `handler::app` does it.
pub(crate) fn serve(app: Rc<App>, message: Option<Message>, attempt: Attempt) -> Invocation {
    match message {
        Some(message) => Box::pin(deliver(app, message, attempt)),
        None => Box::pin(tick(app, attempt)),
    }
}

async fn deliver(app: Rc<App>, message: Message, attempt: Attempt) -> Outcome {
    let run = operation::run(&app, message, &attempt);
    match tokio::time::timeout_at(attempt.deadline, run).await {
        Ok(Ok(receipt)) => Outcome::Verdict(Verdict::Answered(receipt)),
        Ok(Err(Failure::Reject(rejection))) => Outcome::Verdict(Verdict::Quarantined(rejection.reason)),
        Ok(Err(Failure::Retry(error))) => Outcome::Failed(error.to_string()),
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
