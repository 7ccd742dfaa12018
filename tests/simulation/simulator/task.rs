//! One invocation: the future of the production code, polled by hand, and dropped when its process is killed.

use super::plan::Verdict;
use futures::future::LocalBoxFuture;
use handler::{
    attempt::Attempt,
    functions::{Failure, queue_with_idempotency, scheduled_with_retry},
    idempotency::Ledger,
    storage::Queue,
};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

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

/// What the production code works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) events: Queue,
}

pub(crate) struct Task {
    pub(crate) work: Work,
    pub(crate) outcome: Option<Outcome>,
    future: Option<LocalBoxFuture<'static, Outcome>>,
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
    pub(crate) fn new(work: Work, text: Option<String>, attempt: Attempt, (app, driver): (&Rc<App>, &Waker)) -> Self {
        let app = app.clone();
        let future: LocalBoxFuture<'static, Outcome> = match text {
            Some(text) => Box::pin(deliver(app, text, attempt)),
            None => Box::pin(tick(app, attempt)),
        };
        let alarm = Arc::new(Alarm { is_set: AtomicBool::new(true), driver: driver.clone() });
        Self { work, outcome: None, future: Some(future), alarm }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.future.is_some()
    }

    pub(crate) fn can_go_on(&self) -> bool {
        self.is_running() && self.alarm.is_set.load(Ordering::Relaxed)
    }

    pub(crate) fn go_on(&mut self) {
        let Some(future) = &mut self.future else { return };
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

/// As `handler::app` does it.
async fn deliver(app: Rc<App>, text: String, attempt: Attempt) -> Outcome {
    let run = queue_with_idempotency::run(&app.ledger, &app.events, &text, &attempt);
    match tokio::time::timeout_at(attempt.deadline, run).await {
        Ok(Ok(receipt)) => Outcome::Verdict(Verdict::Answered(receipt)),
        Ok(Err(Failure::Reject(rejection))) => Outcome::Verdict(Verdict::Quarantined(rejection.reason)),
        Ok(Err(Failure::Retry(error))) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("not finished in time".to_owned()),
    }
}

async fn tick(app: Rc<App>, attempt: Attempt) -> Outcome {
    let tick = scheduled_with_retry::TimerTick { past_due: false, retry_count: 0, max_retry_count: 3 };
    let run = scheduled_with_retry::run(&app.ledger, &app.events, &tick, &attempt);
    match tokio::time::timeout_at(attempt.deadline, run).await {
        Ok(Ok(())) => Outcome::Ticked,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("not finished in time".to_owned()),
    }
}
