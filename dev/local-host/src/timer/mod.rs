//! The timer trigger: ticks on schedule, remembers them in storage, and retries a failed run.
//!
//! `TimerListener` in
//! <https://github.com/Azure/azure-webjobs-sdk-extensions/tree/dev/src/WebJobs.Extensions/Extensions/Timers/Listener>,
//! the retry loop in `FunctionExecutorExtensions` of <https://github.com/Azure/azure-webjobs-sdk>.

mod status;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use test_storage::Account;

use crate::{
    bindings::{Delay, Function, Schedule},
    call::Call,
    dates,
    envelope::{self, InvocationData, RetryContext, ScheduleStatus, TimerInfo},
    failure::FailedAttempt,
    invocation::{Invocation, Invoker},
    lock::{Lock, listener_blob},
    shutdown::Shutdown,
    timings::Timings,
};

use status::{Cause, after_run};

pub(crate) use status::StatusBlob;

pub use status::status_blob;

/// A sleep may end a little early by the clock that the schedule is read from.
const CLOCK_STEP: Duration = Duration::from_millis(5);

pub(crate) struct Timer {
    pub(crate) function: Function,
    pub(crate) schedule: Schedule,
    pub(crate) run_on_startup: bool,
    pub(crate) use_monitor: bool,
    pub(crate) host_id: String,
    pub(crate) account: Account,
    pub(crate) status: StatusBlob,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) shutdown: Shutdown,
    pub(crate) timings: Timings,
    /// The status as the listener has it in mind, once it listens. Runs of one timer never overlap, so it is theirs.
    pub(crate) known: Mutex<Option<ScheduleStatus>>,
}

/// The starter of a run.
enum Starter<'a> {
    /// The schedule, with one invocation id for all attempts.
    Schedule(Uuid),
    /// Somebody by hand: a new id for each attempt.
    Hand(Option<&'a str>),
}

impl Timer {
    /// Ticks until told not to, while this host is the one that does.
    pub(crate) async fn run(&self) {
        let lock = Lock {
            account: self.account.clone(),
            blob: listener_blob(&self.host_id, &self.function.name),
            retry: self.timings.lock_retry,
            console: Arc::clone(&self.invoker.console),
        };
        lock.while_held(&self.shutdown.stop, |active| self.listen(active)).await;
    }

    async fn listen(&self, active: CancellationToken) {
        if let Err(error) = self.keep_ticking(&active).await {
            self.report(&error);
        }
    }

    fn report(&self, error: &anyhow::Error) {
        self.invoker.console.error(format!("Timer of {}: {error:#}", self.function.name));
    }

    async fn keep_ticking(&self, active: &CancellationToken) -> Result<()> {
        let start = OffsetDateTime::now_utc();
        let mut next = self.schedule.next_after(start)?;
        let mut missed = None;
        if self.is_monitored() {
            // Locked first, so that nobody takes what is stored for what is known.
            let mut known = self.known.lock().await;
            let (status, tick) = self.status.at_start(&self.schedule, start).await?;
            (*known, missed) = (Some(status), tick);
        }
        if let Some(due) = missed {
            self.invoker.console.information(format!("Function '{}' is past due on startup.", self.function.name));
            self.tick(due, Cause::PastDue).await?;
        } else if self.run_on_startup {
            self.tick(next, Cause::Startup).await?;
        }
        loop {
            let now = OffsetDateTime::now_utc();
            let pause = Duration::try_from(next - now).unwrap_or_default();
            tokio::select! {
                () = active.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause + CLOCK_STEP) => {}
            }
            // One failure of storage does not end the timer.
            if let Err(error) = self.tick(next, Cause::Schedule).await {
                self.report(&error);
            }
            next = self.schedule.next_due(next, OffsetDateTime::now_utc())?;
        }
    }

    /// Lets the timer tick now as if its schedule said so.
    pub(crate) async fn tick_now(&self) -> Result<Invocation> {
        self.tick(OffsetDateTime::now_utc(), Cause::Schedule).await
    }

    /// Runs one scheduled tick with all its retries, and writes the status after them.
    async fn tick(&self, due: OffsetDateTime, cause: Cause) -> Result<Invocation> {
        let mut known = self.known.lock().await;
        let started = OffsetDateTime::now_utc();
        let status = if known.is_some() { known.clone() } else { self.status_for(due).await? };
        let past_due = cause == Cause::PastDue;
        let info = TimerInfo { adjust_for_dst: self.adjusts(), status: status.clone(), past_due };
        let invocation = self.attempts(&info, &Starter::Schedule(Uuid::new_v4())).await;
        if status.is_some() {
            let status = known.insert(after_run(&self.schedule, cause, due, started)?);
            self.status.write(status).await?;
        }
        Ok(invocation)
    }

    /// Runs the function as the admin endpoint does, with all its retries.
    pub(crate) async fn run_by_hand(&self, input: Option<&str>) -> Result<Invocation> {
        let status = self.status_for(self.schedule.next_after(OffsetDateTime::now_utc())?).await?;
        let info = TimerInfo { adjust_for_dst: self.adjusts(), status, past_due: false };
        Ok(self.attempts(&info, &Starter::Hand(input)).await)
    }

    /// Returns the stored status during the tick that is `due`; none without a schedule monitor.
    async fn status_for(&self, due: OffsetDateTime) -> Result<Option<ScheduleStatus>> {
        if !self.is_monitored() {
            return Ok(None);
        }
        let stored = self.status.read().await?;
        Ok(Some(stored.unwrap_or(ScheduleStatus { last: None, next: due, last_updated: None })))
    }

    fn adjusts(&self) -> bool {
        matches!(self.schedule, Schedule::Cron(_))
    }

    fn is_monitored(&self) -> bool {
        self.use_monitor && self.schedule.is_monitored_after(OffsetDateTime::now_utc())
    }

    async fn attempts(&self, info: &TimerInfo, starter: &Starter<'_>) -> Invocation {
        let mut failed = None;
        let mut count = 0;
        loop {
            let retry = self.function.retry.as_ref().map(|retry| RetryContext {
                count,
                max: retry.max.map_or(-1, i64::from),
                failed: failed.take(),
            });
            let invocation = self.attempt(info, starter, retry).await;
            let Some(failure) = invocation.cause.clone() else { return invocation };
            if !self.wait_before_retry(count).await {
                return invocation;
            }
            failed = Some(FailedAttempt { id: invocation.id, status: invocation.status, failure });
            count += 1;
        }
    }

    /// Waits before the next attempt; false when there is none.
    async fn wait_before_retry(&self, count: u32) -> bool {
        let Some(retry) = &self.function.retry else { return false };
        let console = &self.invoker.console;
        if retry.max.is_some_and(|max| count >= max) {
            console.error(format!("Function execution failed after '{count}' retries."));
            return false;
        }
        let delay = match retry.delay {
            Delay::Fixed(delay) => delay,
            Delay::Exponential(shortest, longest) => {
                shortest.saturating_mul(2_u32.saturating_pow(count.min(31))).min(longest)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => true,
            () = self.shutdown.stop.cancelled() => {
                console.information("Invocation cancelled - exiting retry loop.");
                false
            }
        }
    }

    async fn attempt(&self, info: &TimerInfo, starter: &Starter<'_>, retry: Option<RetryContext>) -> Invocation {
        let now = OffsetDateTime::now_utc();
        let (id, input, reason) = match starter {
            Starter::Schedule(id) => (*id, None, format!("Timer fired at {}", dates::to_round_trip(now))),
            Starter::Hand(input) => (Uuid::new_v4(), *input, MANUAL_REASON.to_owned()),
        };
        let function = &self.function;
        let invocation_data =
            InvocationData { function: &function.name, binding: &function.binding, now, random: Uuid::new_v4() };
        let call = Call {
            function,
            id,
            attempt: retry.as_ref().map_or(0, |retry| retry.count),
            dequeue_count: None,
            reason: &reason,
            details: None,
            message: None,
            body: envelope::timer(&invocation_data, info, retry.as_ref(), input).into(),
        };
        self.invoker.invoke(call).await
    }
}

/// The reason that the console gives for a run started by hand.
pub(crate) const MANUAL_REASON: &str = "This function was programmatically called via the host APIs.";
