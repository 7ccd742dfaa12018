//! A table and a queue service in memory: fast enough not to be what is measured.
//!
//! They answer as the cloud does, byte for byte where the handler looks, and not as the emulator does: no error code in
//! the headers of the table, whole entities in the answers to a batch. Each service has a thread of its own, and every
//! answer may be held back for a fixed time, like the way to the cloud. Signatures are not checked.

mod batch;
mod calls;
mod queues;
mod rows;
mod table;

use std::{
    net::{Ipv4Addr, TcpListener as Listener},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, runtime};

use test_storage::{Account, EMULATOR_ACCOUNT, EMULATOR_KEY};

use calls::{Call, Counters};
use queues::Queues;
use rows::Rows;

pub(super) use calls::{Counts, KINDS};
pub(super) use queues::Published;

/// The two services.
pub(super) struct FastStorage {
    pub(super) account: Account,
    state: Arc<State>,
}

/// What the services keep.
struct State {
    rows: Rows,
    queues: Queues,
    counters: Counters,
    latency: Duration,
}

impl FastStorage {
    /// Starts both, on free ports; they end with this process. Every answer comes `latency` late.
    pub(super) fn start(latency: Duration) -> Result<Self> {
        let state = State { rows: Rows::new(), queues: Queues::default(), counters: Counters::default(), latency };
        let state = Arc::new(state);
        let (queue, table) = (start_service("queue", &state)?, start_service("table", &state)?);
        // There is no blob service; the handler does not ask for one.
        let account = Account::on_loopback(EMULATOR_ACCOUNT, EMULATOR_KEY, [queue, queue, table])?;
        Ok(Self { account, state })
    }

    /// What was asked so far.
    pub(super) fn counts(&self) -> Counts {
        self.state.counters.read()
    }

    /// How many rows have a key that begins with `prefix`.
    pub(super) fn count_rows(&self, prefix: &str) -> u64 {
        self.state.rows.count(prefix)
    }

    /// What was put on the queue `name`.
    pub(super) fn published(&self, name: &str) -> Published {
        self.state.queues.published(name)
    }
}

/// Starts a thread that serves a free port, and says which one.
fn start_service(name: &str, state: &Arc<State>) -> Result<u16> {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port for the storage")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let state = Arc::clone(state);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(accept(listener, &state));
    thread::Builder::new().name(format!("{name} service")).spawn(serve)?;
    Ok(port)
}

async fn accept(listener: Listener, state: &Arc<State>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        state.counters.count_connection();
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &state));
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let call = Call::new(head.method.as_str(), target);
    state.counters.count(&call);
    if !state.latency.is_zero() {
        tokio::time::sleep(state.latency).await;
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match call {
        Call::PutMessage(queue) => state.queues.put(queue, &body),
        Call::CreateQueue(queue) => state.queues.create(queue),
        Call::Batch => batch::answer(&state.rows, std::str::from_utf8(&body)?),
        Call::Get(key) => table::get(&state.rows, &key),
        Call::Delete(key) => table::delete(&state.rows, &key, header("if-match")),
        Call::Insert => table::insert(&state.rows, &body),
        Call::Query(query) => table::query(&state.rows, query),
        Call::CreateTable => table::create(&state.rows),
        Call::Other => respond(501, &[], String::new()),
    }
}

/// An answer with what both services send along.
fn respond(status: u16, headers: &[(&str, &str)], body: String) -> Result<Response<Full<Bytes>>> {
    let mut response = Response::builder()
        .status(status)
        .header("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0")
        .header("x-ms-request-id", "6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90")
        .header("x-ms-version", "2022-11-02")
        .header("x-content-type-options", "nosniff");
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Ok(response.body(Full::from(body))?)
}
