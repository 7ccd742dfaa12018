//! The endpoint that runs a function by hand, `POST /admin/functions/{name}`. The others of the real host do not concern
//! a handler.
//! <https://learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http>

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
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
    let listener = listener
        .with_context(|| format!("cannot listen on port {port} for /admin/functions, choose another with --port"))?;
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
    let mut response = Response::new(Full::default());
    *response.status_mut() = start(request, state).await;
    Ok(response)
}

/// Starts the function and answers at once: how it ends is only on the console.
async fn start(request: Request<Incoming>, state: Arc<HostState>) -> StatusCode {
    let path = request.uri().path();
    let is_function = path.get(..FUNCTIONS.len()).is_some_and(|start| start.eq_ignore_ascii_case(FUNCTIONS));
    let name = if is_function { path[FUNCTIONS.len()..].to_owned() } else { String::new() };
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
