//! The network between the production code and the storage. Every request waits here until it is decided what becomes
//! of it; whoever sent it learns of nothing but the answer, or that there is none.

use super::{
    call::Call,
    storage::{Answer, Storage},
};
use async_trait::async_trait;
use azure_core::{
    HttpClient, Request, Response, StatusCode,
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

/// As the connection has it: who waits longer for an answer does not wait any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    NotSent,
    RequestLost,
    ReplyLost,
    /// No answer; it is applied at some later time, or never.
    Delayed,
    Throttled,
    /// The answer is an error 500, and it was applied all the same.
    FailedAndApplied,
    Failed,
}

impl Fate {
    pub(crate) const FAULTS: &[Self] = &[
        Self::NotSent,
        Self::RequestLost,
        Self::ReplyLost,
        Self::Delayed,
        Self::Throttled,
        Self::FailedAndApplied,
        Self::Failed,
    ];

    /// One of each kind: the others differ in their words only. Known not to be applied, lost either way, applied later.
    pub(crate) const KINDS_OF_FAULT: &[Self] = &[Self::NotSent, Self::RequestLost, Self::ReplyLost, Self::Delayed];
}

type Reply = Result<Answer, Error>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) task: usize,
    pub(crate) call: Call,
    reply: oneshot::Sender<Reply>,
}

/// A request that was answered: by which task, what, with which status.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) task: usize,
    pub(crate) call: &'static str,
    pub(crate) status: u16,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) storage: Storage,
    pub(crate) parked: Vec<Parked>,
    /// Requests nobody waits for any more, and that may still be applied.
    pub(crate) late: Vec<Call>,
    /// The task that runs.
    pub(crate) sender: usize,
    /// What each task was answered so far, which is all it knows; if anybody wants to compare.
    pub(crate) seen: Option<BTreeMap<usize, Vec<String>>>,
    pub(crate) answered: Vec<Answered>,
    /// Which requests met something else than their service.
    pub(crate) faulted: BTreeSet<&'static str>,
    /// The history, if anybody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
    /// The partitions in which something can be. Nothing ever changes in the others, so that it does not matter when
    /// a request for them is answered: at once.
    partitions: BTreeSet<String>,
    /// Whether a lost answer is a connection that was reset, or silence.
    resets: bool,
    silent: Vec<oneshot::Sender<Reply>>,
    start: Instant,
}

#[derive(Debug)]
pub(crate) struct Network(Mutex<State>);

impl Network {
    pub(crate) fn new(partitions: BTreeSet<String>, (page, resets): (usize, bool)) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            storage: Storage::new(page),
            parked: Vec::new(),
            late: Vec::new(),
            sender: 0,
            seen: None,
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
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let reply = self.state().send(request);
        match tokio::time::timeout(PATIENCE, reply).await {
            Ok(Ok(Ok(answer))) => Ok(answer.into()),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::Unanswered("connection reset".to_owned()).into()),
            Err(_) => Err(Error::Unanswered("time limit reached".to_owned()).into()),
        }
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut headers = Headers::new();
        for (name, value) in answer.headers {
            headers.insert(HeaderName::from_static(name), value);
        }
        let body = futures::stream::once(async { Ok(answer.body.into()) });
        Self::new(StatusCode::try_from(answer.status).unwrap(), headers, Box::pin(body))
    }
}

impl State {
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.start.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>13.3} s  {}", at.as_secs_f64(), text()));
        }
    }

    fn send(&mut self, request: &Request) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        match Call::queried_partition(request) {
            Some(partition) if !self.partitions.contains(&partition) => {
                let _ = reply.send(Ok(self.storage.empty_page()));
            }
            _ => self.parked.push(Parked { task: self.sender, call: Call::read(request), reply }),
        }
        receiver
    }

    /// Lets the request `index` meet its fate.
    pub(crate) fn meet(&mut self, index: usize, fate: Fate) {
        let parked = self.parked.remove(index);
        self.note(|| format!("task {}: {} … {fate:?}", parked.task, parked.call.short()));
        if fate != Fate::Delivered {
            self.faulted.insert(parked.call.verb());
        }
        match fate {
            Fate::Delivered => self.deliver(parked),
            Fate::NotSent => self.reply(parked, Err(Error::NotSent("connection refused".to_owned()))),
            Fate::RequestLost => self.leave(parked),
            Fate::ReplyLost => {
                self.apply(&parked.call);
                self.leave(parked);
            }
            Fate::Delayed => {
                self.late.push(parked.call.clone());
                self.leave(parked);
            }
            Fate::Throttled => self.reply(parked, Ok(Answer::refused((503, "ServerBusy"), None))),
            Fate::FailedAndApplied => {
                self.apply(&parked.call);
                self.reply(parked, Ok(Answer::refused((500, "InternalError"), None)));
            }
            Fate::Failed => self.reply(parked, Ok(Answer::refused((500, "InternalError"), None))),
        }
    }

    fn apply(&mut self, call: &Call) -> Answer {
        let at = self.start.elapsed();
        self.storage.apply(call, at)
    }

    fn deliver(&mut self, parked: Parked) {
        let answer = self.apply(&parked.call);
        self.reply(parked, Ok(answer));
    }

    fn reply(&mut self, Parked { task, call, reply }: Parked, answer: Reply) {
        if let Ok(answer) = &answer {
            let inner = answer.body.split("HTTP/1.1 ").nth(1).and_then(|part| part.get(..3)?.parse().ok());
            self.answered.push(Answered { task, call: call.verb(), status: inner.unwrap_or(answer.status) });
        }
        if let Some(seen) = &mut self.seen {
            seen.entry(task).or_default().push(format!("{answer:?}"));
        }
        let _ = reply.send(answer);
    }

    /// Nobody will answer.
    fn leave(&mut self, Parked { task, reply, .. }: Parked) {
        if let Some(seen) = &mut self.seen {
            seen.entry(task).or_default().push("nothing".to_owned());
        }
        if self.resets { drop(reply) } else { self.silent.push(reply) }
    }

    /// Requests for whose answer nobody waits any more are on their way all the same.
    pub(crate) fn abandon(&mut self) {
        let (abandoned, parked) = std::mem::take(&mut self.parked).into_iter().partition(|p| p.reply.is_canceled());
        self.parked = parked;
        let abandoned: Vec<Parked> = abandoned;
        self.late.extend(abandoned.into_iter().map(|parked| parked.call));
    }

    /// Applies a request that is late.
    pub(crate) fn land(&mut self, index: usize) {
        let call = self.late.remove(index);
        let status = self.apply(&call).status;
        self.note(|| format!("late: {} … {status}", call.short()));
    }

    /// A late request is lost for good.
    pub(crate) fn vanish(&mut self, index: usize) {
        let call = self.late.remove(index);
        self.note(|| format!("late: {} … never", call.short()));
    }
}
