//! The network between the production code and the storage. Every request waits here until it is decided what becomes
//! of it; whoever sent it learns of nothing but the answer, or that there is none.

use super::{answer::Answer, call::Call, fate::Fate, storage::Storage};
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

/// As the connection has it, for the answer to a query.
const PATIENCE_WITH_QUERIES: Duration = Duration::from_secs(15);

/// How long after it was sent a request can be applied at most.
const LATEST: Duration = Duration::from_secs(30 * 60);

type Reply = Result<Answer, Error>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) task: usize,
    pub(crate) call: Call,
    pub(crate) sent: Duration,
    reply: oneshot::Sender<Reply>,
}

/// A request nobody waits for any more, and that may still be applied.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) call: Call,
    sent: Duration,
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
    pub(crate) late: Vec<Late>,
    /// The task that runs.
    pub(crate) sender: usize,
    /// What each task was answered so far, which is all it knows; if anybody wants to compare.
    pub(crate) seen: Option<BTreeMap<usize, Vec<String>>>,
    pub(crate) answered: Vec<Answered>,
    /// Which requests met something else than their service.
    pub(crate) faulted: BTreeSet<&'static str>,
    /// The history, if anybody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
    /// Queries for other partitions than these are answered at once. Nothing ever changes there, so that it does not
    /// matter when they are.
    partitions: Option<BTreeSet<String>>,
    /// Whether a lost answer is a connection that was reset, or silence.
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
        let is_query = Call::queried_partition(request).is_some();
        let limit = if is_query { PATIENCE_WITH_QUERIES } else { PATIENCE };
        match tokio::time::timeout(limit, reply).await {
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
        let sent = self.start.elapsed();
        let partition = Call::queried_partition(request);
        let is_empty = partition.zip(self.partitions.as_ref()).is_some_and(|(one, all)| !all.contains(&one));
        if is_empty {
            let _ = reply.send(Ok(self.storage.empty_page()));
        } else {
            self.parked.push(Parked { task: self.sender, call: Call::read(request), sent, reply });
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
            Fate::Delivered => {
                let answer = self.apply(&parked.call);
                self.reply(parked, Ok(answer));
            }
            Fate::NotSent => self.reply(parked, Err(Error::NotSent("connection refused".to_owned()))),
            Fate::RequestLost => self.leave(parked),
            Fate::ReplyLost => {
                self.apply(&parked.call);
                self.leave(parked);
            }
            Fate::Delayed => {
                self.late.push(Late { call: parked.call.clone(), sent: parked.sent });
                self.leave(parked);
            }
            _ => {
                let answer = self.wrong_answer(&parked.call, fate);
                self.reply(parked, Ok(answer));
            }
        }
    }

    /// An answer other than the one that the service should give.
    fn wrong_answer(&mut self, call: &Call, fate: Fate) -> Answer {
        let failed = Answer::refused((500, "InternalError"), None);
        match fate {
            Fate::Throttled => Answer::refused((503, "ServerBusy"), None),
            Fate::ThrottledFor => {
                let headers = vec![("retry-after", "3".to_owned())];
                Answer { headers, ..Answer::refused((429, "TooManyRequests"), None) }
            }
            Fate::Forbidden => Answer::refused((403, "AuthorizationPermissionMismatch"), None),
            Fate::BeingDeleted if matches!(call, Call::Put(_) | Call::CreateQueue) => {
                Answer::refused((409, "QueueBeingDeleted"), None)
            }
            Fate::BeingDeleted => Answer::refused((409, "TableBeingDeleted"), None),
            Fate::FailedInside if matches!(call, Call::Batch(_)) => Answer::batch_refused((500, "InternalError"), 0),
            Fate::FailedAndApplied => {
                self.apply(call);
                failed
            }
            Fate::Garbled => Answer { body: "<html>".to_owned(), ..self.apply(call) },
            _ => failed,
        }
    }

    fn apply(&mut self, call: &Call) -> Answer {
        let at = self.start.elapsed();
        self.storage.apply(call, at)
    }

    fn reply(&mut self, Parked { task, call, reply, .. }: Parked, answer: Reply) {
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
        for Parked { call, sent, .. } in abandoned {
            self.faulted.insert(call.verb());
            self.late.push(Late { call, sent });
        }
    }

    /// Applies a request that is late.
    pub(crate) fn land(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        let status = self.apply(&call).status;
        self.note(|| format!("late: {} … {status}", call.short()));
    }

    /// A late request is lost for good.
    pub(crate) fn vanish(&mut self, index: usize) {
        let call = self.late.remove(index).call;
        self.note(|| format!("late: {} … never", call.short()));
    }

    /// What is too late is lost for good.
    pub(crate) fn vanish_old(&mut self) {
        let now = self.start.elapsed();
        while let Some(index) = self.late.iter().position(|late| now > late.sent + LATEST) {
            self.vanish(index);
        }
    }
}
