//! The network between the production code and the storage.
//!
//! Every request waits here until the schedule delivers it or lets it fail. Its sender learns of nothing but the
//! response, or that there is none.

use super::{fault::Fault, journal::Entry};
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, StatusCode,
    headers::{HeaderName, Headers},
};
use futures::channel::oneshot;
use handler::storage::Error;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use test_storage::{
    Kind,
    emulated::{Applied, Call, Change, EmulatedStorage, Operation, Response},
};
use tokio::time::Instant;

/// The time limit of the production connection for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit of the production connection for the response to a query.
const QUERY_LIMIT: Duration = Duration::from_secs(15);

/// The longest time between sending a request and applying it.
const MAX_DELAY: Duration = Duration::from_secs(30 * 60);

/// The queue that triggers the function.
pub(crate) const ORDERS: &str = "orders";

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
    pub(crate) kind: Kind,
    pub(crate) status: u16,
}

/// The numbers of requests that a simulation must not miss.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Pages with a continuation token.
    pub(crate) continued: u64,
    /// Transactions that delete, and those of them that were refused.
    pub(crate) deletions: u64,
    pub(crate) refused_deletions: u64,
}

impl Counts {
    fn add(&mut self, call: &Call, response: &Response) {
        self.continued += u64::from(response.header("x-ms-continuation-nextpartitionkey").is_some());
        if let Call::Transaction(operations) = call
            && let [Operation::Delete(..), ..] = operations[..]
        {
            self.deletions += 1;
            self.refused_deletions += u64::from(status(response) >= 400);
        }
    }
}

/// Returns the status of a response, or that of the first operation inside a response to a transaction.
fn status(response: &Response) -> u16 {
    let inner = response.body.split("HTTP/1.1 ").nth(1).and_then(|part| part.get(..3)?.parse().ok());
    inner.unwrap_or(response.status)
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) storage: EmulatedStorage,
    /// Every change of the storage.
    pub(crate) journal: Vec<Entry>,
    /// The number of requests that were applied.
    applied: u32,
    pub(crate) pending: Vec<Pending>,
    pub(crate) late: Vec<Late>,
    /// The messages that were put back on the queue, and have not been seen by the host, and the time until they are.
    pub(crate) given_back: Vec<(String, Duration)>,
    /// The invocation that is polled.
    pub(crate) sender: usize,
    /// A hash of the responses that each invocation got, which are all it knows.
    pub(crate) observations: BTreeMap<usize, DefaultHasher>,
    pub(crate) answered: Vec<Answered>,
    pub(crate) counts: Counts,
    /// The kinds of requests that met a fault.
    pub(crate) faulted: BTreeSet<Kind>,
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
        let mut storage = EmulatedStorage::new(page);
        storage.apply(&Call::CreateQueue(ORDERS.to_owned()));
        Arc::new(Self(Mutex::new(State {
            storage,
            journal: Vec::new(),
            applied: 0,
            pending: Vec::new(),
            late: Vec::new(),
            given_back: Vec::new(),
            sender: 0,
            observations: BTreeMap::new(),
            answered: Vec::new(),
            counts: Counts::default(),
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
        let call = read_call(request);
        let limit = if matches!(call, Call::Query(_)) { QUERY_LIMIT } else { RESPONSE_LIMIT };
        let reply = self.state().send(call);
        match tokio::time::timeout(limit, reply).await {
            Ok(Ok(Ok(response))) => Ok(into_http(response)),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::Unanswered("connection reset".to_owned()).into()),
            Err(_) => Err(Error::Unanswered("time limit reached".to_owned()).into()),
        }
    }
}

/// Reads a request of the production client.
pub(crate) fn read_call(request: &Request) -> Call {
    let Body::Bytes(body) = request.body() else { panic!("only plain bodies are sent") };
    let if_match = request.headers().get_optional_str(&HeaderName::from_static("if-match")).unwrap_or_default();
    let (method, url) = (request.method().as_ref(), request.url());
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let call = Call::read((method, &target), if_match, std::str::from_utf8(body).unwrap());
    call.unwrap_or_else(|| panic!("not emulated: {method} {target}"))
}

/// Makes a response for the production client.
pub(crate) fn into_http(response: Response) -> azure_core::Response {
    let mut headers = Headers::new();
    for (name, value) in response.headers {
        headers.insert(HeaderName::from_static(name), value);
    }
    let body = futures::stream::once(async { Ok(response.body.into()) });
    azure_core::Response::new(StatusCode::try_from(response.status).unwrap(), headers, Box::pin(body))
}

impl State {
    /// Adds a step to the trace.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.start.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>13.3} s  {}", at.as_secs_f64(), text()));
        }
    }

    fn send(&mut self, call: Call) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        match (&call, &self.partitions) {
            (Call::Query(query), Some(partitions)) if !partitions.contains(&query.partition) => {
                let _ = reply.send(Ok(self.storage.apply(&call).response));
            }
            // Nothing depends on them.
            (Call::GetQueue(_) | Call::GetMessages(_), _) => {
                let _ = reply.send(Ok(self.storage.apply(&call).response));
            }
            _ => {
                let sent = self.start.elapsed();
                self.pending.push(Pending { invocation: self.sender, call, sent, reply });
            }
        }
        receiver
    }

    /// Delivers a pending request, and its response.
    pub(crate) fn deliver(&mut self, index: usize) {
        let request = self.pending.remove(index);
        self.note(|| format!("invocation {}: {} … delivered", request.invocation, request.call));
        let response = self.apply(&request.call);
        self.reply(request, Ok(response));
    }

    /// Lets a pending request meet a fault.
    pub(crate) fn fail(&mut self, index: usize, fault: Fault) {
        let request = self.pending.remove(index);
        self.note(|| format!("invocation {}: {} … {fault:?}", request.invocation, request.call));
        self.faulted.insert(request.call.kind());
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
        let (at, request) = (self.start.elapsed(), self.applied);
        self.applied += 1;
        let Applied { response, changes, .. } = self.storage.apply(call);
        for change in &changes {
            if let Change::Put { queue, text, invisible } = change
                && queue == ORDERS
            {
                self.given_back.push((text.clone(), *invisible));
            }
        }
        self.journal.extend(changes.into_iter().map(|change| Entry { at, request, change }));
        self.counts.add(call, &response);
        response
    }

    fn reply(&mut self, Pending { invocation, call, reply, .. }: Pending, response: Reply) {
        if let Ok(response) = &response {
            self.answered.push(Answered { invocation, kind: call.kind(), status: status(response) });
        }
        let observation = response.as_ref().map_err(|error| format!("{error:?}"));
        observation.hash(self.observations.entry(invocation).or_default());
        let _ = reply.send(response);
    }

    fn leave_unanswered(&mut self, Pending { invocation, reply, .. }: Pending) {
        "nothing".hash(self.observations.entry(invocation).or_default());
        if self.resets { drop(reply) } else { self.silent.push(reply) }
    }

    /// Tells whether no other requests than transactions met faults.
    pub(crate) fn only_commits_failed(&self) -> bool {
        self.faulted.iter().all(|kind| *kind == Kind::Batch)
    }

    /// Makes the requests late for whose response nobody waits any more.
    pub(crate) fn detach_cancelled(&mut self) {
        for Pending { call, sent, .. } in self.pending.extract_if(.., |pending| pending.reply.is_canceled()) {
            self.faulted.insert(call.kind());
            self.late.push(Late { call, sent });
        }
    }

    pub(crate) fn apply_late(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        let status = self.apply(&call).status;
        self.note(|| format!("late: {call} … {status}"));
    }

    pub(crate) fn drop_late(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        self.note(|| format!("late: {call} … dropped"));
    }

    /// Drops the requests that are later than any can be.
    pub(crate) fn drop_overdue(&mut self) {
        let now = self.start.elapsed();
        while let Some(index) = self.late.iter().position(|late| now > late.sent + MAX_DELAY) {
            self.drop_late(index);
        }
    }
}
