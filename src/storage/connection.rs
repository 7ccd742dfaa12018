//! The one pooled connection of the process to the storage service.
//!
//! It is opened by the first request, so that nothing delays the moment the host may call. Every request has a time
//! limit: lost replies are ordinary events, and one that is waited for holds a message, an invocation and its place in
//! the batch. Nothing is repeated here, because this module does not know what is safe to repeat.

use super::Error;
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, Response, StatusCode,
    headers::{HeaderName, HeaderValue, Headers},
};
use bytes::{Bytes, BytesMut};
use std::{collections::HashMap, error::Error as _, sync::OnceLock, time::Duration};

/// More than any answer the services give: a page or a batch has at most 4 MiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// The time limits of one request.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the whole answer is there.
    pub request: Duration,
    /// An idle connection is dropped after this: before the service does it, which would cost a request.
    pub idle: Duration,
}

/// A pool of connections to one service.
#[derive(Debug)]
pub struct Connection {
    limits: TimeLimits,
    is_loopback: bool,
    client: OnceLock<Result<reqwest::Client, String>>,
}

impl Connection {
    /// Connects to the public service, or to the emulator on this machine, when the first request is made.
    #[must_use]
    pub const fn new(is_loopback: bool) -> Self {
        // The emulator closes idle connections after 5 s, Azure after minutes.
        let idle = Duration::from_secs(if is_loopback { 4 } else { 60 });
        let limits = TimeLimits { connect: Duration::from_secs(3), request: Duration::from_secs(5), idle };
        Self::with_limits(is_loopback, limits)
    }

    /// As [`Connection::new`], with other time limits.
    #[must_use]
    pub const fn with_limits(is_loopback: bool, limits: TimeLimits) -> Self {
        Self { limits, is_loopback, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&reqwest::Client, Error> {
        let client = self.client.get_or_init(|| {
            let builder = reqwest::Client::builder()
                .connect_timeout(self.limits.connect)
                .timeout(self.limits.request)
                .pool_idle_timeout(self.limits.idle)
                .redirect(reqwest::redirect::Policy::none());
            // HTTP_PROXY must not catch what is meant for the emulator.
            let builder = if self.is_loopback { builder.no_proxy() } else { builder };
            builder.build().map_err(|error| root_cause(&error))
        });
        client.as_ref().map_err(|cause| Error::NotSent(cause.clone()))
    }

    async fn send(&self, request: &Request) -> Result<(u16, Headers, Bytes), Error> {
        let mut response = self.client()?.execute(outgoing(request)?).await.map_err(|error| failed(&error))?;
        let (status, headers) = (response.status().as_u16(), incoming(response.headers()));
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Garbled(format!("more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body.freeze()))
    }
}

#[async_trait]
impl HttpClient for Connection {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let (status, headers, body) = self.send(request).await?;
        let status = StatusCode::try_from(status).map_err(|_| Error::Garbled(format!("status {status}")))?;
        Ok(Response::new(status, headers, Box::pin(futures::stream::once(async { Ok(body) }))))
    }
}

fn outgoing(request: &Request) -> Result<reqwest::Request, Error> {
    let unsendable = |what: &str| Error::Unsendable(format!("{what} is not valid in HTTP"));
    let method = request.method().as_ref().parse().map_err(|_| unsendable("the method"))?;
    let mut out = reqwest::Request::new(method, request.url().clone());
    for (name, value) in request.headers().iter() {
        // The body may have been made strict, which changes its length, so it is counted again. Of an empty one the length is
        // not sent by itself, but the service insists on it.
        if *name != azure_core::headers::CONTENT_LENGTH || value.as_str() == "0" {
            let name: reqwest::header::HeaderName = name.as_str().parse().map_err(|_| unsendable("a header name"))?;
            out.headers_mut().insert(name, value.as_str().parse().map_err(|_| unsendable("a header value"))?);
        }
    }
    match request.body() {
        Body::Bytes(bytes) => *out.body_mut() = Some(bytes.clone().into()),
        Body::SeekableStream(_) => return Err(Error::Unsendable("a streamed body".to_owned())),
    }
    Ok(out)
}

fn incoming(headers: &reqwest::header::HeaderMap) -> Headers {
    let headers: HashMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned())))
        })
        .collect();
    headers.into()
}

fn failed(error: &reqwest::Error) -> Error {
    if error.is_connect() {
        Error::NotSent(root_cause(error))
    } else if error.is_timeout() {
        Error::Unanswered("time limit reached".to_owned())
    } else {
        Error::Unanswered(root_cause(error))
    }
}

/// The innermost cause: the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|error| error.source()) {
        cause = Some(inner);
    }
    cause.map_or_else(|| "no further cause known".to_owned(), ToString::to_string)
}
