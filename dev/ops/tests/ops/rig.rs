//! An account of the emulator, the handler's code over it, and the tool as a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use azure_core::HttpClient;
use handler::{
    attempt::Attempt,
    config::Config,
    functions::{
        App,
        queue_with_idempotency::{self, Served, read_and_decide},
    },
    idempotency::Key,
    quarantine::{QueueMessage, Reason, Rejection},
    storage::PooledClient,
};
use local_host::{LocalHost, Options, bindings::local_settings};
use serde_json::{Value, json};
use test_storage::{Account, Fault, FaultProxy, Gate, Kind, Request, Row, azurite};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::order::DOMAIN;

/// A text in messages that no output may have.
pub(crate) const SECRET: &str = "s3cret-4111";

/// Characters by which a message would clear the screen, colour it and turn the text round.
pub(crate) const STEERING: &str = "\u{9b}2J\u{1b}[31m\u{202e}";

const TABLE: &str = "idempotency";

fn command(account: &Account, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ops"));
    command.args(arguments).args(["--connection", &account.connection_string()]).stdin(Stdio::null());
    command
}

pub(crate) struct Rig {
    pub(crate) account: Account,
    app: App,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let account = azurite::shared().await.unwrap().account().unwrap();
        let settings = [
            ("AzureWebJobsStorage", account.connection_string()),
            ("FUNCTIONS_CUSTOMHANDLER_PORT", "0".to_owned()),
            ("FUNCTIONS_APP_ROOT_PATH", workspace::app_root().unwrap().display().to_string()),
        ];
        let settings: BTreeMap<_, _> = settings.map(|(name, value)| (name.to_owned(), value)).into();
        let config = Config::from_settings(&settings).unwrap();
        let client = Arc::new(PooledClient::new(true));
        let opened = config.connection.account(client.clone(), OffsetDateTime::now_utc).unwrap();
        let client: Arc<dyn HttpClient> = client;
        Self { app: App::new(DOMAIN, &opened, &client, &config.app), account }
    }

    /// Runs the tool with JSON output; returns exit code and lines.
    pub(crate) async fn ops(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        self.ops_with(&[], arguments).await
    }

    /// The same with other settings. No secret is in the output, in either form, unless it was asked for.
    pub(crate) async fn ops_with(&self, settings: &[(&str, &str)], arguments: &[&str]) -> (i32, Vec<Value>) {
        let mut command = command(&self.account, &[arguments, &["--json"]].concat());
        command.envs(settings.iter().copied());
        let (code, text) = self.output(command, arguments).await;
        (code, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Runs the tool with output for people; returns what it printed, errors included.
    pub(crate) async fn text(&self, arguments: &[&str]) -> (i32, String) {
        let mut shell = Command::new("sh");
        let tool = command(&self.account, arguments);
        shell.args(["-c", r#"exec "$@" 2>&1"#, "sh"]).arg(tool.get_program()).args(tool.get_args());
        self.output(shell, arguments).await
    }

    /// Runs the tool with limits that a shell sets.
    pub(crate) async fn under(&self, limits: &str, arguments: &[&str]) -> i32 {
        let tool = command(&self.account, arguments);
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!(r#"{limits}; exec "$@""#), "bash"]).arg(tool.get_program()).args(tool.get_args());
        self.output(shell, arguments).await.0
    }

    async fn output(&self, mut command: Command, arguments: &[&str]) -> (i32, String) {
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        self.check(arguments, &output);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    /// Runs the tool, asks it to end while it waits for the `nth` answer to a request for messages, and returns its exit code.
    pub(crate) async fn interrupt_at(&self, queues: &FaultProxy, nth: usize, arguments: &[&str]) -> i32 {
        let gate = Gate::default();
        let (mut count, held) = (0, gate.clone());
        queues.forget();
        queues.set_rule(move |request| {
            count += usize::from(request.kind == Kind::GetMessages);
            if count == nth && request.kind == Kind::GetMessages { Fault::Held(held.clone()) } else { Fault::Pass }
        });
        let mut child = command(&queues.account(&self.account), arguments).stdout(Stdio::null()).spawn().unwrap();
        while queues.kinds().iter().filter(|kind| **kind == Kind::GetMessages).count() < nth {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(Command::new("sh").args(["-c", &format!("kill {}", child.id())]).status().unwrap().success());
        gate.open();
        tokio::task::spawn_blocking(move || child.wait().unwrap().code().unwrap()).await.unwrap()
    }

    fn check(&self, arguments: &[&str], output: &Output) {
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(self.account.key()), "{text}");
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || STEERING.contains(c) && !c.is_ascii()),
            "{text:?}"
        );
        assert!(arguments.contains(&"--show-message") || !text.contains(SECRET), "{arguments:?}: {text}");
    }

    /// Runs the tool, and kills it when it waits for the answer to its `nth` write to a queue, which is or is not carried
    /// out. Says whether it got there.
    pub(crate) async fn kill_at(&self, queues: &FaultProxy, nth: usize, arguments: &[&str]) -> bool {
        let is_write = |request: &Request| request.kind == Kind::PutMessage || request.method == "DELETE";
        let fault = if nth.is_multiple_of(2) { Fault::Hang } else { Fault::HangReply };
        let mut writes = 0;
        queues.forget();
        queues.set_rule(move |request| {
            writes += usize::from(is_write(request));
            if is_write(request) && writes >= nth { fault.clone() } else { Fault::Pass }
        });
        let account = queues.account(&self.account);
        let mut child = command(&account, arguments).stdout(Stdio::null()).spawn().unwrap();
        while queues.requests().iter().filter(|request| is_write(request)).count() < nth {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        true
    }

    fn attempt(began: OffsetDateTime) -> Attempt {
        let invocation = Uuid::new_v4().to_string();
        Attempt::new(invocation, began, Instant::now() + Duration::from_secs(120), Uuid::new_v4().as_u128())
    }

    /// Serves a message as the handler does.
    pub(crate) async fn serve(&self, text: &str, began: OffsetDateTime) -> Served {
        let message = QueueMessage { text: text.to_owned(), inserted: Some(began), dequeue_count: Some(1) };
        let served = queue_with_idempotency::run(&self.app, &message, &Self::attempt(began)).await.unwrap();
        if !self.app.publisher.is_idle() {
            self.app.publisher.run(&self.app.ledger, &self.app.events).await;
        }
        served
    }

    /// Commits an order, and publishes nothing.
    pub(crate) async fn commit(&self, text: &str, began: OffsetDateTime) {
        let attempt = Self::attempt(began);
        let mut decided = read_and_decide(&DOMAIN, self.app.events.encoding, text, &attempt).unwrap();
        self.app.ledger.commit(&mut decided.operation, &attempt).await.unwrap();
    }

    /// Keeps a message in quarantine.
    pub(crate) async fn keep(&self, reason: Reason, text: &str, first_seen: OffsetDateTime) {
        let message = QueueMessage { text: text.to_owned(), inserted: Some(first_seen), dequeue_count: Some(16) };
        let rejection = Rejection::new(reason, format!("because of {SECRET} {STEERING}"));
        self.app.quarantine.try_keep(&rejection, &message, &Self::attempt(OffsetDateTime::now_utc())).await.unwrap();
    }

    /// Returns the rows of an order.
    pub(crate) async fn rows(&self, id: &str) -> Vec<Row> {
        let hash = Key::new(DOMAIN.scope, id).record_row_key().replace("record~", "");
        let mut rows = self.account.rows(TABLE).await.unwrap();
        rows.retain(|row| row["RowKey"].as_str().unwrap().contains(&hash));
        rows
    }

    async fn row(&self, id: &str, prefix: &str) -> Row {
        let rows = self.rows(id).await;
        rows.into_iter().find(|row| row["RowKey"].as_str().unwrap().starts_with(prefix)).unwrap()
    }

    /// Changes properties of a row.
    pub(crate) async fn change(&self, id: &str, prefix: &str, change: Value) {
        let mut row = self.row(id, prefix).await;
        row.retain(|name, _| name == "PartitionKey" || name == "RowKey");
        row.extend(change.as_object().unwrap().clone());
        self.account.merge_row(TABLE, &row).await.unwrap();
    }

    pub(crate) async fn delete(&self, id: &str, prefix: &str) {
        self.account.delete_row(TABLE, &self.row(id, prefix).await).await.unwrap();
    }

    /// Lets the real handler serve what is on the queue of orders, under the local host, and stops it. Returns the number of
    /// invocations.
    pub(crate) async fn serve_all(&self) -> usize {
        let app_root = workspace::app_root().unwrap();
        let executable = Some(workspace::build_handler(&app_root).await.unwrap());
        let mut settings = local_settings(&app_root.join("local.settings.json.example")).unwrap();
        settings.insert("AzureWebJobsStorage".to_owned(), self.account.connection_string());
        settings.insert("AzureWebJobs.scheduled_with_retry.Disabled".to_owned(), "true".to_owned());
        let host = LocalHost::start(Options { app_root, executable, settings, ..Options::default() }).await.unwrap();
        host.ready().await.unwrap();
        host.drain(&self.account, "orders", Duration::from_secs(600)).await.unwrap();
        let invocations = host.invocations().len();
        host.stop().await;
        invocations
    }

    /// Returns the ids of all events, published or not.
    pub(crate) async fn event_ids(&self) -> BTreeSet<String> {
        let published = self.drain("order-events").await.into_iter().map(|text| {
            let event: Value = serde_json::from_str(&test_storage::from_base64(&text).unwrap()).unwrap();
            event["id"].as_str().unwrap().to_owned()
        });
        let unpublished = self.row_keys("outbox~").await.into_iter().map(|key| key.replace('~', "-"));
        published.chain(unpublished).collect()
    }

    /// Returns the keys of all rows that begin so, without this beginning.
    pub(crate) async fn row_keys(&self, prefix: &str) -> BTreeSet<String> {
        let rows = self.account.rows(TABLE).await.unwrap();
        let keys = rows.iter().filter_map(|row| row["RowKey"].as_str()?.strip_prefix(prefix));
        keys.map(str::to_owned).collect()
    }

    /// Returns everything that is stored and queued.
    pub(crate) async fn stored(&self) -> Value {
        let mut queues = BTreeMap::new();
        for queue in ["orders", "orders-poison", "orders-quarantine", "order-events"] {
            let texts = self.account.peek(queue).await.unwrap().into_iter().map(|message| message.text);
            let mut texts: Vec<_> = texts.collect();
            texts.sort();
            queues.insert(queue, texts);
        }
        json!([self.account.rows(TABLE).await.unwrap(), queues])
    }

    /// Takes everything that can be seen off a queue.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let received = self.account.receive(queue, 32, Duration::from_secs(60)).await.unwrap();
            if received.is_empty() {
                return texts;
            }
            for message in received {
                self.account.delete(queue, &message).await.unwrap();
                texts.push(message.text);
            }
        }
    }
}
