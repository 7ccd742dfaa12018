//! The HTTP side of an invocation, header by header as the host sends it.
//!
//! One client for all, as in the host: connections are kept and reused. `DefaultHttpWorkerService` in
//! <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>

use anyhow::Result;
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::{body::Frame, ext::ReasonPhrase};
use reqwest::Body;

use crate::{invocation::Call, response::Answer};

/// The version this imitates.
const HOST_VERSION: &str = "4.1037.0.0";

/// How the body of an invocation is framed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Framing {
    /// `Content-Length`, as under Core Tools.
    #[default]
    Sized,
    /// `Transfer-Encoding: chunked`, as on Azure.
    Chunked,
}

/// Calls the handler.
pub(crate) struct HandlerClient {
    client: reqwest::Client,
    port: u16,
    framing: Framing,
}

impl HandlerClient {
    pub(crate) fn new(port: u16, framing: Framing) -> Result<Self> {
        Ok(Self { client: reqwest::Client::builder().no_proxy().build()?, port, framing })
    }

    pub(crate) async fn post(&self, call: &Call<'_>) -> reqwest::Result<Answer> {
        let body = match self.framing {
            Framing::Sized => Body::from(call.body.clone()),
            Framing::Chunked => Body::wrap(unsized_body(call.body.clone())),
        };
        let request = self
            .client
            .post(format!("http://127.0.0.1:{}/{}", self.port, call.function.name))
            .header("X-Azure-Functions-HostVersion", HOST_VERSION)
            .header("X-Azure-Functions-InvocationId", call.id.to_string())
            .header("User-Agent", format!("Azure-Functions-Host/{HOST_VERSION}"))
            .header("Content-Type", "application/json; charset=utf-8")
            .body(body);
        let response = request.send().await?;
        let status = response.status();
        let phrase = response.extensions().get::<ReasonPhrase>();
        let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: status.as_u16(),
            reason: phrase.or_else(|| status.canonical_reason().map(str::to_owned)).unwrap_or_default(),
            content_type: content_type.map(str::to_owned),
            body: response.bytes().await?.into(),
        })
    }
}

/// A body that does not tell its length beforehand, which makes the client send chunks.
fn unsized_body(bytes: Bytes) -> impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> {
    StreamBody::new(futures_util::stream::iter([Ok(Frame::data(bytes))]))
}
