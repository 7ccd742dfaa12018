//! The HTTP side of an invocation, header by header as the host sends it.
//!
//! One client for all, as in the host: connections are kept and reused. On hyper, because a client for applications
//! adds headers of its own. Names come in title case, of which `X-Azure-Functions-InvocationId` is one that .NET spells
//! differently. The real client follows redirects; what they lead to is no answer either, so this one does not.
//! `DefaultHttpWorkerService` in
//! <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Frame, Incoming},
    ext::ReasonPhrase,
    header::CONTENT_TYPE,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::{call::Call, response::Answer};

/// The version this imitates.
const HOST_VERSION: &str = "4.1037.0.0";
/// The time for which .NET keeps an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The framing of the body of an invocation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Framing {
    /// `Content-Length`, as under Core Tools.
    #[default]
    Sized,
    /// `Transfer-Encoding: chunked`, as on Azure.
    Chunked,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("{}", root_cause(.0))]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("{}", root_cause(.0))]
    Answer(#[from] hyper::Error),
}

/// A client that probes the handler: `GET /` without anything special.
#[derive(Clone)]
pub(crate) struct Prober {
    client: Client<HttpConnector, Full<Bytes>>,
    port: u16,
    limit: Duration,
}

impl Prober {
    /// Makes a prober; `limit` bounds the wait for one answer.
    pub(crate) fn new(port: u16, limit: Duration) -> Self {
        // A connection kept from one life of the handler would be broken in the next.
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.http1_title_case_headers(true).pool_max_idle_per_host(0).build(connector());
        Self { client, port, limit }
    }

    pub(crate) async fn probe(&self) -> Sign {
        let Ok(uri) = Uri::try_from(format!("http://127.0.0.1:{}/", self.port)) else { return Sign::Refusal };
        match tokio::time::timeout(self.limit, self.client.get(uri)).await {
            Ok(Err(error)) if error.is_connect() => Sign::Refusal,
            Ok(_) => Sign::Life,
            Err(_) => Sign::Silence,
        }
    }
}

/// The result of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// Any answer, and even none when a connection was made and broken.
    Life,
    /// Nobody listens.
    Refusal,
    /// No answer within the limit, which is another error to the host than a broken connection.
    Silence,
}

/// Calls the handler.
pub(crate) struct HandlerClient {
    client: Client<HttpConnector, BoxBody<Bytes, Infallible>>,
    port: u16,
    framing: Framing,
    traced: bool,
}

impl HandlerClient {
    /// Makes a client; `traced` when Application Insights is set up: only then has a request a trace to belong to.
    pub(crate) fn new(port: u16, framing: Framing, traced: bool) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http1_title_case_headers(true)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_timer(TokioTimer::new())
            // A connection that has died in the pool fails the invocation, which is not sent a second time.
            .retry_canceled_requests(false)
            .build(connector());
        Self { client, port, framing, traced }
    }

    pub(crate) async fn post(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        let mut request = Request::post(format!("http://127.0.0.1:{}/{}", self.port, call.function.name))
            .header("X-Azure-Functions-HostVersion", HOST_VERSION)
            .header("X-Azure-Functions-InvocationId", call.id.to_string())
            .header("User-Agent", format!("Azure-Functions-Host/{HOST_VERSION}"));
        if self.traced {
            request = request.header("traceparent", trace_parent());
        }
        let request = request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(match self.framing {
            Framing::Sized => Full::new(call.body.clone()).boxed(),
            // A body that does not tell its length beforehand, which makes the client send chunks.
            Framing::Chunked => {
                BodyExt::boxed(StreamBody::new(futures_util::stream::iter([Ok(Frame::data(call.body.clone()))])))
            }
        })?;
        answer(self.client.request(request).await?).await
    }
}

/// Makes a connector without Nagle's algorithm, as .NET has it.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

async fn answer(response: Response<Incoming>) -> Result<Answer, CallError> {
    let status = response.status();
    let phrase = response.extensions().get::<ReasonPhrase>();
    let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(Answer {
        status: status.as_u16(),
        reason: phrase.or_else(|| StatusCode::canonical_reason(&status).map(str::to_owned)).unwrap_or_default(),
        content_type: content_type.map(str::to_owned),
        body: response.into_body().collect().await?.to_bytes().into(),
    })
}

/// Makes a sampled-out trace of its own. <https://www.w3.org/TR/trace-context/#traceparent-header>
fn trace_parent() -> String {
    format!("00-{:032x}-{:016x}-00", fastrand::u128(1..), fastrand::u64(1..))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
