//! The handler as a process: started, probed, restarted and killed as the host does it.
//!
//! The host knows one signal, SIGKILL, and one sign of life, any answer to `GET /`. What it does about an exit depends
//! on the code. `HttpWorkerProcess`, `HttpFunctionInvocationDispatcher` and `WorkerProcess` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers>

mod supervisor;
mod launch;
mod state;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{mpsc, watch};

use test_storage::free_port;

use crate::{bindings::App, console::Console, handler_client::Prober, shutdown::Shutdown};

use launch::Launch;
use supervisor::{ErrorBucket, Probe, Supervisor};

pub(crate) use state::State;

pub(crate) struct Worker {
    pub(crate) port: u16,
    state: watch::Receiver<State>,
    /// The ids of processes that want replacing.
    replaced: mpsc::UnboundedSender<i32>,
    shutdown: Shutdown,
    initialization_timeout: Duration,
}

/// By so much the host's HTTP client is more patient than its functions.
const HTTP_MARGIN: Duration = Duration::from_secs(60);

impl Worker {
    /// Chooses the port and starts the handler in the background, until the host has shut down.
    pub(crate) fn start(app: &App, console: Arc<Console>, shutdown: Shutdown) -> Result<Self> {
        let port = free_port()?;
        let initialization_timeout = app.host.initialization_timeout;
        let prober =
            Prober::new(port, app.host.function_timeout.unwrap_or(Duration::MAX / 2).saturating_add(HTTP_MARGIN));
        let (state_sender, state) = watch::channel(State::Starting);
        let (replaced, receiver) = mpsc::unbounded_channel();
        let supervisor = Supervisor {
            launch: Launch::new(app, port),
            probe: Probe { prober, limit: initialization_timeout },
            console,
            state: state_sender,
            replaced: receiver,
            errors: ErrorBucket::default(),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(supervisor.run());
        Ok(Self { port, state, replaced, shutdown, initialization_timeout })
    }

    /// Waits until the handler is up, as every invocation does.
    pub(crate) async fn ready(&self) -> Result<()> {
        // The host waits for four starts, then it gives up and stops.
        let limit = self.initialization_timeout * 4;
        let mut state = self.state.clone();
        let up = state.wait_for(|state| *state != State::Starting);
        let Ok(state) = tokio::time::timeout(limit, up).await else {
            self.stop_host("Initialization timed out and host is shutting down");
            bail!("Final functionDispatcher state: Initializing. Initialization timed out and host is shutting down");
        };
        match &*state? {
            State::Stopped(reason) => bail!("the host has stopped: {reason}"),
            State::Starting | State::Ready(_) => Ok(()),
        }
    }

    /// Kills the handler and starts it again, without counting that as an error.
    pub(crate) async fn restart(&self, process: Option<i32>) {
        let Some(process) = process else { return };
        let _ = self.replaced.send(process);
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state != State::Ready(process)).await;
    }

    /// Ends the host because of something it cannot go on with.
    pub(crate) fn stop_host(&self, reason: &str) {
        self.shutdown.begin(reason);
    }

    pub(crate) fn id(&self) -> Option<i32> {
        match *self.state.borrow() {
            State::Ready(id) => Some(id),
            State::Starting | State::Stopped(_) => None,
        }
    }

    /// Kills the handler behind the host's back.
    pub(crate) fn kill(&self) -> Result<()> {
        let process = self.id().and_then(Pid::from_raw).context("the handler is not running")?;
        kill_process(process, Signal::KILL).context("cannot kill the handler")
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}
