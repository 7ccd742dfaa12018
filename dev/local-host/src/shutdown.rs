//! The end of a host, in its order: the listeners first, then what is running, and the handler last.
//!
//! In any other order invocations that are about to succeed would fail with the handler, be it somebody who stops the
//! host or something that it cannot go on with. `StopAsync` of `WebJobsScriptHostService` in
//! <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script.WebHost/WebJobsScriptHostService.cs>

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::console::Console;

/// The longest that invocations may go on after a stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The reason of a stop that was asked for.
const STOPPED: &str = "stopped";

/// The steps of a shutdown: the tokens that announce them, and the listeners that are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// Cancelled when the host stops.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the handler has to go, after everything else.
    pub(crate) end: CancellationToken,
    /// Cancelled when nothing is waited for any more.
    killed: CancellationToken,
    listeners: TaskTracker,
    reason: Arc<OnceLock<String>>,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        let [stop, end, killed] = std::array::from_fn(|_| CancellationToken::new());
        Self { stop, end, killed, listeners: TaskTracker::new(), reason: Arc::default() }
    }

    /// Stops the host for a reason of its own. The first one counts.
    pub(crate) fn begin(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.stop.cancel();
    }

    pub(crate) fn reason(&self) -> String {
        self.reason.get().map_or(STOPPED, String::as_str).to_owned()
    }

    /// Runs a listener until it ends or is killed.
    pub(crate) fn spawn(&self, listener: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        self.listeners.spawn(async move {
            tokio::select! {
                // First, so that a listener does nothing about its death.
                biased;
                () = killed.cancelled() => {}
                () = listener => {}
            }
        });
    }

    /// Waits for the stop, and then for the listeners, before the handler goes.
    pub(crate) async fn run(self, console: Arc<Console>) {
        self.stop.cancelled().await;
        self.listeners.close();
        if tokio::time::timeout(STOP_LIMIT, self.listeners.wait()).await.is_err() {
            console.warning("Some invocations did not shut down in time.");
            self.killed.cancel();
            self.listeners.wait().await;
        }
        self.end.cancel();
    }

    /// Ends everything at once, as the death of a process does.
    pub(crate) fn kill(&self) {
        self.killed.cancel();
        self.stop.cancel();
        self.end.cancel();
    }
}
