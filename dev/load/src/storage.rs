//! The emulated storage behind a server: fast enough not to be what is measured.
//!
//! Each of the two services has a thread of its own, and every response may be held back for a fixed time, like the way
//! to the cloud.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    net::{Ipv4Addr, TcpListener as Listener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use test_storage::{
    Account, EMULATOR_ACCOUNT, EMULATOR_KEY, Kind,
    emulated::{self, Applied, Call, Change, EmulatedStorage},
    from_base64,
};
use tokio::{net::TcpListener, runtime};

/// The number of rows that Table Storage reads for one page.
const PAGE: usize = 1_000;

/// The headers of every response of the cloud.
const HEADERS: [(&str, &str); 4] = [
    ("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0"),
    ("x-ms-request-id", "6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90"),
    ("x-ms-version", "2022-11-02"),
    ("x-content-type-options", "nosniff"),
];

/// The two services.
pub(crate) struct FastStorage {
    pub(crate) account: Account,
    state: Arc<Mutex<State>>,
}

/// The state of the services.
struct State {
    storage: EmulatedStorage,
    /// The number of messages that were put.
    messages: u64,
    /// Hashes of the ids of the events in them, so that a million are few megabytes.
    events: HashSet<u64>,
    counts: Counts,
}

/// The numbers of requests, by kind, and of connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: BTreeMap<Kind, u64>,
    pub(crate) connections: u64,
}

impl Counts {
    /// Returns what was counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |kind| earlier.requests.get(kind).copied().unwrap_or_default();
        let requests = self.requests.iter().map(|(kind, count)| (*kind, count - before(kind))).collect();
        Self { requests, connections: self.connections - earlier.connections }
    }
}

/// A message on the queue of events.
#[derive(Deserialize)]
struct Event {
    id: String,
}

impl FastStorage {
    /// Starts both services on free ports; they end with this process. Every response comes `latency` late.
    pub(crate) fn start(latency: Duration) -> Result<Self> {
        let storage = EmulatedStorage::new(PAGE);
        let state = State { storage, messages: 0, events: HashSet::new(), counts: Counts::default() };
        let state = Arc::new(Mutex::new(state));
        let (queue, table) = (start_service("queue", &state, latency)?, start_service("table", &state, latency)?);
        // There is no blob service; the handler does not ask for one.
        let account = Account::on_loopback(EMULATOR_ACCOUNT, EMULATOR_KEY, [queue, queue, table])?;
        Ok(Self { account, state })
    }

    /// Returns the counts so far.
    pub(crate) fn counts(&self) -> Counts {
        lock(&self.state).counts.clone()
    }

    /// Counts the rows whose key begins with `prefix`.
    pub(crate) fn count_rows(&self, prefix: &str) -> u64 {
        lock(&self.state).storage.entities().filter(|((_, row_key), _)| row_key.starts_with(prefix)).count() as u64
    }

    /// Returns the number of messages that were put, and of different events in them.
    pub(crate) fn published(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.messages, state.events.len() as u64)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that serves a free port, and returns the port.
fn start_service(name: &str, state: &Arc<Mutex<State>>, latency: Duration) -> Result<u16> {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port for the storage")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let state = Arc::clone(state);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(accept(listener, &state, latency));
    thread::Builder::new().name(format!("{name} service")).spawn(serve)?;
    Ok(port)
}

async fn accept(listener: Listener, state: &Arc<Mutex<State>>, latency: Duration) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        lock(state).counts.connections += 1;
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &state, latency));
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>, latency: Duration) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let if_match = head.headers.get("if-match").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = Call::read((head.method.as_str(), target), if_match, std::str::from_utf8(&body)?);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let answer = lock(state).answer(call.as_ref())?;
    let mut response = Response::builder().status(answer.status);
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in HEADERS.into_iter().chain(headers) {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(answer.body))?)
}

impl State {
    fn answer(&mut self, call: Option<&Call>) -> Result<emulated::Response> {
        *self.counts.requests.entry(call.map_or(Kind::Other, Call::kind)).or_default() += 1;
        let Some(call) = call else { return Ok(emulated::Response::empty(501)) };
        let Applied { response, changes, .. } = self.storage.apply(call);
        if let [Change::Put { text, .. }] = &changes[..] {
            let text = from_base64(text).context("a message that is not base64")?;
            let event: Event = serde_json::from_str(&text).context("a message that is no event")?;
            self.messages += 1;
            self.events.insert(BuildHasherDefault::<DefaultHasher>::default().hash_one(&event.id));
        }
        Ok(response)
    }
}
