//! The local host: one app, its handler and its triggers, running.
//!
//! In the tests' own process, so that they see and do what no test can with the real one: every invocation, a lost
//! answer, a delivery that happens twice. `ScriptHost` and `WebJobsScriptHostService` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src>

mod admin;
mod state;
mod options;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use test_storage::Account;

use crate::{
    bindings::{App, Trigger},
    call::Running,
    console::{Console, Line},
    envelope::QueueMessage,
    invocation::{Invocation, Invoker},
    queue_listener::Delivery,
    shutdown::Shutdown,
    worker::{State, Worker},
};

pub use options::Options;
use state::HostState;

/// The reason that the console gives for a delivery without a queue.
const DELIVERED: &str = "Delivered by hand.";

/// A running host. To drop it is to kill it, and the handler with it: messages stay as they are, locks expire, nothing
/// is written any more. [`Self::stop`] is the orderly end.
pub struct LocalHost {
    state: Arc<HostState>,
    admin_port: Option<u16>,
    shutdown: Shutdown,
    ending: JoinHandle<()>,
}

impl std::fmt::Debug for LocalHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalHost").field("app", &self.state.app.root).finish_non_exhaustive()
    }
}

impl LocalHost {
    /// Reads the app, starts the handler and the listeners. The handler comes up in the background: see
    /// [`Self::ready`].
    ///
    /// # Errors
    /// When the app would not load on the host, or a port is taken.
    pub async fn start(options: Options) -> Result<Self> {
        let mut app = App::load(&options.app_root.canonicalize().context("app folder")?, options.settings)?;
        app.check_connections();
        let mut app = app.usable()?;
        if let Some(executable) = options.executable {
            app.host.executable = executable.into_os_string().into_string().ok().context("path is not UTF-8")?;
        }
        let console = Arc::new(Console::new(options.sink));
        app.warnings.iter().for_each(|line| console.warning(line));
        app.faults.iter().for_each(|line| console.error(line));
        let shutdown = Shutdown::new();
        // Should the start fail half-way.
        let handler = shutdown.end.clone().drop_guard();
        let worker = Worker::start(&app, Arc::clone(&console), shutdown.clone())?;
        let invoker = Arc::new(Invoker::new(&app, worker, Arc::clone(&console), options.framing)?);
        let timings = options.timings;
        let timers = state::timers(&app, &invoker, &shutdown, timings)?;
        let state = Arc::new(HostState { app, shutdown: shutdown.clone(), timings, invoker, timers });
        let admin_port = match options.admin_port {
            Some(port) => Some(admin::serve(port, Arc::clone(&state)).await?),
            None => None,
        };
        state.listen()?;
        let ending = tokio::spawn(shutdown.clone().run(console));
        handler.disarm();
        Ok(Self { state, admin_port, shutdown, ending })
    }

    /// Waits until the handler answers.
    ///
    /// # Errors
    /// When it does not come up or the host stops.
    pub async fn ready(&self) -> Result<()> {
        self.state.invoker.worker.ready().await
    }

    /// Waits until a handler answers that is not the one with this process id: it takes the host a moment to notice
    /// that one has gone, and until then calls are refused.
    ///
    /// # Errors
    /// When it does not come up or the host stops.
    pub async fn ready_again(&self, gone: Option<i32>) -> Result<()> {
        let mut state = self.state.invoker.worker.state();
        let _ = state.wait_for(|state| !matches!(state, State::Ready(pid) if Some(*pid) == gone)).await;
        self.ready().await
    }

    /// Runs a function by hand and waits for its end: the admin endpoint without its fire and forget. For a function
    /// with a retry policy this is the last attempt.
    ///
    /// # Errors
    /// When there is no such function, or storage fails.
    pub async fn invoke(&self, function: &str, input: Option<&str>) -> Result<Invocation> {
        self.state.invoke(function, input).await
    }

    /// Lets a timer tick now as if its schedule said so, and waits for the end of all its attempts.
    ///
    /// # Errors
    /// When there is no such timer, or storage fails.
    pub async fn fire_timer(&self, function: &str) -> Result<Invocation> {
        self.state.timer(function)?.tick_now().await
    }

    /// Delivers a message to a queue function without a queue: nothing deletes it, nothing brings it back.
    ///
    /// # Errors
    /// When there is no such queue function.
    pub async fn deliver(&self, function: &str, text: &str) -> Result<Invocation> {
        let function = self.state.queue_function(function)?;
        let delivery = Delivery { function, message: &message(text), reason: DELIVERED };
        Ok(delivery.invoke(&self.state.invoker).await)
    }

    /// Delivers one message twice at the same instant, as happens when its visibility is lost.
    ///
    /// # Errors
    /// When there is no such queue function.
    pub async fn deliver_twice(&self, function: &str, text: &str) -> Result<[Invocation; 2]> {
        let function = self.state.queue_function(function)?;
        let first = message(text);
        let second = QueueMessage { dequeue_count: 2, ..first.clone() };
        let deliver = |message| Delivery { function, message, reason: DELIVERED }.invoke(&self.state.invoker);
        let (first, second) = tokio::join!(deliver(&first), deliver(&second));
        Ok([first, second])
    }

    /// Returns every finished invocation so far.
    pub fn invocations(&self) -> Vec<Invocation> {
        self.state.invoker.finished().clone()
    }

    /// Takes the finished invocations out of what [`Self::invocations`] returns, so that a host can run for days.
    pub fn take_invocations(&self) -> Vec<Invocation> {
        std::mem::take(&mut self.state.invoker.finished())
    }

    /// Returns every invocation that has not finished.
    pub fn running(&self) -> Vec<Running> {
        self.state.invoker.running().clone()
    }

    /// Waits until the finished invocations are as wanted, and returns them.
    ///
    /// # Errors
    /// When they are not within the limit.
    pub async fn wait_for(&self, wanted: impl Fn(&[Invocation]) -> bool, limit: Duration) -> Result<Vec<Invocation>> {
        let mut changes = self.state.invoker.changes();
        let wait = changes.wait_for(|_| wanted(&self.state.invoker.finished()));
        let done = tokio::time::timeout(limit, wait).await.is_ok();
        let invocations = self.invocations();
        if !done {
            bail!("not within {limit:?}; invocations so far: {invocations:#?}");
        }
        Ok(invocations)
    }

    /// Waits until a queue of an account is empty, hidden messages included, and nothing is running.
    ///
    /// # Errors
    /// When that takes longer than the limit, or the account cannot be reached.
    pub async fn drain(&self, account: &Account, queue: &str, limit: Duration) -> Result<()> {
        let empty = async {
            while !(self.state.invoker.running().is_empty() && account.queue_length(queue).await? == 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        let drained = tokio::time::timeout(limit, empty).await;
        drained.with_context(|| format!("queue {queue} is not empty after {limit:?}"))?
    }

    /// Makes the listeners look at their queues at once.
    pub fn poll_now(&self) {
        self.state.invoker.message_written.send_replace(());
    }

    /// Returns the console so far.
    pub fn lines(&self) -> Vec<Line> {
        self.state.invoker.console.lines()
    }

    /// Waits for a console line that contains `text`; one already written will do.
    ///
    /// # Errors
    /// When there is none within the limit.
    pub async fn wait_for_line(&self, text: &str, limit: Duration) -> Result<Line> {
        self.state.invoker.console.wait_for(text, limit).await
    }

    /// Returns the handler's process id, while it is up.
    pub fn worker_pid(&self) -> Option<i32> {
        self.state.invoker.worker.id()
    }

    /// Returns the handler's port, the same for all of its lives.
    pub fn worker_port(&self) -> u16 {
        self.state.invoker.worker.port
    }

    /// Kills the handler as a crash would; the host notices and starts it again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_worker(&self) -> Result<()> {
        self.state.invoker.worker.kill()
    }

    /// Kills the handler and starts it again as after a timeout, which the host does not count as an error.
    pub async fn restart_worker(&self) {
        self.state.invoker.worker.restart(self.worker_pid()).await;
    }

    /// Returns why the host stopped by itself, if it did.
    pub fn stopped(&self) -> Option<String> {
        match &*self.state.invoker.worker.state().borrow() {
            State::Stopped(reason) => Some(reason.clone()),
            State::Starting | State::Ready(_) => None,
        }
    }

    /// Waits until the host stops by itself, and returns why.
    pub async fn wait_until_stopped(&self) -> String {
        let mut state = self.state.invoker.worker.state();
        let stopped = state.wait_for(|state| matches!(state, State::Stopped(_))).await;
        match stopped.as_deref() {
            Ok(State::Stopped(reason)) => reason.clone(),
            _ => "stopped".to_owned(),
        }
    }

    /// Returns the port of the admin endpoint, if there is one.
    pub fn admin_port(&self) -> Option<u16> {
        self.admin_port
    }

    /// Returns the functions as Core Tools list them at the start: name and kind of trigger; and whether each is disabled.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &'static str, bool)> {
        self.state.app.functions.iter().map(|function| {
            let kind = if matches!(function.trigger, Trigger::Queue { .. }) { "queueTrigger" } else { "timerTrigger" };
            (function.name.as_str(), kind, function.disabled)
        })
    }

    /// Stops as the host does: first the listeners, then what is running, up to ten seconds, then the handler, without
    /// a word to it.
    pub async fn stop(mut self) {
        self.shutdown.stop.cancel();
        let _ = (&mut self.ending).await;
        self.wait_until_stopped().await;
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        self.shutdown.kill();
    }
}

/// Makes a message that seems to have been on a queue.
fn message(text: &str) -> QueueMessage {
    let now = OffsetDateTime::now_utc();
    let minutes = time::Duration::minutes;
    QueueMessage {
        identity: Some((Uuid::new_v4().to_string(), "AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=".to_owned())),
        content: text.into(),
        dequeue_count: 1,
        inserted: now,
        next_visible: now + minutes(10),
        expires: now + minutes(7 * 24 * 60),
    }
}
