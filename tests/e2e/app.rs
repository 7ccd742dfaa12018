//! One app for one test: its own storage account, its own handler process, proxies in front of its tables and queues.

use dev::storage::Service;
use dev::{
    Account, Fault, FaultProxy, Invocation, LocalHost, Options, azurite, bindings::local_settings, storage::Row,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, time::Duration};

pub(crate) const QUEUE: &str = "queue_with_idempotency";
pub(crate) const TIMER: &str = "scheduled_with_retry";
pub(crate) const TABLE: &str = "idempotency";

/// Long enough for a busy machine: no test waits for it unless it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct App {
    pub(crate) account: Account,
    pub(crate) tables: FaultProxy,
    pub(crate) queues: FaultProxy,
    pub(crate) host: LocalHost,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with other settings; an empty value removes one.
    pub(crate) async fn start_with(changes: &[(&str, &str)]) -> Self {
        let account = azurite::shared().await.unwrap().account().unwrap();
        let tables = FaultProxy::start(&account, Service::Table).await.unwrap();
        let queues = FaultProxy::start(&account, Service::Queue).await.unwrap();
        let settings = settings(&queues.account(&tables.account(&account)), changes);
        let host = LocalHost::start(options(settings)).await.unwrap();
        host.ready().await.unwrap();
        Self { account, tables, queues, host }
    }

    /// Another host with another handler on the same storage.
    pub(crate) async fn second_instance(&self) -> LocalHost {
        let host = LocalHost::start(options(settings(&self.queues.account(&self.tables.account(&self.account)), &[])))
            .await
            .unwrap();
        host.ready().await.unwrap();
        host
    }

    /// Puts a message on the queue and waits until its first delivery has ended.
    pub(crate) async fn send(&self, message: &str) -> Invocation {
        let before = self.host.invocations().len();
        self.account.put("orders", message).await.unwrap();
        self.host.poll_now();
        let invocations = self.host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
        invocations[before].clone()
    }

    /// Waits until the queue has nothing left, hidden messages included, and nothing is running.
    pub(crate) async fn drain(&self) {
        self.host.drain(&self.account, "orders", LIMIT).await.unwrap();
    }

    /// Everything in the table.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        self.account.rows(TABLE).await.unwrap()
    }

    /// The rows of events that are not published.
    pub(crate) async fn outbox(&self) -> Vec<Row> {
        self.rows().await.into_iter().filter(|row| text(row, "RowKey").starts_with("outbox~")).collect()
    }

    /// What is on the queue of events.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let messages = self.account.peek("order-events").await.unwrap();
        messages.iter().map(|message| serde_json::from_str(&message.text).unwrap()).collect()
    }

    /// Applies `fault` to the requests that concern the queue of events; the host's own pass.
    pub(crate) fn fail_events(&self, fault: Fault) {
        self.queues.set_rule(
            move |request| {
                if request.target.contains("/order-events") { fault.clone() } else { Fault::Pass }
            },
        );
    }

    /// How many messages were put on the queue of events, as far as the network knows.
    pub(crate) fn puts(&self) -> usize {
        let requests = self.queues.requests();
        requests.iter().filter(|request| request.target.contains("/order-events/messages")).count()
    }

    /// Begins to count requests anew.
    pub(crate) fn forget_requests(&self) {
        self.tables.forget();
        self.queues.forget();
    }

    /// The receipts of all records, in order.
    pub(crate) async fn receipts(&self) -> Vec<String> {
        let rows = self.rows().await;
        let records = rows.iter().filter(|row| text(row, "RowKey").starts_with("record~"));
        let mut receipts: Vec<_> = records.map(|row| text(row, "receipt")).collect();
        receipts.sort();
        receipts
    }

    /// What is in quarantine.
    pub(crate) async fn quarantined(&self) -> Vec<Value> {
        let messages = self.account.peek("orders-quarantine").await.unwrap();
        messages.iter().map(|message| serde_json::from_str(&message.text).unwrap()).collect()
    }

    pub(crate) async fn poisoned(&self) -> Vec<String> {
        self.account.peek("orders-poison").await.unwrap().into_iter().map(|message| message.text).collect()
    }

    /// All lines of the console in which `text` stands.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.host.lines().into_iter().map(|line| line.text).filter(|line| line.contains(text)).collect()
    }
}

pub(crate) fn text(row: &Row, property: &str) -> String {
    row[property].as_str().unwrap().to_owned()
}

pub(crate) fn app_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The example settings of the repository over `account`, with a queue that is looked at often and a timer that only
/// the test fires.
pub(crate) fn settings(account: &Account, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut settings = local_settings(&app_root().join("local.settings.json.example")).unwrap();
    let connection = account.connection_string();
    let common = [
        ("AzureWebJobsStorage", connection.as_str()),
        ("AzureFunctionsJobHost__extensions__queues__maxPollingInterval", "00:00:00.1"),
        ("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:00:01"),
        ("AzureWebJobs.scheduled_with_retry.Disabled", "true"),
    ];
    for (name, value) in common.iter().chain(changes) {
        settings.insert((*name).to_owned(), (*value).to_owned());
    }
    settings.retain(|_, value| !value.is_empty());
    settings
}

pub(crate) fn options(settings: BTreeMap<String, String>) -> Options {
    Options {
        app_root: app_root().to_owned(),
        settings,
        executable: Some(env!("CARGO_BIN_EXE_handler").into()),
        ..Options::default()
    }
}
