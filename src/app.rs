//! One invocation from the socket to the answer: open its span, read it, run its function, encode the outcome.
//!
//! Every invocation is a task of its own: a panic in it fails the invocation and not the process, and a host that hangs
//! up does not cut it off half-way. It ends at its deadline, before the host would kill the
//! process and every other invocation in it. Dropping it there is safe: see [`ledger`](crate::idempotency::ledger).

use crate::{
    attempt::{Attempt, time_of_day},
    functions::{self, App, queue_with_idempotency, scheduled_with_retry},
    logging::InvocationLog,
    protocol::{
        invocation::{queue_message, timer_tick},
        response::{self, InvocationError},
    },
    trace_context::traceparent,
};
use actix_web::{
    HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    rt::spawn,
    web::{Bytes, Data, Payload, ServiceConfig, get, post, resource, to},
};
use std::{net::TcpListener, sync::Arc, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};
use tracing::{Instrument, error};
use uuid::Uuid;

/// Longest body: the largest queue message, encoded twice and repeated in `Metadata`, stays below 1 MiB.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// The host keeps idle connections for a minute and does not repeat a request that meets a closed one.
const KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);

/// Time that invocations in flight have after the process was asked to end, and what was answered is published; the host
/// waits 10 s.
const DRAIN_SECONDS: u64 = 7;

/// Serves invocations of `app` on `listener`, each for no longer than `limit`.
///
/// # Errors
///
/// The listener cannot be used.
pub fn server(listener: TcpListener, app: Arc<App>, limit: Duration) -> std::io::Result<Server> {
    let served = Data::new(Served { app, limit });
    let routed = move || {
        // In the thread of the invocations: another one would have to be woken for each order.
        spawn(publish(served.app.clone()));
        actix_web::App::new().app_data(served.clone()).configure(routes)
    };
    let server = HttpServer::new(routed)
        // An instance has a fraction of a core, and an invocation mostly waits: one thread serves thousands a second.
        .workers(1)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(Duration::from_secs(60))
        .shutdown_timeout(DRAIN_SECONDS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

struct Served {
    app: Arc<App>,
    limit: Duration,
}

/// Publishes what was committed, for as long as the process lives. A panic leaves what was under way to the timer.
async fn publish(app: Arc<App>) {
    loop {
        let app = app.clone();
        let run = async move { app.publisher.run(&app.ledger, &app.events).await };
        if spawn(run).await.is_err() {
            error!("Publishing has panicked; what was under way is left to the timer.");
        }
    }
}

/// Names the paths the host may call.
fn routes(services: &mut ServiceConfig) {
    services
        .service(resource("/").route(get().to(ready)).default_service(to(not_found)))
        .service(resource("/queue_with_idempotency").route(post().to(queue)).default_service(to(not_found)))
        .service(resource("/scheduled_with_retry").route(post().to(timer)).default_service(to(not_found)))
        .default_service(to(not_found));
}

async fn ready(payload: Payload) -> HttpResponse {
    yield_before_answer(payload).await;
    response::ready()
}

async fn not_found(payload: Payload) -> HttpResponse {
    yield_before_answer(payload).await;
    response::not_found()
}

/// Yields before the answer, so that the server notices that nobody will read this body.
///
/// Actix-http (3.20) has read a part of a pipelined request already, and waits until that is wanted. An answer in the
/// same instant would leave it waiting for ever, with the connection open.
async fn yield_before_answer(payload: Payload) {
    drop(payload);
    yield_now().await;
}

/// Arguments of every route.
type Call = (HttpRequest, Payload, Data<Served>);

async fn queue(call: Call) -> HttpResponse {
    invoke("queue_with_idempotency", call, async |app, body, attempt| {
        let message = queue_message(&body)?;
        // The message is in it twice, escaped twice, and the requests take the longest.
        drop(body);
        Ok(match queue_with_idempotency::run(app, &message, attempt).await? {
            queue_with_idempotency::Served::Receipt(receipt) => Some(receipt),
            _ => None,
        })
    })
    .await
}

async fn timer(call: Call) -> HttpResponse {
    invoke("scheduled_with_retry", call, async |app, body, attempt| {
        scheduled_with_retry::run(app, &timer_tick(&body)?, attempt).await.map_err(functions::Error::from)?;
        Ok(None)
    })
    .await
}

/// Answer to the first delivery of an order; other invocations have none.
type Receipt = Option<String>;

async fn invoke(
    function: &'static str,
    (request, payload, served): Call,
    work: impl AsyncFnOnce(&App, Bytes, &Attempt) -> Result<Receipt, InvocationError> + 'static,
) -> HttpResponse {
    let limit = served.limit;
    let attempt = attempt(&request, limit);
    let deadline = attempt.deadline;
    let log = InvocationLog::default();
    let span = log.open(function, &attempt.invocation_id);
    let run = timeout_at(deadline, async move { work(&served.app, read(payload).await?, &attempt).await });
    let result = match spawn(run.instrument(span.clone())).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(InvocationError::Deadline(limit)),
        Err(_) => Err(InvocationError::Panic),
    };
    match result {
        Ok(receipt) => response::success(receipt.as_deref(), &log.take()),
        Err(error) => {
            span.in_scope(|| error!("Invocation failed: {error}"));
            log.print();
            response::failure(&error)
        }
    }
}

/// Reads the clocks, and draws all the chance of the invocation from the operating system: instances started from one
/// image at one instant must not draw the same.
fn attempt(request: &HttpRequest, limit: Duration) -> Attempt {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let id = header("x-azure-functions-invocationid").unwrap_or("unknown").to_owned();
    // A UUID has 122 random bits; two of them, one shifted, have all 128.
    let entropy = Uuid::new_v4().as_u128() ^ Uuid::new_v4().as_u128().rotate_left(32);
    let mut attempt = Attempt::new(id, time_of_day(), Instant::now() + limit, entropy);
    attempt.traceparent = header("traceparent").and_then(traceparent);
    attempt
}

async fn read(payload: Payload) -> Result<Bytes, InvocationError> {
    match payload.to_bytes_limited(MAX_BODY).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(InvocationError::Incomplete(error.to_string())),
        Err(_) => Err(InvocationError::Incomplete(format!("more than {MAX_BODY} bytes"))),
    }
}
