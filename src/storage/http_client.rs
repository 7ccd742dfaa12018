//! The one HTTP client of the process: pooled connections to the storage services and to the identity endpoint.
//!
//! A connection is opened by the first request, so that nothing delays the moment the host may call. Every request has
//! a time limit: a lost reply is an ordinary event, and waiting for it holds a message, an invocation and its place in
//! the batch. Nothing is repeated here, because this module does not know what is safe to repeat; only a request
//! that met a connection just closed, before a byte of it was written, is given to another one.
//!
//! `azure_data_tables` and `azure_identity` depend on different versions of `azure_core`, each with a trait
//! `HttpClient`: the client implements both, so that there is one pool, one TLS and one set of time limits.
//!
//! It is built on the small client of `hyper-util`, because this is the hottest path of the process: it has no
//! redirects, proxies, cookies or compression, which the storage services do not need.

use super::Error;
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, Response, StatusCode, Url,
    headers::{CONTENT_LENGTH, HeaderName, HeaderValue},
};
use azure_core_1::{error::ErrorKind, http as http_1};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{HeaderMap, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::ring;
use std::{collections::HashMap, error::Error as StdError, sync::OnceLock, time::Duration};
use tokio::time::timeout;

/// More than any answer the services give: a page or a batch has at most 4 MiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// The headers of an answer of storage that somebody reads: copies of all would be a third of the work here.
const READ: [&str; 9] = [
    "content-type",
    "date",
    "etag",
    "retry-after",
    "x-ms-approximate-messages-count",
    "x-ms-continuation-nextpartitionkey",
    "x-ms-continuation-nextrowkey",
    "x-ms-error-code",
    "x-ms-retry-after-ms",
];

/// The time limits of one request.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// Until the TCP connection stands. A TLS handshake counts to the request, as if that could have been applied.
    pub connect: Duration,
    /// Until the whole answer is there.
    pub request: Duration,
    /// Until the whole answer to a query is there. The Table service looks for up to 5 s, and then answers with [what it
    /// has found](https://learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination) and where to go on:
    /// who waits no longer than that never gets through a large partition.
    pub query: Duration,
    /// Until it is known that a message was put back on its queue. A second attempt could put it there twice, so the first
    /// has more time than others.
    pub put_back: Duration,
    /// An idle connection is dropped after this: before the service does it, which would cost a request.
    pub idle: Duration,
}

/// Speaks HTTP, or HTTPS with certificates compiled in, so that nothing is read from disk.
type Pool = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// An HTTP client that keeps its connections for later requests.
#[derive(Debug)]
pub struct PooledClient {
    limits: TimeLimits,
    pool: OnceLock<Result<Pool, String>>,
}

impl PooledClient {
    /// Creates a client for the public service, or for the emulator, which connects when the first request is made.
    #[must_use]
    pub const fn new(is_emulator: bool) -> Self {
        // The emulator closes idle connections after 5 s, Azure after minutes.
        let idle = Duration::from_secs(if is_emulator { 4 } else { 60 });
        Self::with_limits(TimeLimits {
            connect: Duration::from_secs(3),
            request: Duration::from_secs(5),
            query: Duration::from_secs(15),
            put_back: Duration::from_secs(30),
            idle,
        })
    }

    /// Creates a client with other time limits.
    #[must_use]
    pub const fn with_limits(limits: TimeLimits) -> Self {
        Self { limits, pool: OnceLock::new() }
    }

    fn pool(&self) -> Result<&Pool, Error> {
        let pool = self.pool.get_or_init(|| pool(self.limits).map_err(|error| error.to_string()));
        pool.as_ref().map_err(|cause| Error::NotSent(cause.clone()))
    }

    /// Sends a request to `url`, and reads the whole answer within the time limit.
    async fn send(&self, url: &Url, request: hyper::Request<Full<Bytes>>) -> Result<(u16, HeaderMap, Bytes), Error> {
        let limit = self.limits.of(request.method(), url);
        let answer = async {
            let response = self.pool()?.request(request).await.map_err(|error| match error.is_connect() {
                true => Error::NotSent(root_cause(&error)),
                false => Error::Unanswered(root_cause(&error)),
            })?;
            let (head, body) = response.into_parts();
            Ok((head.status.as_u16(), head.headers, read(body).await?))
        };
        timeout(limit, answer).await.map_err(|_| Error::Unanswered("time limit reached".to_owned()))?
    }
}

#[async_trait]
impl HttpClient for PooledClient {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let Body::Bytes(body) = request.body() else { return Err(streamed().into()) };
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let outgoing = outgoing(request.method().as_ref(), request.url(), headers, body.clone())?;
        let (status, headers, body) = self.send(request.url(), outgoing).await?;
        let status = StatusCode::try_from(status).map_err(|_| Error::Garbled(format!("status {status}")))?;
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        let read = READ.into_iter().filter_map(|name| Some((HeaderName::from_static(name), text(name)?.into())));
        let headers: HashMap<_, HeaderValue> = read.collect();
        Ok(Response::new(status, headers.into(), Box::pin(stream::once(async { Ok(body) }))))
    }
}

#[async_trait]
impl http_1::HttpClient for PooledClient {
    async fn execute_request(&self, request: &http_1::Request) -> azure_core_1::Result<http_1::AsyncRawResponse> {
        // The kind is one that `azure_identity` does not repeat.
        let other = |error| azure_core_1::Error::new(ErrorKind::Other, error);
        let http_1::request::Body::Bytes(body) = request.body() else { return Err(other(streamed())) };
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let outgoing = outgoing(request.method().as_ref(), request.url(), headers, body.clone()).map_err(other)?;
        let (status, received, body) = self.send(request.url(), outgoing).await.map_err(other)?;
        let mut headers = http_1::headers::Headers::new();
        for (name, value) in &received {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(http_1::AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}

impl TimeLimits {
    /// The time limit of a request.
    fn of(&self, method: &hyper::Method, url: &Url) -> Duration {
        let has = |parameter| url.query_pairs().any(|(name, _)| name == parameter);
        match () {
            () if has("$filter") => self.query,
            () if method == hyper::Method::POST && has("visibilitytimeout") => self.put_back,
            () => self.request,
        }
    }
}

fn pool(limits: TimeLimits) -> Result<Pool, rustls::Error> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(limits.connect));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let mut pool = Client::builder(TokioExecutor::new());
    Ok(pool.pool_idle_timeout(limits.idle).pool_timer(TokioTimer::new()).build(connector))
}

fn streamed() -> Error {
    Error::Unsendable("a streamed body".to_owned())
}

fn outgoing<'a>(
    method: &str,
    url: &Url,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: Bytes,
) -> Result<hyper::Request<Full<Bytes>>, Error> {
    let unsendable = |what: &str| Error::Unsendable(format!("{what} is not valid in HTTP"));
    let mut out = hyper::Request::new(Full::new(body));
    *out.method_mut() = method.parse().map_err(|_| unsendable("the method"))?;
    *out.uri_mut() = url.as_str().parse().map_err(|_| unsendable("the URL"))?;
    for (name, value) in headers {
        // The body may have been made strict, which changes its length, so it is counted again. Of an empty one the
        // length is not sent by itself, but the service insists on it.
        if name != CONTENT_LENGTH.as_str() || value == "0" {
            let name: hyper::header::HeaderName = name.parse().map_err(|_| unsendable("a header name"))?;
            out.headers_mut().insert(name, value.parse().map_err(|_| unsendable("a header value"))?);
        }
    }
    Ok(out)
}

async fn read(body: Incoming) -> Result<Bytes, Error> {
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::Garbled(format!("more than {MAX_ANSWER} bytes"))),
        Err(error) => Err(Error::Unanswered(root_cause(error.as_ref()))),
    }
}

/// The innermost cause: the outer ones say only that a request failed.
fn root_cause(mut error: &(dyn StdError + 'static)) -> String {
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}
