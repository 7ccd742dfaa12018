//! The requests for tokens, on their way to the identity endpoint and back.
//!
//! `azure_identity` composes them and reads the answers; between them and the network is our own
//! [client](super::http_client), so that there is one pool, one TLS, and a time limit. What is no success becomes an
//! [`Error`] here, by what it means: it passes through the crate and its own retries as it is.

use super::Error;
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request,
    headers::{HeaderName, Headers},
};
use azure_core_1::{
    error::ErrorKind,
    http::{self as http_1, AsyncRawResponse, request::Body as Body1},
};
use bytes::Bytes;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// The `HttpClient` that `azure_identity` is given.
#[derive(Debug)]
pub(super) struct IdentityEndpoint(pub(super) Arc<dyn HttpClient>);

#[async_trait]
impl http_1::HttpClient for IdentityEndpoint {
    async fn execute_request(&self, request: &http_1::Request) -> azure_core_1::Result<AsyncRawResponse> {
        // Of a kind that is not repeated.
        let other = |error| azure_core_1::Error::new(ErrorKind::Other, error);
        let (status, body) = self.send(request).await.map_err(other)?;
        Ok(AsyncRawResponse::from_bytes(status.into(), http_1::headers::Headers::new(), body))
    }
}

impl IdentityEndpoint {
    async fn send(&self, request: &http_1::Request) -> Result<(u16, Bytes), Error> {
        let answer = self.0.execute_request(&outgoing(request)?).await;
        let (status, headers, body) = answer.map_err(|error| not_reached(error.into()))?.deconstruct();
        let body = body.collect().await.map_err(|error| not_reached(error.into()))?;
        if status.is_success() { Ok((status.into(), body)) } else { Err(unsuccessful(status.into(), &headers, &body)) }
    }
}

fn outgoing(request: &http_1::Request) -> Result<Request, Error> {
    let unsendable = |what: &str| Error::Unsendable(format!("{what} of a request for a token"));
    let method = request.method().as_ref().parse().map_err(|_| unsendable("the method"))?;
    let mut out = Request::new(request.url().clone(), method);
    for (name, value) in request.headers().iter() {
        out.insert_header(name.as_str().to_owned(), value.as_str().to_owned());
    }
    match request.body() {
        Body1::Bytes(bytes) => out.set_body(Body::Bytes(bytes.clone())),
        Body1::SeekableStream(_) => return Err(unsendable("the streamed body")),
    }
    Ok(out)
}

/// There may be a token later.
pub(super) fn unavailable(cause: String) -> Error {
    Error::NoToken { cause, retry_after: None }
}

fn not_reached(error: Error) -> Error {
    match error {
        Error::NotSent(cause) => unavailable(format!("the identity endpoint cannot be reached: {cause}")),
        Error::Unanswered(cause) => unavailable(format!("the identity endpoint did not answer: {cause}")),
        error => unavailable(format!("the identity endpoint: {error}")),
    }
}

/// Which answers pass by is said by the platform, under [error
/// handling](https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
fn unsuccessful(status: u16, headers: &Headers, body: &[u8]) -> Error {
    let cause = format!("the identity endpoint answered {status}{}", explanation(body));
    match status {
        404 | 408 | 410 | 429 | 500..=599 => Error::NoToken { cause, retry_after: retry_after(headers) },
        _ => Error::IdentityRefused(cause),
    }
}

fn retry_after(headers: &Headers) -> Option<Duration> {
    let seconds = headers.get_optional_str(&HeaderName::from_static("retry-after"))?.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// What the platform, or Entra ID, says of a failure.
fn explanation(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Explanation {
        #[serde(alias = "error_description")]
        message: String,
    }
    let explanation: Result<Explanation, _> = serde_json::from_slice(body);
    explanation.map_or_else(|_| String::new(), |explanation| format!(": {}", one_line(&explanation.message)))
}

/// A text without its line breaks, and without the crate's advice where to read on.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("To troubleshoot"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
