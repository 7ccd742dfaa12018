//! A handler that runs for itself, and what the operating system says it uses.

use std::{
    fs::{self, File},
    io::{Read, Seek},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use test_storage::free_port;

/// The program to run, its folder and its storage.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) executable: &'a Path,
    /// The folder with `host.json`.
    pub(super) root: &'a Path,
    /// The connection string of the storage account.
    pub(super) connection: &'a str,
}

/// A running handler; it ends when this is dropped.
pub(super) struct Handler {
    child: Child,
    errors: File,
    pub(super) port: u16,
    pub(super) spawned: Instant,
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) now: u64,
    pub(super) peak: u64,
}

impl Handler {
    /// Starts it as the host does. It is not ready then.
    pub(super) fn spawn(program: Program<'_>) -> Result<Self> {
        let port = free_port()?;
        let errors = tempfile::tempfile()?;
        let mut command = Command::new(program.executable);
        command
            .current_dir(program.root)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_APP_ROOT_PATH", program.root)
            .env("AzureWebJobsStorage", program.connection)
            // What is measured is the handler as it is deployed.
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone()?);
        let spawned = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", program.executable.display()))?;
        Ok(Self { child, errors, port, spawned })
    }

    /// Its processor time so far, where the system has `/proc`.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        cpu_time(&self.child.id().to_string())
    }

    /// Its memory, where the system has `/proc`.
    pub(super) fn memory(&self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().split(' ').next()?.parse().ok()
        };
        Some(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Says whether it has not ended by itself.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, which it does when it has published what it answered.
    pub(super) async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while self.is_running() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Returns its output on stderr, in a sentence.
    pub(super) fn complaint(&mut self) -> String {
        let mut text = String::new();
        let read = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
        match (read, text.trim()) {
            (Err(error), _) => format!("what the handler said cannot be read: {error}"),
            (Ok(_), "") => "the handler said nothing".to_owned(),
            (Ok(_), said) => format!("the handler said: {said}"),
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the processor time of this process, where the system has `/proc`.
pub(super) fn own_cpu_time() -> Option<Duration> {
    cpu_time("self")
}

/// Returns the user and system time of all threads, also those that ended.
/// [`/proc/pid/stat`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)
fn cpu_time(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program comes second, and may hold anything; the state is the first field after it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64((user + system) as f64 / ticks_per_second as f64))
}
