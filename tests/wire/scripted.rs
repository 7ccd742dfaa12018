//! A service that gives prepared answers, in order, and remembers what it was asked.

use crate::{azure, domain::DOMAIN};
use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, Response, StatusCode,
    headers::{HeaderName, Headers},
};
use azure_core_1::{error::ErrorKind, http as http_1};
use handler::{
    config::{AppConfig, Trigger},
    functions::App,
    idempotency::outbox::Events,
    storage::{Account, Error, MessageEncoding, Queue, Table},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use test_storage::Kind;

/// An account that is not the emulator's.
pub(crate) fn account() -> Account {
    Account::from_connection_string("AccountName=shop;AccountKey=a2V5").unwrap()
}

/// What the functions are told by default.
pub(crate) fn config() -> AppConfig {
    AppConfig {
        table: "idempotency".to_owned(),
        events_queue: "order-events".to_owned(),
        events_encoding: MessageEncoding::Base64,
        trigger: Trigger { queue: "orders".to_owned(), encoding: MessageEncoding::None },
        retention: time::Duration::days(30),
        retry_delay: None,
    }
}

/// Outcome of one request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It is answered.
    Answer(Answer),
    /// It is answered after a while.
    Slow(Duration, Answer),
    /// It is answered with the entity that the last batch inserted.
    LastInserted,
    /// No connection.
    NotSent,
    /// It may have been applied; no answer comes.
    Lost,
}

/// An answer, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without_headers(mut self, keep: &[&str]) -> Self {
        self.headers.retain(|(name, _)| keep.contains(&name.as_str()));
        self
    }

    pub(crate) fn with_body(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.body = change(&self.body);
        self
    }
}

impl Answer {
    /// The form on the wire.
    pub(crate) fn to_http(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (status, body, length) = (self.status, &self.body, self.body.len());
        format!("HTTP/1.1 {status} Prepared\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
    }
}

impl From<Answer> for Step {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    /// The entities that a batch inserts.
    pub(crate) fn entities(&self) -> Vec<serde_json::Value> {
        self.body.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: Mutex<VecDeque<Step>>,
    received: Mutex<Vec<Received>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), received: Mutex::default() })
    }

    /// The table `idempotency` of an account `shop`, served by this script.
    pub(crate) fn table(self: &Arc<Self>) -> Table {
        Table::new(&account(), "idempotency", self.clone())
    }

    /// The queue `order-events` of the same account, served by this script too.
    pub(crate) fn events(self: &Arc<Self>) -> Events {
        Events::new(Queue::new(&account(), "order-events", self.clone()), MessageEncoding::Base64)
    }

    /// The app of the same account.
    pub(crate) fn app(self: &Arc<Self>) -> App {
        let client: Arc<dyn HttpClient> = self.clone();
        App::new(DOMAIN, &account(), &client, &config())
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The first entity of the last batch.
    fn last_inserted(&self) -> serde_json::Value {
        let received = self.received();
        let batch = received.iter().rfind(|request| request.url.ends_with("/$batch")).unwrap();
        batch.entities().remove(0)
    }

    /// Names the kinds of the requests.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let kind = |request: &Received| {
            // The host name stands where the emulator has the account.
            let target = request.url.strip_prefix("https:/").unwrap();
            Kind::of(&request.method, target).name()
        };
        self.received().iter().map(kind).collect()
    }
}

impl Script {
    /// Takes a request, and gives the answer that is next. To those who ask, the table is there, and the queues are empty.
    async fn answer(&self, request: Received) -> Result<Answer, Error> {
        if request.body.contains(r#""PartitionKey":"probe""#) {
            return Ok(azure::batch(&[azure::inserted()]));
        }
        if request.url.contains("comp=metadata") || request.method == "GET" && request.url.contains("/messages?") {
            let answer = Answer::new(200, "<QueueMessagesList />");
            return Ok(answer.header("x-ms-approximate-messages-count", "0"));
        }
        self.received.lock().unwrap().push(request);
        let step = self.steps.lock().unwrap().pop_front();
        match step.expect("one request more than the script has steps") {
            Step::NotSent => Err(Error::NotSent("connection refused".to_owned())),
            Step::Lost => Err(Error::Unanswered("time limit reached".to_owned())),
            Step::LastInserted => Ok(azure::entity(&self.last_inserted())),
            Step::Answer(answer) => Ok(answer),
            Step::Slow(time, answer) => {
                tokio::time::sleep(time).await;
                Ok(answer)
            }
        }
    }
}

#[async_trait]
impl HttpClient for Script {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let Body::Bytes(body) = request.body() else { panic!("only plain bodies are sent") };
        let answer = self.answer(Received {
            method: request.method().as_ref().to_owned(),
            url: request.url().to_string(),
            headers: request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), v.as_str().to_owned())).collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        let Answer { status, headers: pairs, body } = answer.await?;
        let mut headers = Headers::new();
        pairs.into_iter().for_each(|(name, value)| headers.insert(HeaderName::from(name), value));
        let body = futures::stream::once(async { Ok(body.into()) });
        Ok(Response::new(StatusCode::try_from(status).unwrap(), headers, Box::pin(body)))
    }
}

/// For `azure_identity`.
#[async_trait]
impl http_1::HttpClient for Script {
    async fn execute_request(&self, request: &http_1::Request) -> azure_core_1::Result<http_1::AsyncRawResponse> {
        let http_1::request::Body::Bytes(body) = request.body() else { panic!("only plain bodies are sent") };
        let answer = self.answer(Received {
            method: request.method().as_ref().to_owned(),
            url: request.url().to_string(),
            headers: request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), v.as_str().to_owned())).collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        let other = |error| azure_core_1::Error::new(ErrorKind::Other, error);
        let Answer { status, headers: pairs, body } = answer.await.map_err(other)?;
        let mut headers = http_1::headers::Headers::new();
        pairs.into_iter().for_each(|(name, value)| headers.insert(name, value));
        Ok(http_1::AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}
