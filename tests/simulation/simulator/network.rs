//! The network between the production code and the storage.
//!
//! Every request waits here until the schedule delivers it or lets it fail. Its sender learns of nothing but the
//! response, or that there is none.

use super::{answer::Answer as Response, call::Call, fault::Fault, storage::Storage};
use async_trait::async_trait;
use azure_core::{
    HttpClient, Request, StatusCode,
    headers::{HeaderName, Headers},
};
use futures::channel::oneshot;
use handler::storage::Error;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::Instant;

/// The time limit of the production connection for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit of the production connection for the response to a query.
const QUERY_LIMIT: Duration = Duration::from_secs(15);

/// The longest time between sending a request and applying it.
const MAX_DELAY: Duration = Duration::from_secs(30 * 60);

type Reply = Result<Response, Error>;

/// A request on its way, for whose response its sender waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) invocation: usize,
    pub(crate) call: Call,
    pub(crate) sent: Duration,
    reply: oneshot::Sender<Reply>,
}

/// A request for whose response nobody waits any more, and that may still be applied.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) call: Call,
    sent: Duration,
}

/// A request that got a response.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) invocation: usize,
    pub(crate) verb: &'static str,
    pub(crate) status: u16,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) storage: Storage,
    pub(crate) pending: Vec<Pending>,
    pub(crate) late: Vec<Late>,
    /// The invocation that is polled.
    pub(crate) sender: usize,
    /// The responses that each invocation got, which are all it knows; only kept for explorations.
    pub(crate) observations: Option<BTreeMap<usize, Vec<String>>>,
    pub(crate) answered: Vec<Answered>,
    /// The verbs of the requests that met a fault.
    pub(crate) faulted: BTreeSet<&'static str>,
    /// The steps of the history, if somebody wants to read them.
    pub(crate) trace: Option<Vec<String>>,
    /// The partitions in which rows can be. Queries for others are answered at once: their time makes no difference.
    partitions: Option<BTreeSet<String>>,
    /// Whether a lost response is a reset connection, or silence.
    resets: bool,
    silent: Vec<oneshot::Sender<Reply>>,
    start: Instant,
}

#[derive(Debug)]
pub(crate) struct Network(Mutex<State>);

impl Network {
    pub(crate) fn new(partitions: Option<BTreeSet<String>>, (page, resets): (usize, bool)) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            storage: Storage::new(page),
            pending: Vec::new(),
            late: Vec::new(),
            sender: 0,
            observations: None,
            answered: Vec::new(),
            faulted: BTreeSet::new(),
            trace: None,
            partitions,
            resets,
            silent: Vec::new(),
            start: Instant::now(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl HttpClient for Network {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<azure_core::Response> {
        let reply = self.state().send(request);
        let is_query = Call::queried_partition(request).is_some();
        let limit = if is_query { QUERY_LIMIT } else { RESPONSE_LIMIT };
        match tokio::time::timeout(limit, reply).await {
            Ok(Ok(Ok(response))) => Ok(response.into()),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::Unanswered("connection reset".to_owned()).into()),
            Err(_) => Err(Error::Unanswered("time limit reached".to_owned()).into()),
        }
    }
}

impl From<Response> for azure_core::Response {
    fn from(response: Response) -> Self {
        let mut headers = Headers::new();
        for (name, value) in response.headers {
            headers.insert(HeaderName::from_static(name), value);
        }
        let body = futures::stream::once(async { Ok(response.body.into()) });
        Self::new(StatusCode::try_from(response.status).unwrap(), headers, Box::pin(body))
    }
}

impl State {
    /// Adds a step to the trace.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.start.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>13.3} s  {}", at.as_secs_f64(), text()));
        }
    }

    fn send(&mut self, request: &Request) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        let partition = Call::queried_partition(request);
        if partition.zip(self.partitions.as_ref()).is_some_and(|(one, all)| !all.contains(&one)) {
            let _ = reply.send(Ok(self.storage.empty_page()));
        } else {
            let (call, sent) = (Call::read(request), self.start.elapsed());
            self.pending.push(Pending { invocation: self.sender, call, sent, reply });
        }
        receiver
    }

    /// Delivers a pending request, and its response.
    pub(crate) fn deliver(&mut self, index: usize) {
        let request = self.pending.remove(index);
        self.note(|| format!("invocation {}: {} … delivered", request.invocation, request.call.short()));
        let response = self.apply(&request.call);
        self.reply(request, Ok(response));
    }

    /// Lets a pending request meet a fault.
    pub(crate) fn fail(&mut self, index: usize, fault: Fault) {
        let request = self.pending.remove(index);
        self.note(|| format!("invocation {}: {} … {fault:?}", request.invocation, request.call.short()));
        self.faulted.insert(request.call.verb());
        let right = fault.is_applied().then(|| self.apply(&request.call));
        if fault == Fault::Delayed {
            self.late.push(Late { call: request.call.clone(), sent: request.sent });
        }
        match fault.response(&request.call, right) {
            Some(response) => self.reply(request, Ok(response)),
            None if fault == Fault::NotSent => {
                self.reply(request, Err(Error::NotSent("connection refused".to_owned())));
            }
            None => self.leave_unanswered(request),
        }
    }

    fn apply(&mut self, call: &Call) -> Response {
        let at = self.start.elapsed();
        self.storage.apply(call, at)
    }

    fn reply(&mut self, Pending { invocation, call, reply, .. }: Pending, response: Reply) {
        if let Ok(response) = &response {
            let inner = response.body.split("HTTP/1.1 ").nth(1).and_then(|part| part.get(..3)?.parse().ok());
            let status = inner.unwrap_or(response.status);
            self.answered.push(Answered { invocation, verb: call.verb(), status });
        }
        self.observe(invocation, || format!("{response:?}"));
        let _ = reply.send(response);
    }

    fn leave_unanswered(&mut self, Pending { invocation, reply, .. }: Pending) {
        self.observe(invocation, || "nothing".to_owned());
        if self.resets { drop(reply) } else { self.silent.push(reply) }
    }

    fn observe(&mut self, invocation: usize, text: impl FnOnce() -> String) {
        if let Some(observations) = &mut self.observations {
            observations.entry(invocation).or_default().push(text());
        }
    }

    /// Makes the requests late for whose response nobody waits any more.
    pub(crate) fn detach_cancelled(&mut self) {
        for Pending { call, sent, .. } in self.pending.extract_if(.., |pending| pending.reply.is_canceled()) {
            self.faulted.insert(call.verb());
            self.late.push(Late { call, sent });
        }
    }

    pub(crate) fn apply_late(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        let status = self.apply(&call).status;
        self.note(|| format!("late: {} … {status}", call.short()));
    }

    pub(crate) fn drop_late(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        self.note(|| format!("late: {} … dropped", call.short()));
    }

    /// Drops the requests that are later than any can be.
    pub(crate) fn drop_overdue(&mut self) {
        let now = self.start.elapsed();
        while let Some(index) = self.late.iter().position(|late| now > late.sent + MAX_DELAY) {
            self.drop_late(index);
        }
    }
}
