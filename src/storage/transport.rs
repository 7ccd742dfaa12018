//! Transport that makes the answers to the client honest.
//!
//! Every answer that is not a complete success becomes an [`Error`] here, before the client sees it: its own reading of
//! errors misses the code that real Azure puts into the body only, and would hand an XML body to a parser with known
//! weaknesses. The transport works over any `HttpClient`: over a [`PooledClient`](super::PooledClient), and over
//! the simulated service of the tests.

use super::{Error, batch::ODataError};
use async_trait::async_trait;
use azure_core::{
    HttpClient, Request, Response,
    headers::{HeaderName, Headers},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// The client insists on these in every successful answer, and would report a write that was applied as failed without
/// them or with others. Nobody reads them.
const EXPECTED_HEADERS: [(&str, &str); 4] = [
    ("server", "unknown"),
    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("x-ms-version", "unknown"),
    ("x-ms-request-id", "00000000-0000-0000-0000-000000000000"),
];

/// The `HttpClient` that the clients of tables and queues are given.
#[derive(Debug)]
pub struct Transport {
    inner: Arc<dyn HttpClient>,
}

impl Transport {
    /// Sends through `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn HttpClient>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let response = self.inner.execute_request(request).await?;
        let (status, mut headers, body) = response.deconstruct();
        let body = body.collect().await?;
        if !status.is_success() {
            return Err(refused(status.into(), &headers, &body).into());
        }
        EXPECTED_HEADERS.into_iter().for_each(|(name, value)| headers.insert(name, value));
        Ok(Response::new(status, headers, Box::pin(futures::stream::once(async { Ok(body) }))))
    }
}

/// One header. The client's own way to it composes the text of an error first, whether there is one or not.
pub(super) fn header<'a>(headers: &'a Headers, name: &HeaderName) -> Option<&'a str> {
    headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
}

fn refused(status: u16, headers: &Headers, body: &Bytes) -> Error {
    let code = header(headers, &HeaderName::from_static("x-ms-error-code")).map(str::to_owned);
    let code = code.or_else(|| error_code(body)).unwrap_or_default();
    Error::Refused { status, code, operation: None, retry_after: retry_after(headers) }
}

/// The error code of a body in JSON, as the Table service sends it, or in XML, as what stands before it does.
fn error_code(body: &[u8]) -> Option<String> {
    if let Ok(error) = serde_json::from_slice::<ODataError>(body) {
        return Some(error.into_code_and_message().0);
    }
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = ["<Code>", "<code>", "<m:code>"].iter().find_map(|tag| text.split_once(tag))?;
    let code = rest.split_once('<')?.0;
    (code.len() <= 64 && code.chars().all(char::is_alphanumeric)).then(|| code.to_owned())
}

/// [`Retry-After`](https://www.rfc-editor.org/rfc/rfc9110#name-retry-after) in seconds, or the service's own form in
/// milliseconds. A date is not read: it would need a clock that agrees with the service's.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let number = |name| header(headers, &HeaderName::from_static(name))?.parse::<u32>().ok();
    number("x-ms-retry-after-ms")
        .map(|millis| Duration::from_millis(millis.into()))
        .or_else(|| number("retry-after").map(|seconds| Duration::from_secs(seconds.into())))
}
