//! An app with a scripted handler, over storage of its own.

use std::{collections::BTreeMap, env, fs, path::Path, time::Duration};

use local_host::{LocalHost, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_storage::{Account, azurite};

use crate::{
    handler::{self, Startup, Step},
    recording::{REQUESTS, Request, STARTS, Start, recorded},
};

/// Longer than anything takes on a busy machine; a test that passes never waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const HOSTS: &str = "azure-webjobs-hosts";
pub(crate) const LISTENER_LOCK: &str = "locks/localhost/Host.Functions.clock.Listener";

/// A queue function `orders` (queue `in-queue`, outputs `out` to `out-queue` and `copy` to `copy-queue`) and a timer
/// function `clock`, which ticks at New Year and is retried twice.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) account: Account,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = json!({
            "version": "2.0",
            "functionTimeout": "00:01:00",
            "extensionBundle": { "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)" },
            "customHandler": {
                "description": {
                    "defaultExecutablePath": env::current_exe().unwrap(),
                    "arguments": [handler::TEST, "--exact", "--nocapture"],
                },
            },
            "extensions": {
                "queues": { "messageEncoding": "none", "maxPollingInterval": "00:00:00.1", "maxDequeueCount": 2 },
            },
        });
        let queue = |kind: &str, direction: &str, name: &str, queue: &str| json!({ "type": kind, "direction": direction, "name": name, "queueName": queue });
        let orders = json!({ "bindings": [
            queue("queueTrigger", "in", "msg", "in-queue"),
            queue("queue", "out", "out", "out-queue"),
            queue("queue", "out", "copy", "copy-queue"),
        ] });
        let clock = json!({
            "bindings": [{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "0 0 0 1 1 *" }],
            "retry": { "strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:00.05" },
        });
        let rig = Self { folder, account: azurite::shared().await.unwrap().account().unwrap() };
        rig.write("host.json", &host);
        rig.write("orders/function.json", &orders);
        rig.write("clock/function.json", &clock);
        rig
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, value: &Value) {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, value.to_string()).unwrap();
    }

    /// Sets one value in a file of the app.
    pub(crate) fn set(&self, file: &str, pointer: &str, value: Value) {
        let mut document: Value = serde_json::from_str(&fs::read_to_string(self.path().join(file)).unwrap()).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = value;
        self.write(file, &document);
    }

    /// Sets the answers of the handler to the requests to a function, one after the other.
    pub(crate) fn script(&self, function: &str, steps: &[Step]) {
        self.write(&handler::script(function), &serde_json::to_value(steps).unwrap());
    }

    pub(crate) fn startup(&self, startup: &Startup) {
        self.write(handler::STARTUP, &serde_json::to_value(startup).unwrap());
    }

    /// Lets those steps go on that wait for this file.
    pub(crate) fn release(&self, gate: &str) {
        fs::write(self.path().join(gate), "").unwrap();
    }

    /// Returns the requests to a function so far; an empty name means the probes.
    pub(crate) fn requests(&self, function: &str) -> Vec<Request> {
        let path = format!("/{function}");
        let file = self.path().join(REQUESTS);
        let mut requests = recorded::<Request>(file.to_str().unwrap());
        requests.retain(|request| request.path() == path);
        requests
    }

    /// Waits until a function was called so often.
    pub(crate) async fn called(&self, function: &str, times: usize) -> Vec<Request> {
        let called = async {
            loop {
                let requests = self.requests(function);
                if requests.len() >= times {
                    return requests;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, called).await.unwrap()
    }

    /// Returns the lives of the handler so far.
    pub(crate) fn starts(&self) -> Vec<Start> {
        recorded(self.path().join(STARTS).to_str().unwrap())
    }

    pub(crate) fn options(&self) -> Options {
        self.options_with(&self.account)
    }

    pub(crate) fn options_with(&self, account: &Account) -> Options {
        let settings = BTreeMap::from([("AzureWebJobsStorage".to_owned(), account.connection_string())]);
        Options { app_root: self.path().to_owned(), settings, ..Options::default() }
    }

    pub(crate) async fn start(&self) -> LocalHost {
        let host = LocalHost::start(self.options()).await.unwrap();
        host.ready().await.unwrap();
        host
    }

    pub(crate) async fn start_with(&self, account: &Account) -> LocalHost {
        LocalHost::start(self.options_with(account)).await.unwrap()
    }

    /// Returns the bodies of the messages that are visible on a queue.
    pub(crate) async fn texts(&self, queue: &str) -> Vec<String> {
        self.account.peek(queue).await.unwrap().into_iter().map(|message| message.text).collect()
    }

    /// Reads the stored status of the timer.
    pub(crate) async fn status(&self) -> Value {
        let blob = local_host::status_blob("localhost", "clock");
        serde_json::from_str(&self.account.read_blob(HOSTS, &blob).await.unwrap().unwrap()).unwrap()
    }

    pub(crate) async fn set_status(&self, last: &str, next: &str) {
        self.write_status(&json!({ "Last": last, "Next": next, "LastUpdated": last })).await;
    }

    pub(crate) async fn write_status(&self, status: &Value) {
        let blob = local_host::status_blob("localhost", "clock");
        self.account.write_blob(HOSTS, &blob, &status.to_string()).await.unwrap();
    }
}

/// Waits until the host stops by itself, and returns why.
pub(crate) async fn stopped(host: &LocalHost) -> String {
    tokio::time::timeout(LIMIT, host.wait_until_stopped()).await.unwrap()
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, holds).await.is_ok(), "never: {what}");
}
