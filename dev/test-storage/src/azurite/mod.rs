//! A storage emulator of one's own: Azurite, started on free ports, with an account for every test.
//!
//! Tables, queues and blobs are the real product's as nearly as one gets without an account in the cloud.
//! <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>

mod install;

use std::{
    io::{BufRead, BufReader, Read, Seek},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::{
    account::{Account, EMULATOR_ACCOUNT, EMULATOR_KEY},
    ports::free_port,
};

/// The blob, queue and table ports that every tool expects.
pub const STANDARD_PORTS: [u16; 3] = [10_000, 10_001, 10_002];
/// Enough for every test of a process to have its own.
const ACCOUNTS: usize = 400;
/// It takes one to two seconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// It writes its files then, on a busy machine beside others.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// An hour: longer than any of our clients keeps a connection.
const KEEP_ALIVE_SECONDS: &str = "3600";
/// Runs its arguments and ends them when its standard input ends, which happens at our own death, however sudden.
/// Job control is off, so the command would ignore SIGINT if it did not install a handler, which Azurite does.
const WATCHDOG: &str = r#"exec 3<&0
"$@" 3<&- </dev/null >/dev/null &
child=$!
echo $child
{ cat <&3 >/dev/null; kill -KILL $child 2>/dev/null; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $child
kill $watch 2>/dev/null"#;

/// The ports that Azurite listens on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// On ports nobody uses.
    Free,
    /// On [`STANDARD_PORTS`].
    Standard,
}

/// The life of the data.
#[derive(Clone, Debug)]
pub enum Persistence {
    /// Gone with the process.
    Memory,
    /// Written to a folder: every five seconds and at a graceful stop, so [`Azurite::kill`] may lose the latest.
    Folder(PathBuf),
}

/// A running Azurite. It ends when this is dropped, and also when this process is killed.
#[derive(Debug)]
pub struct Azurite {
    script: PathBuf,
    ports: [u16; 3],
    persistence: Persistence,
    accounts: AtomicUsize,
    process: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Process {
    watchdog: Child,
    azurite: Pid,
    errors: std::fs::File,
}

/// Returns the Azurite that all tests of a process share. Each takes an [`Azurite::account`] of its own.
///
/// # Errors
/// Those of [`Azurite::start`].
pub async fn shared() -> Result<&'static Azurite> {
    static SHARED: OnceCell<Azurite> = OnceCell::const_new();
    SHARED.get_or_try_init(|| Azurite::start(Ports::Free, Persistence::Memory)).await
}

impl Azurite {
    /// Installs Azurite if need be, starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// When Node.js is missing, the installation fails or the ports are taken.
    pub async fn start(ports: Ports, persistence: Persistence) -> Result<Self> {
        let script = tokio::task::spawn_blocking(install::install).await??;
        let mut attempts = if ports == Ports::Free { 3 } else { 1 };
        loop {
            attempts -= 1;
            let numbers = if ports == Ports::Free { free_ports()? } else { STANDARD_PORTS };
            let (script, persistence) = (script.clone(), persistence.clone());
            let (accounts, process) = (AtomicUsize::new(0), Mutex::new(None));
            let azurite = Self { script, ports: numbers, persistence, accounts, process };
            match azurite.launch().await {
                // Somebody else may have taken a port since it was found free.
                Err(error) if attempts > 0 => drop(error),
                Err(error) => return Err(error),
                Ok(()) => return Ok(azurite),
            }
        }
    }

    /// Starts it again on the same ports after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.launch().await {
                // While it was down somebody else may have used a port, for a connection of his own.
                Err(error) if Instant::now() < deadline => drop(error),
                result => return result,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn launch(&self) -> Result<()> {
        let mut process = self.spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while !self.ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
            if process.watchdog.try_wait()?.is_some() {
                bail!("Azurite ended at once: {}", process.error_text());
            }
            ensure!(Instant::now() < deadline, "Azurite did not start within {START_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        // Another process on the same port would have accepted as well.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if process.watchdog.try_wait()?.is_some() {
            bail!("Azurite ended at once: {}", process.error_text());
        }
        *self.process() = Some(process);
        Ok(())
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        let process = self.process().take();
        drop(process);
    }

    /// Ends it gracefully: what is on disk then is complete.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn stop(&self) -> Result<()> {
        let Some(mut process) = self.process().take() else { return Ok(()) };
        kill_process(process.azurite, Signal::INT).context("cannot stop Azurite")?;
        let deadline = Instant::now() + STOP_LIMIT;
        while process.watchdog.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "Azurite did not stop within {STOP_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// Returns the next unused account: empty, and nobody else's.
    ///
    /// # Errors
    /// When all are used up.
    pub fn account(&self) -> Result<Account> {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(number <= ACCOUNTS, "all {ACCOUNTS} accounts are used up");
        Account::on_loopback(&account_name(number), &account_key(number), self.ports)
    }

    /// Returns the account that tools know as `UseDevelopmentStorage=true`.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn development_account(&self) -> Result<Account> {
        Account::on_loopback(EMULATOR_ACCOUNT, EMULATOR_KEY, self.ports)
    }

    /// Returns the blob, queue and table ports.
    pub fn ports(&self) -> [u16; 3] {
        self.ports
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // With the standard library's processes and not tokio's: it outlives the runtime of the test that started it.
    fn spawn(&self) -> Result<Process> {
        let errors = tempfile::tempfile()?;
        let [blob, queue, table] = self.ports.map(|port| port.to_string());
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "azurite-watchdog", "node"]).arg(&self.script);
        command.args(["--silent", "--disableTelemetry"]);
        command.args(["--blobPort", &blob, "--queuePort", &queue, "--tablePort", &table]);
        // On a busy machine the default of five seconds closes connections under requests that are on their way.
        for service in ["blob", "queue", "table"] {
            command.args([format!("--{service}KeepAliveTimeout"), KEEP_ALIVE_SECONDS.to_owned()]);
        }
        match &self.persistence {
            Persistence::Memory => command.arg("--inMemoryPersistence"),
            Persistence::Folder(folder) => command.arg("--location").arg(folder),
        };
        command.env("AZURITE_ACCOUNTS", account_list());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
        // Out of the terminal's process group: at Ctrl-C storage goes last.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut watchdog = command.spawn().context("cannot run `sh`")?;
        let mut line = String::new();
        let output = watchdog.stdout.take().context("no output of the watchdog")?;
        BufReader::new(output).read_line(&mut line)?;
        let azurite = line.trim().parse().ok().and_then(Pid::from_raw).context("the watchdog started nothing")?;
        Ok(Process { watchdog, azurite, errors })
    }
}

impl Process {
    fn error_text(&mut self) -> String {
        let mut text = String::new();
        let read = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
        read.map_or_else(|error| error.to_string(), |_| text.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input makes the watchdog kill Azurite; waiting for it frees the ports before we go on.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

fn free_ports() -> Result<[u16; 3]> {
    Ok([free_port()?, free_port()?, free_port()?])
}

fn account_name(number: usize) -> String {
    format!("test{number:03}")
}

fn account_key(number: usize) -> String {
    STANDARD.encode(Sha256::digest(account_name(number)))
}

fn account_list() -> String {
    let tests = (1..=ACCOUNTS).map(|number| format!(";{}:{}", account_name(number), account_key(number)));
    format!("{EMULATOR_ACCOUNT}:{EMULATOR_KEY}") + &tests.collect::<String>()
}
