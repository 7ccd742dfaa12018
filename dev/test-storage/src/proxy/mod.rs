//! A reverse proxy in front of a storage service that counts requests and breaks them on demand.
//!
//! Faults are made on the wire, below every client and its retries, because that is where they happen: a reply that is
//! lost after the write was applied cannot be told from one that was never made.

mod fault;
mod request;
mod reply;

use std::{
    io::Write,
    net::{Ipv4Addr, TcpStream as Socket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request as HttpRequest, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, IDLE, Service},
    kind::Kind,
    ports::free_port,
};

pub use fault::{Fault, Gate};
use request::Arriving;
pub use request::Request;

type Rule = Box<dyn FnMut(&Request) -> Fault + Send>;

struct Shared {
    upstream: String,
    client: reqwest::Client,
    requests: Mutex<Vec<Request>>,
    carried_out: Mutex<Vec<Request>>,
    rule: Mutex<Rule>,
}

/// A proxy on a free loopback port. It ends when it is dropped.
pub struct FaultProxy {
    port: u16,
    service: Service,
    shared: Arc<Shared>,
    listening: Mutex<CancellationToken>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FaultProxy").field("port", &self.port).finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy in front of one service of an account.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(account: &Account, service: Service) -> Result<Self> {
        let endpoint = account.endpoint(service);
        let Some((upstream, _)) = endpoint.rsplit_once('/') else { bail!("endpoint without the account: {endpoint}") };
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .pool_idle_timeout(IDLE)
                .build()?,
            requests: Mutex::default(),
            carried_out: Mutex::default(),
            rule: Mutex::new(Box::new(|_| Fault::Pass)),
        });
        // Nobody else takes this one while the proxy is closed.
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("no free port for the proxy")?;
        let listening = Mutex::new(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, service, shared, listening })
    }

    /// The account with this proxy in the place of the service.
    #[must_use]
    pub fn account(&self, account: &Account) -> Account {
        account.with_endpoint(self.service, &format!("http://127.0.0.1:{}/{}", self.port, account.name()))
    }

    /// Decides about every request from now on. Of a body that is long in coming the rule sees the first half.
    pub fn set_rule(&self, rule: impl FnMut(&Request) -> Fault + Send + 'static) {
        *lock(&self.shared.rule) = Box::new(rule);
    }

    /// Applies a fault to the next `count` requests of a kind; the others pass.
    pub fn fail_next(&self, mut count: usize, kind: Kind, fault: Fault) {
        self.set_rule(move |request| {
            if count == 0 || request.kind != kind {
                return Fault::Pass;
            }
            count -= 1;
            fault.clone()
        });
    }

    /// Applies a fault to every request until it is lifted.
    pub fn fail_all(&self, fault: Fault) {
        self.set_rule(move |_| fault.clone());
    }

    /// Lets every request pass again.
    pub fn lift(&self) {
        self.fail_all(Fault::Pass);
    }

    /// Closes the port and all connections: new ones are refused.
    pub fn close(&self) {
        lock(&self.listening).cancel();
    }

    /// Whether connections are refused.
    pub fn is_closed(&self) -> bool {
        lock(&self.listening).is_cancelled()
    }

    /// Opens the port again after [`Self::close`].
    ///
    /// # Errors
    /// When it is taken meanwhile.
    pub async fn open(&self) -> Result<()> {
        let mut attempts = 40;
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await {
                Ok(listener) => break listener,
                // The closed listener may not have been dropped yet.
                Err(_) if attempts > 0 => tokio::time::sleep(Duration::from_millis(25)).await,
                Err(error) => return Err(error).context("cannot open the proxy again"),
            }
            attempts -= 1;
        };
        *lock(&self.listening) = accept(listener, Arc::clone(&self.shared));
        Ok(())
    }

    /// Every request since the start or the last [`Self::forget`].
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// The kinds of these requests, for counting.
    pub fn kinds(&self) -> Vec<Kind> {
        lock(&self.shared.requests).iter().map(|request| request.kind).collect()
    }

    /// Those of them that the service has answered, whatever it answered and whatever became of that, in the order in
    /// which it did.
    pub fn carried_out(&self) -> Vec<Request> {
        lock(&self.shared.carried_out).clone()
    }

    /// Takes what [`Self::carried_out`] returns and starts counting anew, so that a proxy can run for days.
    pub fn take_carried_out(&self) -> Vec<Request> {
        lock(&self.shared.requests).clear();
        std::mem::take(&mut lock(&self.shared.carried_out))
    }

    /// Starts counting anew.
    pub fn forget(&self) {
        lock(&self.shared.requests).clear();
        lock(&self.shared.carried_out).clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections until the token is cancelled, which also ends them.
fn accept(listener: TcpListener, shared: Arc<Shared>) -> CancellationToken {
    let open = CancellationToken::new();
    let token = open.clone();
    tokio::spawn(open.clone().run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(token.clone().run_until_cancelled_owned(connection(stream, Arc::clone(&shared))));
        }
    }));
    open
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A second handle of the same socket: for what an HTTP server is not able to do to its connection.
    let Ok((stream, socket)) = two_handles(stream) else { return };
    let socket = Arc::new(socket);
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&socket)));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn two_handles(stream: TcpStream) -> std::io::Result<(TcpStream, Socket)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, socket))
}

/// An error makes hyper close the connection without a word.
async fn answer(
    request: HttpRequest<Incoming>,
    shared: Arc<Shared>,
    socket: Arc<Socket>,
) -> Result<Response<Full<Bytes>>> {
    let arriving = Arriving::half(request).await?;
    let fault = (lock(&shared.rule))(arriving.so_far());
    let request = arriving.read(matches!(fault, Fault::CutRequest)).await?;
    lock(&shared.requests).push(request.clone());
    match fault {
        Fault::Pass => shared.forward(&request).await,
        Fault::Delay(pause) => {
            tokio::time::sleep(pause).await;
            shared.forward(&request).await
        }
        Fault::Held(gate) => {
            // A task of its own: what serves a connection is dropped when the client closes it.
            tokio::spawn(async move {
                gate.opened().await;
                shared.forward(&request).await
            })
            .await?
        }
        Fault::Instead(other) => shared.forward(&Request { body: request.body, ..other }).await,
        Fault::FalseReply(status, headers, body) => {
            shared.forward(&request).await?;
            reply::scripted(status, headers, body)
        }
        Fault::CutReply => {
            let whole = shared.forward(&request).await?;
            reply::cut(whole, &socket).await
        }
        Fault::DropReply => {
            shared.forward(&request).await?;
            bail!("reply dropped")
        }
        Fault::HangReply => {
            shared.forward(&request).await?;
            std::future::pending().await
        }
        Fault::Hang => std::future::pending().await,
        Fault::DropRequest => bail!("request dropped"),
        Fault::Reset | Fault::CutRequest => reply::reset(&socket),
        Fault::Garbage => {
            (&*socket).write_all(b"\x15\x03\x01\x00\x02\x02\x28 this is not HTTP\r\n\r\n")?;
            bail!("garbage sent")
        }
        Fault::Status(status, headers, body) => reply::scripted(status, headers, body),
    }
}

impl Shared {
    async fn forward(&self, request: &Request) -> Result<Response<Full<Bytes>>> {
        let method = request.method.parse::<hyper::Method>()?;
        let mut upstream = self.client.request(method, format!("{}{}", self.upstream, request.target));
        for (name, value) in &request.headers {
            // Of the connection, or set anew by the client. `Host` stays: a signature may cover it.
            if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "expect") {
                upstream = upstream.header(name, value);
            }
        }
        let reply = upstream.body(request.body.clone()).send().await?;
        let mut response = Response::builder().status(reply.status());
        for (name, value) in reply.headers() {
            if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "keep-alive") {
                response = response.header(name, value);
            }
        }
        let response = response.body(Full::new(reply.bytes().await?))?;
        lock(&self.carried_out).push(request.clone());
        Ok(response)
    }
}
