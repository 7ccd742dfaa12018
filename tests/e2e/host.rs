//! The host of a test: the local host, or the command in `E2E_HOST`, with `{port}` where its port belongs.
//!
//! ```sh
//! E2E_HOST='func start --port {port}' cargo test --test e2e -- --show-output    # and grep '^left out'
//! ```
//!
//! The command gets the folder of the app, which is its current one too, and the settings in its environment. What it does
//! is read from its console. It sees no answer of the handler and cannot be disturbed, so a test that needs that is left
//! out, by name: [`local_only`].

use anyhow::{Context, Result, bail, ensure};
use local_host::{
    Invocation, LocalHost, Options,
    console::{Level, Line},
};
use serde_json::json;
use std::{
    env,
    io::{BufRead, BufReader, PipeReader, pipe},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};
use test_storage::Account;
use time::OffsetDateTime;

/// Long enough for a busy machine: no test waits for it unless it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

const COMMAND: &str = "E2E_HOST";
const EXECUTABLE: &str = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
/// The attempts that `function.json` gives a tick.
const ATTEMPTS: usize = 4;
/// Beginnings of lines during an invocation that are no `Logs` of its answer: of the host, and of the handler itself.
const NO_LOGS: [&str; 4] = ["Trigger Details:", "Host lock lease", "WARN ", "ERROR "];

/// Leaves the test out under a command, and says so.
macro_rules! local_only {
    ($why:literal) => {
        if !$crate::host::is_local() {
            println!("left out: {}: {}", std::thread::current().name().unwrap_or_default(), $why);
            return;
        }
    };
}
pub(crate) use local_only;

pub(crate) fn is_local() -> bool {
    env::var_os(COMMAND).is_none()
}

/// Says whether a delivery failed or was not the first, where the host tells that.
pub(crate) fn costs_a_delivery(invocation: &Invocation) -> bool {
    !invocation.succeeded || (is_local() && invocation.dequeue_count != Some(1))
}

/// Says whether the answer had this return value, where the host tells that.
pub(crate) fn returned(invocation: &Invocation, receipt: &str) -> bool {
    !is_local() || invocation.return_value.as_ref().is_some_and(|value| value == receipt)
}

/// A host with one app.
pub(crate) enum Host {
    Local(LocalHost),
    Command(CommandHost),
}

impl Host {
    pub(crate) async fn start(options: Options) -> Result<Self> {
        match env::var(COMMAND) {
            Ok(command) => CommandHost::start(&command, &options).map(Self::Command),
            Err(_) => LocalHost::start(options).await.map(Self::Local),
        }
    }

    /// Returns the local host, for what no other can do.
    pub(crate) fn local(&self) -> &LocalHost {
        let Self::Local(host) = self else { panic!("say `local_only` at the start of this test") };
        host
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        match self {
            Self::Local(host) => host.ready().await,
            Self::Command(host) => host.line("Worker process started and initialized.", LIMIT).await.map(drop),
        }
    }

    /// Fires a timer and waits for its last attempt. Under a command each attempt has an id of its own.
    pub(crate) async fn fire_timer(&self, function: &str) -> Result<Invocation> {
        match self {
            Self::Local(host) => host.fire_timer(function).await,
            Self::Command(host) => host.invoke(function, json!({}).to_string(), ATTEMPTS).await,
        }
    }

    /// Delivers a message without a queue.
    pub(crate) async fn deliver(&self, function: &str, text: &str) -> Result<Invocation> {
        match self {
            Self::Local(host) => host.deliver(function, text).await,
            Self::Command(host) => host.invoke(function, json!({ "input": text }).to_string(), 1).await,
        }
    }

    /// Returns every finished invocation so far. Of those of a command nobody knows status, return value, dequeue count.
    pub(crate) fn invocations(&self) -> Vec<Invocation> {
        match self {
            Self::Local(host) => host.invocations(),
            Self::Command(host) => host.console().finished.clone(),
        }
    }

    pub(crate) async fn wait_for(
        &self,
        wanted: impl Fn(&[Invocation]) -> bool,
        limit: Duration,
    ) -> Result<Vec<Invocation>> {
        match self {
            Self::Local(host) => host.wait_for(wanted, limit).await,
            Self::Command(host) => {
                host.wait(limit, |console| wanted(&console.finished).then(|| console.finished.clone())).await
            }
        }
    }

    /// Waits until a queue is empty, hidden messages included, and nothing is running.
    pub(crate) async fn drain(&self, account: &Account, queue: &str, limit: Duration) -> Result<()> {
        match self {
            Self::Local(host) => host.drain(account, queue, limit).await,
            Self::Command(host) => {
                let start = Instant::now();
                while account.queue_length(queue).await? > 0 {
                    ensure!(start.elapsed() < limit, "queue {queue} is not empty after {limit:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                host.wait(limit, |console| (console.running == 0).then_some(())).await
            }
        }
    }

    /// Lets the local host look at its queues at once. Others do within a tenth of a second.
    pub(crate) fn poll_now(&self) {
        if let Self::Local(host) = self {
            host.poll_now();
        }
    }

    /// Returns the console so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        match self {
            Self::Local(host) => host.lines(),
            Self::Command(host) => host.console().lines.clone(),
        }
    }

    pub(crate) async fn wait_for_line(&self, text: &str, limit: Duration) -> Result<Line> {
        match self {
            Self::Local(host) => host.wait_for_line(text, limit).await,
            Self::Command(host) => host.line(text, limit).await,
        }
    }

    pub(crate) async fn stop(self) {
        match self {
            Self::Local(host) => host.stop().await,
            Self::Command(host) => {
                host.signal("TERM");
                let _ = host.wait(Duration::from_secs(15), |console| console.ended.then_some(())).await;
            }
        }
    }
}

/// A host that is a command, in a process group of its own. It is killed with all that is in there.
pub(crate) struct CommandHost {
    process: Child,
    port: u16,
    console: Arc<Mutex<Console>>,
}

/// The console so far, and what it tells.
#[derive(Default)]
struct Console {
    lines: Vec<Line>,
    running: usize,
    finished: Vec<Invocation>,
    /// The lines since the last invocation ended, which are the `Logs` of the next one to end.
    logs: Vec<String>,
    ended: bool,
}

impl Console {
    fn read(&mut self, line: &str) {
        let stamp = line.strip_prefix("[20").and_then(|line| line.split_once("] "));
        let text = stamp.map_or(line, |(_, text)| text).trim_start();
        if text.starts_with("Executing 'Functions.") {
            if self.running == 0 {
                self.logs.clear();
            }
            self.running += 1;
        } else if let Some(mut invocation) = Invocation::from_line(text) {
            invocation.logs = std::mem::take(&mut self.logs);
            self.running = self.running.saturating_sub(1);
            self.finished.push(invocation);
        } else if !NO_LOGS.iter().any(|start| text.starts_with(start)) {
            self.logs.push(text.to_owned());
        }
        let line = Line { time: OffsetDateTime::now_utc(), level: Level::Information, text: text.to_owned() };
        self.lines.push(line);
    }
}

impl CommandHost {
    fn start(command: &str, options: &Options) -> Result<Self> {
        let port = test_storage::free_port()?;
        let command = command.replace("{port}", &port.to_string());
        // Without a shell, which would drop settings with a dot in their name.
        let mut words = command.split_whitespace();
        let (output, both) = pipe()?;
        let process = Command::new(words.next().context(COMMAND)?)
            .args(words)
            .current_dir(&options.app_root)
            .env("AzureWebJobsScriptRoot", &options.app_root)
            .envs(&options.settings)
            .envs(options.executable.iter().map(|executable| (EXECUTABLE, executable)))
            .stdin(Stdio::null())
            .stdout(both.try_clone()?)
            .stderr(both)
            .process_group(0)
            .spawn()
            .with_context(|| command.clone())?;
        let console = Arc::new(Mutex::new(Console::default()));
        let reader = Arc::clone(&console);
        thread::spawn(move || read_lines(output, &reader));
        Ok(Self { process, port, console })
    }

    fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap()
    }

    /// Waits until the console tells something.
    async fn wait<T>(&self, limit: Duration, told: impl Fn(&Console) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            {
                let console = self.console();
                if let Some(told) = told(&console) {
                    return Ok(told);
                }
                if console.ended || start.elapsed() > limit {
                    let lines: Vec<_> = console.lines.iter().map(|line| line.text.as_str()).collect();
                    bail!("not within {limit:?}, ended {}; the console:\n  {}", console.ended, lines.join("\n  "));
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn line(&self, text: &str, limit: Duration) -> Result<Line> {
        self.wait(limit, |console| console.lines.iter().find(|line| line.text.contains(text)).cloned()).await
    }

    /// Runs a function by hand and waits until an attempt has succeeded or the last has failed.
    async fn invoke(&self, function: &str, body: String, attempts: usize) -> Result<Invocation> {
        let of_function = |console: &Console| {
            console.finished.iter().filter(|one| one.function == function).cloned().collect::<Vec<_>>()
        };
        let before = of_function(&self.console()).len();
        self.post(function, body).await?;
        let last = self.wait(LIMIT * 2, |console| {
            let (index, mut last) = of_function(console).into_iter().skip(before).enumerate().next_back()?;
            last.attempt = u32::try_from(index).ok()?;
            (last.succeeded || index + 1 == attempts).then_some(last)
        });
        last.await
    }

    /// Asks until the host is up, which can be after its handler is.
    async fn post(&self, function: &str, body: String) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/admin/functions/{function}", self.port);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let start = Instant::now();
        loop {
            let request = client.post(&url).header("content-type", "application/json").body(body.clone());
            match request.send().await.map(|answer| answer.status().as_u16()) {
                Ok(202) => return Ok(()),
                Ok(503) | Err(_) if start.elapsed() < LIMIT => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => bail!("{url}: {answer:?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} -- -{}", self.process.id());
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    }
}

impl Drop for CommandHost {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.process.wait();
    }
}

fn read_lines(output: PipeReader, console: &Mutex<Console>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        console.lock().unwrap().read(String::from_utf8_lossy(&line).trim_end_matches('\r'));
    }
    console.lock().unwrap().ended = true;
}
