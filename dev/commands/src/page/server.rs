//! Serves the page on loopback, and only to itself.
//!
//! Every page that a browser shows can send requests to loopback. One is answered only if its `Host` is this server's, which
//! a name that somebody has rebound to 127.0.0.1 is not, and a button is pressed only if the `Origin` is too. The
//! content security policy lets the page load nothing from anywhere. <https://www.w3.org/TR/CSP3/>,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, ORIGIN, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::Shared;

const PAGE: &str = include_str!("page.html");
/// The place of the nonce in it.
const NONCE: &str = "{nonce}";
const BUTTONS: &str = "/press/";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Serves on a port, or on any free one if it is taken or 0. Returns the port.
pub(super) async fn serve(port: u16, shared: Arc<Shared>) -> Result<u16> {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for the page")?,
    };
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // There are no more file handles, for now.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let shared = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(request, port, shared).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(port)
}

async fn answer(request: Request<Incoming>, port: u16, shared: Arc<Shared>) -> Answer {
    if !is_ours(&request, port) {
        return text(StatusCode::FORBIDDEN, "This page answers only to itself.");
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => page(),
        (&Method::GET, "/events") => events(&shared),
        (&Method::POST, path) if path.starts_with(BUTTONS) => match shared.press(&path[BUTTONS.len()..]).await {
            Ok(said) => text(StatusCode::OK, &said),
            Err(error) => text(StatusCode::CONFLICT, &format!("{error:#}")),
        },
        _ => text(StatusCode::NOT_FOUND, "There is nothing here."),
    }
}

/// Says whether a request is for this server, and comes from its own page or, to read only, from no page at all.
fn is_ours(request: &Request<Incoming>, port: u16) -> bool {
    let header = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let hosts = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
    let Some(host) = header(HOST).filter(|host| hosts.iter().any(|own| own == host)) else { return false };
    match header(ORIGIN) {
        Some(origin) => origin.strip_prefix("http://") == Some(host),
        None => request.method() == Method::GET,
    }
}

fn page() -> Answer {
    let nonce = format!("{:032x}", fastrand::u128(..));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut answer = answered("text/html; charset=utf-8", Full::from(PAGE.replace(NONCE, &nonce)).boxed());
    if let Ok(policy) = policy.parse() {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// Streams the state: as it is, and then whenever it changes. A reader that is slow misses what is outdated.
fn events(shared: &Shared) -> Answer {
    let mut states = shared.state.subscribe();
    states.mark_changed();
    let events = stream::unfold(states, async |mut states| {
        states.changed().await.ok()?;
        let event = format!("data: {}\n\n", *states.borrow_and_update());
        Some((Ok(Frame::data(Bytes::from(event))), states))
    });
    answered("text/event-stream", BodyExt::boxed(StreamBody::new(events)))
}

fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = answered("text/plain; charset=utf-8", Full::from(text.to_owned()).boxed());
    *answer.status_mut() = status;
    answer
}

fn answered(kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers {
        answer.headers_mut().insert(name, value.parse().unwrap_or_else(|_| unreachable!("a constant")));
    }
    answer
}
