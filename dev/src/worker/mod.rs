//! The handler as a process: started, probed, restarted and killed as the host does it.
//!
//! The host knows one signal, SIGKILL, and one sign of life, any answer to `GET /`. What it does about an exit depends
//! on the code. `HttpWorkerProcess`, `HttpFunctionInvocationDispatcher` and `WorkerProcess` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers>

mod launch;
mod supervisor;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{bindings::App, console::Console, handler_client::Prober, ports::free_port};

use launch::Launch;
use supervisor::{ErrorBucket, Probe, Supervisor};

/// What the host does when the handler exits with code 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExitZero {
    /// Nothing, so that every later call fails: the hosts of many years.
    #[default]
    Ignored,
    /// Starts it again, as hosts do since 2026.
    Restarts,
}

/// Where the handler is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Starting,
    Ready(i32),
    Stopped(String),
}

pub(crate) struct Worker {
    pub(crate) port: u16,
    state: watch::Receiver<State>,
    requests: mpsc::UnboundedSender<Request>,
    initialization_timeout: Duration,
    prober: Prober,
}

/// By so much the host's HTTP client is more patient than its functions.
const HTTP_MARGIN: Duration = Duration::from_secs(60);

/// What the rest of the host wants of the handler's process.
enum Request {
    /// A new process in the place of the one with this id.
    Restart(i32),
    /// The end of the host, for this reason.
    Stop(String),
}

impl Worker {
    /// Chooses the port and starts the handler in the background; `stop` ends it.
    pub(crate) fn start(
        app: &App,
        console: Arc<Console>,
        exit_zero: ExitZero,
        stop: CancellationToken,
    ) -> Result<Self> {
        let port = free_port()?;
        let initialization_timeout = app.host.initialization_timeout;
        let prober =
            Prober::new(port, app.host.function_timeout.unwrap_or(Duration::MAX / 2).saturating_add(HTTP_MARGIN));
        let (state_sender, state) = watch::channel(State::Starting);
        let (requests, receiver) = mpsc::unbounded_channel();
        let supervisor = Supervisor {
            launch: Launch::new(app, port),
            probe: Probe { prober: prober.clone(), limit: initialization_timeout },
            exit_zero,
            console,
            state: state_sender,
            requests: receiver,
            errors: ErrorBucket::default(),
            stop,
        };
        tokio::spawn(supervisor.run());
        Ok(Self { port, state, requests, initialization_timeout, prober })
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
        let _ = self.requests.send(Request::Restart(process));
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state != State::Ready(process)).await;
    }

    /// Ends the host because of something it cannot go on with.
    pub(crate) fn stop_host(&self, reason: &str) {
        let _ = self.requests.send(Request::Stop(reason.to_owned()));
    }

    pub(crate) fn id(&self) -> Option<i32> {
        match *self.state.borrow() {
            State::Ready(id) => Some(id),
            State::Starting | State::Stopped(_) => None,
        }
    }

    /// Asks the handler for a sign of life, as a health check does, which ignores the answer.
    pub(crate) async fn ping(&self) {
        self.prober.is_alive().await;
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
