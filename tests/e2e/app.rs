//! One app for one test: its own storage account, its own handler process, proxies in front of its tables and queues.

use crate::host::Host;
use local_host::{Invocation, Options, bindings::local_settings};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};
use test_storage::{Account, Fault, FaultProxy, Kind, Request, Row, Service, azurite, from_base64};
use time::OffsetDateTime;
use tokio::{
    runtime::{self, Runtime},
    time::{sleep, timeout},
};

pub(crate) const QUEUE: &str = "queue_with_idempotency";
pub(crate) const TIMER: &str = "scheduled_with_retry";
pub(crate) const TABLE: &str = "idempotency";
/// The library with the domain of these tests.
pub(crate) const HANDLER: &str = env!("CARGO_BIN_EXE_test-handler");

pub(crate) use crate::host::LIMIT;

pub(crate) struct App {
    pub(crate) account: Account,
    pub(crate) tables: FaultProxy,
    pub(crate) queues: FaultProxy,
    pub(crate) host: Host,
    _shows_soon: FaultProxy,
}

/// The runtime of a host: the test's own, or for a host that is killed, one of its own.
#[derive(Debug, Default)]
pub(crate) struct Machine(Option<Runtime>);

impl Machine {
    pub(crate) fn mortal() -> Self {
        Self(Some(runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()))
    }

    async fn host(&self, options: Options) -> Host {
        match &self.0 {
            Some(runtime) => runtime.spawn(Host::start(options)).await.unwrap().unwrap(),
            None => Host::start(options).await.unwrap(),
        }
    }

    /// Kills the host, wherever it is, and its handler by SIGKILL. Nothing that it was about to do is done.
    pub(crate) async fn kill(&mut self) {
        let runtime = self.0.take().unwrap();
        tokio::task::spawn_blocking(|| runtime.shutdown_timeout(LIMIT)).await.unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with other settings; an empty value removes one.
    pub(crate) async fn start_with(changes: &[(&str, &str)]) -> Self {
        Self::start_on(&Machine::default(), changes).await
    }

    /// Starts with a host that can die.
    pub(crate) async fn start_on(machine: &Machine, changes: &[(&str, &str)]) -> Self {
        let account = azurite::shared().await.unwrap().account().unwrap();
        Self::start_over(account, changes, (machine, Path::new(HANDLER))).await
    }

    /// Starts over any account, with any executable in the handler's place.
    pub(crate) async fn start_over(
        account: Account,
        changes: &[(&str, &str)],
        (machine, executable): (&Machine, &Path),
    ) -> Self {
        let tables = FaultProxy::start(&account, Service::Table).await.unwrap();
        let shows_soon = FaultProxy::start(&account, Service::Queue).await.unwrap();
        shows_soon.set_rule(show_soon(account.sas().to_owned()));
        let queues = FaultProxy::start(&shows_soon.account(&account), Service::Queue).await.unwrap();
        let options = options(&queues.account(&tables.account(&account)), changes);
        let options = Options { executable: Some(executable.to_owned()), ..options };
        let host = machine.host(options).await;
        // Why a handler did not start is on the console only.
        host.ready().await.unwrap_or_else(|error| panic!("{error:#}\n{:#?}", host.lines()));
        Self { account, tables, queues, host, _shows_soon: shows_soon }
    }

    /// Starts another host with another handler on the same storage.
    pub(crate) async fn second_instance(&self) -> Host {
        let account = self.queues.account(&self.tables.account(&self.account));
        let host = Host::start(options(&account, &[])).await.unwrap();
        host.ready().await.unwrap();
        host
    }

    /// Puts a message on the queue and waits until its first delivery has ended, and its events are dealt with.
    pub(crate) async fn send(&self, message: &str) -> Invocation {
        let before = self.host.invocations().len();
        self.account.put("orders", message).await.unwrap();
        self.host.poll_now();
        let invocations = self.host.wait_for(|all| all.len() > before, LIMIT).await.unwrap();
        self.published().await;
        invocations[before].clone()
    }

    /// Waits until the event of each order that was answered is published, or left to the timer.
    pub(crate) async fn published(&self) {
        let left = ["Publishing is left to the timer", "Published events are left in the outbox"];
        self.published_but(|| left.iter().map(|line| self.lines_with(line).len()).sum()).await;
    }

    /// Waits until no more than so many events are in the outbox.
    pub(crate) async fn published_but(&self, left: impl Fn() -> usize) {
        let published = async {
            while self.outbox().await.len() > left() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, published).await.unwrap();
    }

    /// Waits until the queue has nothing left, hidden messages included, nothing is running, and all is published.
    pub(crate) async fn drain(&self) {
        self.host.drain(&self.account, "orders", LIMIT).await.unwrap();
        self.published().await;
    }

    /// Makes everything in the table older than the grace period.
    pub(crate) async fn age(&self) {
        date(&self.account, self.rows().await, past_grace()).await;
    }

    /// Lets all records expire in the past.
    pub(crate) async fn expire(&self) {
        for mut index_row in self.index_rows().await {
            self.account.delete_row(TABLE, &index_row).await.unwrap();
            let row_key = text(&index_row, "RowKey");
            let (_, record) = row_key["expiry~".len()..].split_once('~').unwrap();
            index_row.insert("RowKey".to_owned(), format!("expiry~001577836800~{record}").into());
            self.account.insert_row(TABLE, &index_row).await.unwrap();
        }
    }

    /// Returns everything in the table but the index rows of the records, and the row by which it is asked for.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        rows(&self.account).await.into_iter().filter(|row| !is_index_row(row)).collect()
    }

    pub(crate) async fn index_rows(&self) -> Vec<Row> {
        rows(&self.account).await.into_iter().filter(is_index_row).collect()
    }

    /// Reads the rows of events that are not published.
    pub(crate) async fn outbox(&self) -> Vec<Row> {
        self.rows().await.into_iter().filter(|row| text(row, "RowKey").starts_with("outbox~")).collect()
    }

    /// Returns the messages on the queue of events.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let messages = self.account.peek("order-events").await.unwrap();
        messages.iter().map(|message| event(&message.text)).collect()
    }

    /// Applies `fault` to the requests that concern the queue of events; the host's own pass.
    pub(crate) fn fail_events(&self, fault: Fault) {
        self.queues.set_rule(
            move |request| {
                if request.target.contains("/order-events") { fault.clone() } else { Fault::Pass }
            },
        );
    }

    /// Applies `fault` to all that is asked of the table for an order. It answers others, and when it is asked whether it is
    /// there.
    pub(crate) fn fail_orders(&self, fault: Fault) {
        self.tables.set_rule(move |request| match request.kind {
            Kind::CreateTable => Fault::Pass,
            _ if is_probe(request) => Fault::Pass,
            _ => fault.clone(),
        });
    }

    /// Counts the requests that put a message on the queue of events.
    pub(crate) fn puts(&self) -> usize {
        let requests = self.queues.requests();
        requests.iter().filter(|request| request.target.contains("/order-events/messages")).count()
    }

    /// Begins to count requests anew.
    pub(crate) fn forget_requests(&self) {
        self.tables.forget();
        self.queues.forget();
    }

    /// Reads the records.
    pub(crate) async fn records(&self) -> Vec<Row> {
        self.rows().await.into_iter().filter(|row| text(row, "RowKey").starts_with("record~")).collect()
    }

    /// Returns the receipts of all records, in order.
    pub(crate) async fn receipts(&self) -> Vec<String> {
        let mut receipts: Vec<_> = self.records().await.iter().map(|row| text(row, "receipt")).collect();
        receipts.sort();
        receipts
    }

    /// Returns the messages in quarantine.
    pub(crate) async fn quarantined(&self) -> Vec<Value> {
        let messages = self.account.peek("orders-quarantine").await.unwrap();
        messages.iter().map(|message| serde_json::from_str(&message.text).unwrap()).collect()
    }

    pub(crate) async fn poisoned(&self) -> Vec<String> {
        self.account.peek("orders-poison").await.unwrap().into_iter().map(|message| message.text).collect()
    }

    /// Returns all lines of the console in which `text` stands.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.host.lines().into_iter().map(|line| line.text).filter(|line| line.contains(text)).collect()
    }
}

/// Returns the time three minutes ago: past the grace period, in which the timer leaves events alone.
pub(crate) fn past_grace() -> OffsetDateTime {
    OffsetDateTime::now_utc() - time::Duration::minutes(3)
}

/// Lets rows be of this time.
pub(crate) async fn date(account: &Account, rows: Vec<Row>, time: OffsetDateTime) {
    let time = time.format(&time::format_description::well_known::Rfc3339).unwrap();
    for row in rows {
        let property = if text(&row, "RowKey").starts_with("outbox~") { "created_at" } else { "committed_at" };
        let mut change = Row::new();
        for key in ["PartitionKey", "RowKey"] {
            change.insert(key.to_owned(), row[key].clone());
        }
        change.insert(format!("{property}@odata.type"), "Edm.DateTime".into());
        change.insert(property.to_owned(), time.clone().into());
        // An event may have been published meanwhile.
        account
            .merge_row(TABLE, &change)
            .await
            .or_else(|error| if error.status() == Some(404) { Ok(()) } else { Err(error) })
            .unwrap();
    }
}

/// Returns everything in the table but the row by which it is asked whether it is there.
pub(crate) async fn rows(account: &Account) -> Vec<Row> {
    let rows = account.rows(TABLE).await.unwrap();
    rows.into_iter().filter(|row| text(row, "PartitionKey") != "probe").collect()
}

/// Says whether a request only asks whether the table is there.
pub(crate) fn is_probe(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).contains(r#""PartitionKey":"probe""#)
}

/// Says whether a request is the handler's: it signs what it asks for. The local host does not, and the client of the real
/// one gives its name.
pub(crate) fn is_signed(request: &Request) -> bool {
    let is_signed = request.headers.iter().any(|(name, _)| name == "authorization");
    is_signed && !request.headers.iter().any(|(name, value)| name == "user-agent" && value.starts_with("azsdk-net"))
}

/// Makes the rule that a message which the handler hides for longer is seen after a second. A request with another target
/// needs another signature, which is that of the account.
pub(crate) fn show_soon(sas: String) -> impl FnMut(&Request) -> Fault {
    const HIDDEN: &str = "visibilitytimeout=";
    move |request| {
        let Some((before, after)) = request.target.split_once(HIDDEN).filter(|_| is_signed(request)) else {
            return Fault::Pass;
        };
        let mut headers = request.headers.clone();
        headers.retain(|(name, _)| name != "authorization");
        let rest = after.trim_start_matches(|character: char| character.is_ascii_digit());
        let target = format!("{before}{HIDDEN}1{rest}&{sas}");
        Fault::Instead(Request { target, headers, ..request.clone() })
    }
}

/// Returns how a tick ends that knows of no event that is left, as the handler says it.
pub(crate) fn tick_line(published: usize, purged: usize, due: usize) -> String {
    format!(" published={published} unpublished=0 unpublished_oldest_s=0 purged={purged} due={due} ")
}

/// Waits until something outside is so.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap();
}

pub(crate) fn is_index_row(row: &Row) -> bool {
    text(row, "RowKey").starts_with("expiry~")
}

/// Reads the text of a message on the queue of events.
pub(crate) fn event(text: &str) -> Value {
    serde_json::from_str(&from_base64(text).unwrap()).unwrap()
}

pub(crate) fn text(row: &Row, property: &str) -> String {
    row[property].as_str().unwrap().to_owned()
}

pub(crate) fn app_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes the files of the app that a host reads, after a change to `host.json` and the `function.json` of the queue.
pub(crate) fn write_app(folder: &Path, change: impl Fn(&mut Value, &mut Value)) {
    let names = ["host.json", "queue_with_idempotency/function.json", "scheduled_with_retry/function.json"];
    let read = |name| serde_json::from_slice(&fs::read(app_root().join(name)).unwrap()).unwrap();
    let [mut host, mut queue, timer]: [Value; 3] = names.map(read);
    change(&mut host, &mut queue);
    for (name, value) in names.iter().zip([host, queue, timer]) {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, value.to_string()).unwrap();
    }
}

/// The app in a folder of its own: a real host watches all that is in there.
static APP: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("app");
    write_app(&folder, |_, _| ());
    folder
});

/// Returns the app with the example settings of the repository over `account`, short polling intervals and a timer that only
/// the test fires. An empty value removes a setting.
pub(crate) fn options(account: &Account, changes: &[(&str, &str)]) -> Options {
    let mut settings = local_settings(&app_root().join("local.settings.json.example")).unwrap();
    let connection = account.connection_string();
    let common = [
        ("AzureWebJobsStorage", connection.as_str()),
        ("AzureFunctionsJobHost__extensions__queues__maxPollingInterval", "00:00:00.1"),
        ("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:00:01"),
        ("AzureWebJobs.scheduled_with_retry.Disabled", "true"),
        // Whatever the shell of these tests has.
        ("RUST_LOG", "warn,handler=info"),
    ];
    for (name, value) in common.iter().chain(changes) {
        settings.insert((*name).to_owned(), (*value).to_owned());
    }
    settings.retain(|_, value| !value.is_empty());
    Options { app_root: APP.clone(), settings, executable: Some(HANDLER.into()), ..Options::default() }
}
