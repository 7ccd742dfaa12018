//! Starts the handler with the host's environment and reads what it prints.
//!
//! The environment is all that a handler knows of its host, and its output all that an operator sees of a handler.
//! `HttpWorkerProcess` and `WorkerProcess` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script/Workers>

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};
use uuid::Uuid;

use crate::{
    bindings::App,
    console::{Console, Level},
};

/// The command line and environment of the handler.
pub(super) struct Launch {
    pub(super) executable: String,
    arguments: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

/// A running handler.
pub(super) struct Process {
    pub(super) child: Child,
    last_errors: Arc<Mutex<VecDeque<String>>>,
}

impl Launch {
    pub(super) fn new(app: &App, port: u16) -> Self {
        let mut environment = app.settings.clone();
        let port = port.to_string();
        let root = app.root.to_string_lossy();
        let own = [
            ("FUNCTIONS_CUSTOMHANDLER_PORT", port.as_str()),
            ("FUNCTIONS_APP_ROOT_PATH", &root),
            ("FUNCTIONS_HTTPWORKER_PORT", &port),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Self {
            executable: app.host.executable.clone(),
            arguments: app.host.arguments.clone(),
            folder: app.root.join(&app.host.working_directory),
            environment,
        }
    }

    /// Starts a handler under an id that no other one has had.
    pub(super) fn spawn(&self, id: Uuid, console: &Arc<Console>) -> std::io::Result<Process> {
        let id = id.to_string();
        let mut child = Command::new(&self.executable)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .envs(&self.environment)
            .envs(["FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "FUNCTIONS_HTTPWORKER_ID"].map(|name| (name, &id)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the host, which then ends the handler; without this it would look like a crash.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let last_errors = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            let console = Arc::clone(console);
            tokio::spawn(for_each_line(stdout, move |line| console.write(Level::Information, line)));
        }
        if let Some(stderr) = child.stderr.take() {
            let (console, last_errors) = (Arc::clone(console), Arc::clone(&last_errors));
            tokio::spawn(for_each_line(stderr, move |line| write_error(&console, &last_errors, line)));
        }
        Ok(Process { child, last_errors })
    }
}

impl Process {
    pub(super) fn id(&self) -> i32 {
        self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default()
    }

    /// Words an exit as the host does.
    pub(super) async fn exit_message(&self, executable: &str, status: ExitStatus) -> String {
        // As .NET has it: 128 + n for a death by signal n.
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        let code = status.code().unwrap_or(128 + signal);
        // The pipes may still hold the last words.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let last = self.last_errors.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        format!("{executable} exited with code {code} (0x{code:X}). {last}")
    }
}

async fn for_each_line(stream: impl AsyncRead + Unpin, mut write: impl FnMut(String)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    // Bytes, because a line that is not UTF-8 must not end the reading.
    while stream.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        write(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        line.clear();
    }
}

/// Writes a line on stderr; the host quotes the last three errors when the handler exits.
fn write_error(console: &Console, last_errors: &Mutex<VecDeque<String>>, line: String) {
    let level = level(&line);
    if level == Level::Error {
        let mut last = last_errors.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(line.clone());
        if last.len() > 3 {
            last.pop_front();
        }
    }
    console.write(level, line);
}

/// Returns the level of a line on stderr; those on stdout are information.
fn level(line: &str) -> Level {
    if line.to_lowercase().contains("warn") { Level::Warning } else { Level::Error }
}
