//! The simulated storage service: one table with entity group transactions and `ETag`s, one queue, and a network that
//! loses, delays and repeats.

use async_trait::async_trait;
use azure_core::{
    Body, HttpClient, Request, Response, StatusCode,
    headers::{HeaderName, Headers},
};
use handler::storage::Error;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

type Row = Map<String, Value>;

/// A key of the table: partition and row.
pub(crate) type RowKey = (String, String);

/// What the service did to one request, for the trace and for the checks.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct State {
    random: fastrand::Rng,
    /// Faults that may still happen; when they are used up the network is perfect.
    faults_left: u32,
    etags: u64,
    pub(crate) table: Option<BTreeMap<RowKey, Row>>,
    pub(crate) queue: Option<Vec<String>>,
    /// How often each row was inserted, for ever.
    pub(crate) inserts: BTreeMap<RowKey, u32>,
    /// Requests that are on their way, and will be applied when somebody else's are.
    late: Vec<(String, String, String, String)>,
    pub(crate) requests: u32,
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<Event>,
}

/// The service behind its network.
#[derive(Debug)]
pub(crate) struct Service(Mutex<State>);

/// What the network does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    NotSent,
    RequestLost,
    ReplyLost,
    AppliedLate,
    Throttled,
    Failed,
}

struct Answer(u16, String, String);

impl Service {
    pub(crate) fn new(seed: u64, faults: u32) -> Self {
        Self(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed ^ 0x5e7_71ce),
            faults_left: faults,
            etags: 0,
            table: None,
            queue: None,
            inserts: BTreeMap::new(),
            late: Vec::new(),
            requests: 0,
            broken: Vec::new(),
            trace: Vec::new(),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn note(&self, text: String) {
        self.state().trace.push(Event { text });
    }

    /// No further faults, and nothing is on its way any more.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        state.faults_left = 0;
        state.apply_late();
    }
}

#[async_trait]
impl HttpClient for Service {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let Body::Bytes(body) = request.body() else { panic!("only plain bodies are sent") };
        let if_match = request.headers().get_optional_str(&HeaderName::from_static("if-match")).unwrap_or_default();
        let url = percent_decoded(request.url().path(), request.url().query_pairs());
        let parts =
            (request.method().as_ref().to_owned(), url, if_match.to_owned(), String::from_utf8(body.to_vec()).unwrap());
        let (fate, before, after) = self.state().fate();
        tokio::time::sleep(before).await;
        let answer = self.state().meet(fate, parts);
        tokio::time::sleep(after).await;
        match (fate, answer) {
            (Fate::NotSent, _) => Err(Error::NotSent("connection refused".to_owned()).into()),
            (Fate::RequestLost | Fate::ReplyLost | Fate::AppliedLate, _) | (_, None) => {
                Err(Error::Unanswered("time limit reached".to_owned()).into())
            }
            (_, Some(Answer(status, etag, body))) => Ok(response(status, &etag, body)),
        }
    }
}

fn percent_decoded<'a>(
    path: &str,
    query: impl Iterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>,
) -> String {
    let filter = query.filter(|(name, _)| name == "$filter").map(|(_, value)| value.into_owned()).next();
    format!("{}?{}", path.replace("%7E", "~").replace("%20", " "), filter.unwrap_or_default())
}

fn response(status: u16, etag: &str, body: String) -> Response {
    let mut headers = Headers::new();
    headers.insert(HeaderName::from_static("content-type"), "multipart/mixed; boundary=batchresponse_1");
    headers.insert(HeaderName::from_static("etag"), etag.to_owned());
    let body = futures::stream::once(async { Ok(body.into()) });
    Response::new(StatusCode::try_from(status).unwrap(), headers, Box::pin(body))
}

fn odata(status: u16, code: &str) -> Answer {
    let body = json!({ "odata.error": { "code": code, "message": { "lang": "en-US", "value": "0:no" } } });
    Answer(status, String::new(), body.to_string())
}

/// `…(PartitionKey='a',RowKey='b')` → (a, b)
fn keys_in(url: &str) -> Option<RowKey> {
    let (_, keys) = url.split_once("(PartitionKey='")?;
    let (partition, rest) = keys.split_once("',RowKey='")?;
    Some((partition.to_owned(), rest.split_once("')")?.0.to_owned()))
}

impl State {
    fn fate(&mut self) -> (Fate, Duration, Duration) {
        use Fate::{AppliedLate, Delivered, Failed, NotSent, ReplyLost, RequestLost, Throttled};
        self.requests += 1;
        let pause = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(0..40));
        let (before, after) = (pause(&mut self.random), pause(&mut self.random));
        let is_hit = self.faults_left > 0 && self.random.u8(..4) == 0;
        if !is_hit {
            return (Delivered, before, after);
        }
        self.faults_left -= 1;
        let fates = [NotSent, RequestLost, ReplyLost, AppliedLate, Throttled, Failed];
        let fate = fates[self.random.usize(..fates.len())];
        // A time-out is noticed only when the time is out.
        let patience = matches!(fate, RequestLost | ReplyLost | AppliedLate);
        (fate, before, if patience { Duration::from_secs(5) } else { after })
    }

    fn meet(&mut self, fate: Fate, parts: (String, String, String, String)) -> Option<Answer> {
        let short = format!("{} {} {fate:?}", parts.0, parts.1);
        let answer = match fate {
            Fate::NotSent | Fate::RequestLost => None,
            Fate::AppliedLate => {
                self.late.push(parts);
                None
            }
            Fate::Throttled => Some(odata(503, "ServerBusy")),
            // The answer is an error; whether the request was applied is anybody's guess.
            Fate::Failed => {
                if self.random.bool() {
                    self.apply(parts);
                }
                Some(odata(500, "InternalError"))
            }
            Fate::Delivered | Fate::ReplyLost => {
                if self.random.u8(..3) == 0 {
                    self.apply_late();
                }
                Some(self.apply(parts))
            }
        };
        let status = answer.as_ref().map_or(0, |answer| answer.0);
        self.trace.push(Event { text: format!("{short} {status}") });
        answer
    }

    fn apply_late(&mut self) {
        for parts in std::mem::take(&mut self.late) {
            let status = self.apply(parts.clone()).0;
            self.trace.push(Event { text: format!("(late) {} {} {status}", parts.0, parts.1) });
        }
    }

    fn apply(&mut self, (method, url, if_match, body): (String, String, String, String)) -> Answer {
        match method.as_str() {
            "POST" if url.starts_with("/Tables") && self.table.is_some() => odata(409, "TableAlreadyExists"),
            "POST" if url.starts_with("/Tables") => {
                self.table = Some(BTreeMap::new());
                let table = json!({ "odata.type": "t", "odata.id": "t", "odata.editLink": "t", "TableName": "t" });
                Answer(201, String::new(), table.to_string())
            }
            "POST" if url.starts_with("/order-events/messages") => self.put(&body),
            "PUT" => {
                self.queue.get_or_insert_default();
                Answer(201, String::new(), String::new())
            }
            _ if self.table.is_none() && url.starts_with("/$batch") => batch_refused(404, "TableNotFound"),
            _ if self.table.is_none() => odata(404, "TableNotFound"),
            "POST" if url.starts_with("/$batch") => self.batch(&body),
            "GET" => match keys_in(&url) {
                Some(key) => self.get(&key),
                None => self.query(&url),
            },
            "DELETE" => match self.delete(&keys_in(&url).unwrap(), &if_match) {
                Ok(()) => Answer(204, String::new(), String::new()),
                Err((status, code)) => odata(status, code),
            },
            _ => panic!("not simulated: {method} {url}"),
        }
    }

    fn put(&mut self, body: &str) -> Answer {
        let Some(queue) = &mut self.queue else {
            return Answer(404, String::new(), "<Error><Code>QueueNotFound</Code></Error>".to_owned());
        };
        let text = body.replace("<QueueMessage><MessageText>", "").replace("</MessageText></QueueMessage>", "");
        queue.push(text.clone());
        let event: Value = serde_json::from_str(&text).unwrap();
        let record = format!("record~{}", event["id"].as_str().unwrap().split('-').next().unwrap());
        let is_committed = self.table.as_ref().is_some_and(|table| table.keys().any(|(_, row)| *row == record));
        if !is_committed {
            self.broken.push(format!("published before its commit: {text}"));
        }
        Answer(201, String::new(), String::new())
    }

    /// An entity group transaction: all operations or none.
    fn batch(&mut self, body: &str) -> Answer {
        let (table, inserts, etags) = (self.table.clone(), self.inserts.clone(), self.etags);
        let mut parts = String::new();
        let mut partition = None;
        for operation in body.split("--changeset_").filter(|part| part.contains(" HTTP/1.1\r\n")) {
            let entity = operation.lines().find(|line| line.starts_with('{'));
            let if_match = operation.lines().find_map(|line| line.strip_prefix("if-match: ")).unwrap_or_default();
            let (key, result) = match entity {
                Some(entity) => self.insert(serde_json::from_str(entity).unwrap()),
                None => {
                    let key = keys_in(&operation.replace("%7E", "~")).unwrap();
                    let result = self.delete(&key, if_match);
                    (key, result)
                }
            };
            if partition.get_or_insert_with(|| key.0.clone()) != &key.0 {
                self.broken.push("a transaction over two partitions".to_owned());
            }
            if let Err((status, code)) = result {
                (self.table, self.inserts, self.etags) = (table, inserts, etags);
                return batch_refused(status, code);
            }
            let etag = self.table.as_ref().unwrap().get(&key).map_or("", |row| row["odata.etag"].as_str().unwrap());
            parts += &format!("--changesetresponse_1\r\n\r\nHTTP/1.1 204 No Content\r\nETag: {etag}\r\n\r\n\r\n");
        }
        Answer(
            202,
            String::new(),
            format!("--batchresponse_1\r\n\r\n{parts}--changesetresponse_1--\r\n--batchresponse_1--\r\n"),
        )
    }

    fn insert(&mut self, mut row: Row) -> (RowKey, Result<(), (u16, &'static str)>) {
        let key = ["PartitionKey", "RowKey"].map(|name| row[name].as_str().unwrap().to_owned());
        let key: RowKey = key.into();
        let table = self.table.as_mut().unwrap();
        if table.contains_key(&key) {
            return (key, Err((409, "EntityAlreadyExists")));
        }
        self.etags += 1;
        row.insert("odata.etag".to_owned(), format!("W/\"{}\"", self.etags).into());
        table.insert(key.clone(), row);
        *self.inserts.entry(key.clone()).or_default() += 1;
        (key, Ok(()))
    }

    fn delete(&mut self, key: &RowKey, if_match: &str) -> Result<(), (u16, &'static str)> {
        let table = self.table.as_mut().unwrap();
        let Some(row) = table.get(key) else { return Err((404, "ResourceNotFound")) };
        if if_match.is_empty() || if_match == "*" {
            self.broken.push(format!("an unconditional delete of {key:?}"));
        }
        if row["odata.etag"] != if_match {
            return Err((412, "UpdateConditionNotSatisfied"));
        }
        table.remove(key);
        Ok(())
    }

    fn get(&self, key: &RowKey) -> Answer {
        let Some(row) = self.table.as_ref().unwrap().get(key) else { return odata(404, "ResourceNotFound") };
        let mut body = row.clone();
        body.insert("odata.metadata".to_owned(), "m".into());
        Answer(200, row["odata.etag"].as_str().unwrap().to_owned(), Value::from(body).to_string())
    }

    fn query(&self, url: &str) -> Answer {
        let (_, filter) = url.split_once('?').unwrap();
        let is_match = |row: &Row| filter.split(" and ").all(|condition| holds(condition, row));
        let rows: Vec<_> = self.table.as_ref().unwrap().values().filter(|row| is_match(row)).cloned().collect();
        Answer(200, String::new(), json!({ "odata.metadata": "m", "value": rows }).to_string())
    }
}

fn holds(condition: &str, row: &Row) -> bool {
    let [property, operator, value] = condition.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{condition}") };
    let value = value.trim_start_matches("datetime").trim_matches('\'');
    let Some(stored) = row.get(property).and_then(Value::as_str) else { return false };
    match operator {
        "eq" => stored == value,
        "ge" => stored >= value,
        "lt" => stored < value,
        _ => panic!("{condition}"),
    }
}

fn batch_refused(status: u16, code: &str) -> Answer {
    let Answer(_, _, error) = odata(status, code);
    let part = format!("--changesetresponse_1\r\n\r\nHTTP/1.1 {status} Refused\r\n\r\n{error}\r\n");
    let body = format!("--batchresponse_1\r\n\r\n{part}--changesetresponse_1--\r\n--batchresponse_1--\r\n");
    Answer(202, String::new(), body)
}
