//! The one pooled connection of the process to the storage service.
//!
//! It is opened by the first request, so that nothing delays the moment the host may call. Every request has a time
//! limit: lost replies are ordinary events, and one that is waited for holds a message, an invocation and its place in
//! the batch. Nothing is repeated here, because this module does not know what is safe to repeat; only a request
//! that met a connection just closed, before a byte of it was written, is given to another one.
//!
//! It is the small client of `hyper-util`, because this is the hottest path of the process: redirects, proxies, cookies
//! and compression, of which the storage services need none, are not there to be paid for.

use super::Error;
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, Response, StatusCode,
    headers::{HeaderName, HeaderValue, Headers},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
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
    /// An idle connection is dropped after this: before the service does it, which would cost a request.
    pub idle: Duration,
}

/// Speaks HTTP, or HTTPS with certificates compiled in, so that nothing is read from disk.
type Pool = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A pool of connections to one service.
#[derive(Debug)]
pub struct Connection {
    limits: TimeLimits,
    pool: OnceLock<Result<Pool, String>>,
}

impl Connection {
    /// Connects to the public service, or to the emulator, when the first request is made.
    #[must_use]
    pub const fn new(is_emulator: bool) -> Self {
        // The emulator closes idle connections after 5 s, Azure after minutes.
        let idle = Duration::from_secs(if is_emulator { 4 } else { 60 });
        Self::with_limits(TimeLimits {
            connect: Duration::from_secs(3),
            request: Duration::from_secs(5),
            query: Duration::from_secs(15),
            idle,
        })
    }

    /// As [`Connection::new`], with other time limits.
    #[must_use]
    pub const fn with_limits(limits: TimeLimits) -> Self {
        Self { limits, pool: OnceLock::new() }
    }

    fn pool(&self) -> Result<&Pool, Error> {
        let pool = self.pool.get_or_init(|| pool(self.limits).map_err(|error| error.to_string()));
        pool.as_ref().map_err(|cause| Error::NotSent(cause.clone()))
    }

    async fn send(&self, request: &Request) -> Result<Response, Error> {
        let response = self.pool()?.request(outgoing(request)?);
        let response = response.await.map_err(|error| match error.is_connect() {
            true => Error::NotSent(root_cause(&error)),
            false => Error::Unanswered(root_cause(&error)),
        })?;
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let status = StatusCode::try_from(status).map_err(|_| Error::Garbled(format!("status {status}")))?;
        let body = read(body).await?;
        Ok(Response::new(status, incoming(&head.headers), Box::pin(futures::stream::once(async { Ok(body) }))))
    }
}

#[async_trait]
impl HttpClient for Connection {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let limit = if is_query(request) { self.limits.query } else { self.limits.request };
        let answer = timeout(limit, self.send(request)).await;
        Ok(answer.map_err(|_| Error::Unanswered("time limit reached".to_owned()))??)
    }
}

fn is_query(request: &Request) -> bool {
    request.url().query_pairs().any(|(name, _)| name == "$filter")
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

fn outgoing(request: &Request) -> Result<hyper::Request<Full<Bytes>>, Error> {
    let unsendable = |what: &str| Error::Unsendable(format!("{what} is not valid in HTTP"));
    let Body::Bytes(body) = request.body() else { return Err(Error::Unsendable("a streamed body".to_owned())) };
    let mut out = hyper::Request::new(Full::new(body.clone()));
    *out.method_mut() = request.method().as_ref().parse().map_err(|_| unsendable("the method"))?;
    *out.uri_mut() = request.url().as_str().parse().map_err(|_| unsendable("the URL"))?;
    for (name, value) in request.headers().iter() {
        // The body may have been made strict, which changes its length, so it is counted again. Of an empty one the
        // length is not sent by itself, but the service insists on it.
        if *name != azure_core::headers::CONTENT_LENGTH || value.as_str() == "0" {
            let name: hyper::header::HeaderName = name.as_str().parse().map_err(|_| unsendable("a header name"))?;
            out.headers_mut().insert(name, value.as_str().parse().map_err(|_| unsendable("a header value"))?);
        }
    }
    Ok(out)
}

fn incoming(headers: &hyper::HeaderMap) -> Headers {
    let headers: HashMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned())))
        })
        .collect();
    headers.into()
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
