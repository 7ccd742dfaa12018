//! The host's own endpoints: run a function by hand, ask after the handler's health, stop taking new work.
//!
//! `POST /admin/functions/{name}`, `GET` or `POST /admin/host/ping`, `POST /admin/host/drain` and
//! `GET /admin/host/drain/status`.
//! <https://learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http>, `HostController` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script.WebHost/Controllers>

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::state::HostState;

const FUNCTIONS: &str = "/admin/functions/";

#[derive(Deserialize)]
struct Input {
    input: Option<String>,
}

/// Binds the endpoint; port 0 takes a free one. Returns the port.
pub(crate) async fn serve(port: u16, state: Arc<HostState>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port} for the admin endpoint"))?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                () = state.shutdown.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            if let Ok((stream, _)) = stream {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            }
        }
    });
    Ok(port)
}

async fn connection(stream: TcpStream, state: Arc<HostState>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    // A client that goes away is no concern of the host.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<HostState>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_ascii_lowercase();
    Ok(match (path.as_str(), request.method()) {
        ("/admin/host/ping", &Method::GET | &Method::POST) => {
            // Whatever the handler answers, the host is well.
            if request.uri().query().is_some_and(|query| query.eq_ignore_ascii_case("checkHealth=1")) {
                state.ping_handler().await;
            }
            empty(StatusCode::OK)
        }
        ("/admin/host/drain", &Method::POST) => {
            state.drain();
            empty(StatusCode::ACCEPTED)
        }
        ("/admin/host/drain/status", &Method::GET) => drain_status(&state),
        _ => empty(start(request, state).await),
    })
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn drain_status(state: &HostState) -> Response<Full<Bytes>> {
    let outstanding = state.outstanding_invocations();
    let phase = match (state.is_draining(), outstanding) {
        (false, _) => "Disabled",
        (true, 0) => "Completed",
        (true, _) => "InProgress",
    };
    let body = json!({ "state": phase, "outstandingInvocations": outstanding }).to_string();
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Starts the function and answers at once: how it ends is only on the console.
async fn start(request: Request<Incoming>, state: Arc<HostState>) -> StatusCode {
    let name = request.uri().path().strip_prefix(FUNCTIONS).unwrap_or_default().to_owned();
    if state.app.function(&name).is_none() {
        return StatusCode::NOT_FOUND;
    }
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    let Ok(body) = request.into_body().collect().await else { return StatusCode::BAD_REQUEST };
    match serde_json::from_slice::<Option<Input>>(&body.to_bytes()) {
        Ok(Some(Input { input })) => {
            tokio::spawn(async move { state.invoke(&name, input.as_deref()).await.map(drop) });
            StatusCode::ACCEPTED
        }
        Ok(None) | Err(_) => StatusCode::BAD_REQUEST,
    }
}
