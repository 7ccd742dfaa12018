//! One connection to the handler, on which the host's requests are made one after the other.
//!
//! It is as light as a client can be: the machine is shared with the handler, and it is the handler that is measured.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use std::net::Ipv4Addr;
use tokio::net::TcpStream;
use uuid::Uuid;

/// The version this imitates.
const HOST_VERSION: &str = "4.1037.0.0";
const QUEUE: &str = "/queue_with_idempotency";
const TIMER: &str = "/scheduled_with_retry";
const TICK: &[u8] = br#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}},"Metadata":{"RetryContext":{"RetryCount":0,"MaxRetryCount":3,"Exception":null,"Instance":null,"State":{}}}}"#;
/// In the answer to an order that is neither committed nor known.
const NO_RECEIPT: &[u8] = b"\"ReturnValue\":null";

/// An open connection.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    /// Connects to the handler on this port of this machine.
    pub(super) async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: format!("127.0.0.1:{port}") })
    }

    /// Probes whether the handler is ready, as the host does.
    pub(super) async fn probe(&mut self) -> Result<()> {
        let request = Request::get("/").header("Host", &self.host).body(Full::default())?;
        self.send(request).await.map(drop)
    }

    /// Delivers an order, and fails unless it is committed or known.
    pub(super) async fn order(&mut self, invocation: Uuid, body: Bytes) -> Result<()> {
        let answer = self.invoke(QUEUE, invocation, body).await?;
        let has_none = answer.windows(NO_RECEIPT.len()).any(|window| window == NO_RECEIPT);
        ensure!(!has_none, "an order was rejected or put back: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Fires the timer.
    pub(super) async fn tick(&mut self) -> Result<()> {
        self.invoke(TIMER, Uuid::new_v4(), Bytes::from_static(TICK)).await.map(drop)
    }

    async fn invoke(&mut self, path: &str, invocation: Uuid, body: Bytes) -> Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("Host", &self.host)
            .header("X-Azure-Functions-HostVersion", HOST_VERSION)
            .header("X-Azure-Functions-InvocationId", invocation.hyphenated().to_string())
            .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(Full::from(body))?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes> {
        self.sender.ready().await.context("the handler closed a connection")?;
        let response: Response<Incoming> = self.sender.send_request(request).await.context("the handler is gone")?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "the handler answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
