//! Keeps the handler alive, within the limits of the host's patience.

use std::{
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    ExitZero, Request, State,
    launch::{Launch, Process},
};
use crate::{console::Console, handler_client::Prober};

const PROBE_INTERVAL: Duration = Duration::from_millis(25);
/// This many errors, each this soon after the one before, stop the host.
const ERRORS: usize = 3;
const ERROR_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The exit code by which a handler asks for a restart that is not held against it.
const INTENTIONAL_RESTART: i32 = 200;

pub(super) struct Supervisor {
    pub(super) launch: Launch,
    pub(super) probe: Probe,
    pub(super) exit_zero: ExitZero,
    pub(super) console: Arc<Console>,
    pub(super) state: watch::Sender<State>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) errors: ErrorBucket,
    pub(super) stop: CancellationToken,
}

/// The reason of a stop that was asked for.
const STOPPED: &str = "stopped";

/// Why one life of the handler ended.
enum End {
    Exited(ExitStatus),
    NeverReady,
    Restart,
    Stop(String),
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        let reason = self.keep_alive().await;
        self.state.send_replace(State::Stopped(reason));
    }

    /// Returns why the host stops.
    async fn keep_alive(&mut self) -> String {
        loop {
            let mut process = match self.launch.spawn(&self.console) {
                Ok(process) => process,
                Err(error) => return self.not_started(&error).await,
            };
            let end = self.watch(&mut process).await;
            self.state.send_replace(State::Starting);
            // SIGKILL, and no word before it.
            let _ = process.child.start_kill();
            let _ = process.child.wait().await;
            let error = match end {
                End::Stop(reason) => return reason,
                End::Restart => continue,
                End::NeverReady => "Initializing HttpWorker timed out.".to_owned(),
                End::Exited(status) => process.obituary(&self.launch.executable, status).await,
            };
            self.console.error(error);
            if self.errors.is_full_after(Instant::now()) {
                let reason = "Exceeded http worker restart retry count. Shutting down Functions Host";
                self.console.error(reason);
                return reason.to_owned();
            }
        }
    }

    // The host neither retries nor reports further; invocations wait until they give up.
    async fn not_started(&mut self, error: &std::io::Error) -> String {
        let executable = &self.launch.executable;
        self.console.error(format!("Failed to start Worker Channel. Process fileName: {executable} ({error})"));
        loop {
            // There is no process to restart.
            if let End::Stop(reason) = self.requested(0).await {
                return reason;
            }
        }
    }

    async fn watch(&mut self, process: &mut Process) -> End {
        let (id, exit_zero) = (process.id(), self.exit_zero);
        tokio::select! {
            () = self.stop.cancelled() => return End::Stop(STOPPED.to_owned()),
            end = exit(process, exit_zero) => return end,
            ready = self.probe.run() => {
                if !ready {
                    return End::NeverReady;
                }
            }
        }
        self.console.information("Worker process started and initialized.");
        self.state.send_replace(State::Ready(id));
        tokio::select! {
            end = self.requested(id) => end,
            end = exit(process, exit_zero) => end,
        }
    }

    /// Waits for a request that concerns the process with this id.
    async fn requested(&mut self, process: i32) -> End {
        loop {
            let request = tokio::select! {
                () = self.stop.cancelled() => None,
                request = self.requests.recv() => request,
            };
            match request {
                None => return End::Stop(STOPPED.to_owned()),
                Some(Request::Stop(reason)) => return End::Stop(reason),
                Some(Request::Restart(id)) if id == process => return End::Restart,
                // Of two invocations that time out together, the second means a process that is gone.
                Some(Request::Restart(_)) => {}
            }
        }
    }
}

/// Waits for an exit that the host takes notice of.
async fn exit(process: &mut Process, exit_zero: ExitZero) -> End {
    let Ok(status) = process.child.wait().await else { return std::future::pending().await };
    match (status.code(), exit_zero) {
        (Some(INTENTIONAL_RESTART), _) | (Some(0), ExitZero::Restarts) => End::Restart,
        // Nothing happens: the host takes the handler for alive, and every call is refused.
        (Some(0), ExitZero::Ignored) => std::future::pending().await,
        _ => End::Exited(status),
    }
}

/// The host's sign of life: any answer to `GET /`.
pub(super) struct Probe {
    pub(super) prober: Prober,
    pub(super) limit: Duration,
}

impl Probe {
    /// Asks until somebody answers, whatever the answer. Each miss counts 25 ms, however long it took.
    async fn run(&self) -> bool {
        for _ in 0..self.limit.as_millis() / PROBE_INTERVAL.as_millis() {
            if self.prober.is_alive().await {
                return true;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        false
    }
}

/// The recent errors of a handler.
#[derive(Debug, Default)]
pub(super) struct ErrorBucket(Vec<Instant>);

impl ErrorBucket {
    /// Counts an error, and says whether that is one too many.
    fn is_full_after(&mut self, now: Instant) -> bool {
        if self.0.last().is_some_and(|last| now - *last > ERROR_INTERVAL) {
            self.0.clear();
        }
        self.0.push(now);
        self.0.len() >= ERRORS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_errors_in_a_row_are_too_many() {
        let start = Instant::now();
        let minute = |minute: u64| start + Duration::from_secs(60 * minute);
        let mut bucket = ErrorBucket::default();
        let full: Vec<_> = [0, 29, 58].map(|time| bucket.is_full_after(minute(time))).into();
        assert_eq!(full, [false, false, true]);
        let mut bucket = ErrorBucket::default();
        let full: Vec<_> = [0, 29, 60, 61].map(|time| bucket.is_full_after(minute(time))).into();
        assert_eq!(full, [false, false, false, false]);
    }
}
