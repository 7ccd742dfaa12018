//! Keeps the handler alive, within the limits of the host's patience.
//!
//! It notices a handler that starts too slowly, exits with the wrong code or crashes too often. So each
//! limit is the host's own. `HttpFunctionInvocationDispatcher` and `HttpWorkerChannel` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers/Http>

use std::{
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::{
    console::Console,
    handler_client::{Prober, Sign},
    shutdown::Shutdown,
};

use super::{
    launch::{Launch, Process},
    state::State,
};

const PROBE_INTERVAL: Duration = Duration::from_millis(25);
/// This many errors, each this soon after the one before, stop the host.
const ERRORS: usize = 3;
const ERROR_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The exit code by which a handler asks for a restart that is not held against it.
const INTENTIONAL_RESTART: i32 = 200;

pub(super) struct Supervisor {
    pub(super) launch: Launch,
    pub(super) probe: Probe,
    pub(super) console: Arc<Console>,
    pub(super) state: watch::Sender<State>,
    /// The ids of processes that want replacing.
    pub(super) replaced: mpsc::UnboundedReceiver<i32>,
    pub(super) errors: ErrorBucket,
    pub(super) shutdown: Shutdown,
}

/// Why one life of the handler ended.
enum End {
    Exited(ExitStatus),
    NeverReady,
    Restart,
    Stop,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        self.keep_alive().await;
        self.state.send_replace(State::Stopped(self.shutdown.reason()));
    }

    /// Returns when the host is at its end, or has to come to it.
    async fn keep_alive(&mut self) {
        loop {
            let mut process = match self.launch.spawn(Uuid::new_v4(), &self.console) {
                Ok(process) => process,
                Err(error) => return self.not_started(&error).await,
            };
            let end = self.watch(&mut process).await;
            self.state.send_replace(State::Starting);
            // SIGKILL, and no word before it.
            let _ = process.child.start_kill();
            let _ = process.child.wait().await;
            let error = match end {
                End::Stop => return,
                End::Restart => continue,
                End::NeverReady => "Initializing HttpWorker timed out.".to_owned(),
                End::Exited(status) => process.exit_message(&self.launch.executable, status).await,
            };
            self.console.error(error);
            if self.errors.is_full_after(Instant::now()) {
                let reason = "Exceeded http worker restart retry count. Shutting down Functions Host";
                self.console.error(reason);
                return self.shutdown.begin(reason);
            }
        }
    }

    // The host neither retries nor reports further; invocations wait until they give up.
    async fn not_started(&self, error: &std::io::Error) {
        let executable = &self.launch.executable;
        self.console.error(format!("Failed to start Worker Channel. Process fileName: {executable} ({error})"));
        self.console
            .error("Build it for this system and make it executable, or name another as defaultExecutablePath.");
        self.shutdown.end.cancelled().await;
    }

    async fn watch(&mut self, process: &mut Process) -> End {
        let (id, end) = (process.id(), self.shutdown.end.clone());
        tokio::select! {
            // The end is first: a handler that exits as fast as it starts must not keep the host from it.
            biased;
            () = end.cancelled() => return End::Stop,
            end = exit(process) => return end,
            ready = self.probe.run() => {
                if !ready {
                    return End::NeverReady;
                }
            }
        }
        self.console.information("Worker process started and initialized.");
        self.state.send_replace(State::Ready(id));
        tokio::select! {
            biased;
            () = end.cancelled() => End::Stop,
            end = self.request(id) => end,
            end = exit(process) => end,
        }
    }

    /// Waits until somebody wants another process in the place of the one with this id, or nobody is left to want one.
    async fn request(&mut self, process: i32) -> End {
        loop {
            match self.replaced.recv().await {
                None => return End::Stop,
                Some(id) if id == process => return End::Restart,
                // Of two invocations that time out together, the second means a process that is gone.
                Some(_) => {}
            }
        }
    }
}

/// Waits for an exit that the host takes notice of.
async fn exit(process: &mut Process) -> End {
    let Ok(status) = process.child.wait().await else { return std::future::pending().await };
    match status.code() {
        Some(INTENTIONAL_RESTART) => End::Restart,
        // Nothing happens: the host takes the handler for alive, and every call is refused. Later hosts start it again.
        Some(0) => std::future::pending().await,
        _ => End::Exited(status),
    }
}

/// The host's sign of life: any answer to `GET /`.
pub(super) struct Probe {
    pub(super) prober: Prober,
    pub(super) limit: Duration,
}

impl Probe {
    /// Probes until there is any answer.
    async fn run(&self) -> bool {
        for _ in 0..attempts(self.limit) {
            match self.prober.probe().await {
                Sign::Life => return true,
                Sign::Refusal => tokio::time::sleep(PROBE_INTERVAL).await,
                Sign::Silence => return false,
            }
        }
        false
    }
}

/// Counts the attempts within a limit: each miss counts 25 ms, however long it took.
fn attempts(limit: Duration) -> u128 {
    limit.as_millis() / PROBE_INTERVAL.as_millis()
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
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_start_of_thirty_seconds_is_1200_attempts() {
        assert_eq!(attempts(Duration::from_secs(30)), 1_200);
    }

    #[tokio::test]
    async fn a_handler_that_lets_a_probe_run_into_its_limit_has_failed_to_start() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prober = Prober::new(mute.local_addr().unwrap().port(), Duration::from_millis(50));
        assert!(!Probe { prober, limit: Duration::from_secs(30) }.run().await);
    }

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
