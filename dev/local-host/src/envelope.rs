//! The invocation request of a custom handler: `{"Data":{…},"Metadata":{…}}`.
//!
//! Three habits of the host make this contract easy to misread, so they are kept to the letter. Everything that is not
//! an object is JSON inside a JSON string. The top-level fields of a queue message are copied over the metadata,
//! whatever they overwrite. And a retried function receives its previous failure, which is kilobytes.
//! `ScriptInvocationContextExtensions`, `Utility.ApplyBindingData` and `RetryContext` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script>

use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use crate::{dates, failure::FailedAttempt, json::Json};

/// Messages nested deeper than this leave the metadata alone.
const DEPTH: usize = 64;
/// The largest `DateTimeOffset`: what a message has for a time it has not.
const FAR_FUTURE: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// The smallest one: a time that was never set.
const UNSET: OffsetDateTime = datetime!(0001-01-01 00:00:00 UTC);

/// Function, binding and time of an invocation: the binding data that every trigger has.
#[derive(Clone, Debug)]
pub(crate) struct InvocationData<'a> {
    /// The function's name.
    pub(crate) function: &'a str,
    /// The trigger binding's name.
    pub(crate) binding: &'a str,
    /// The clock at the start of the invocation.
    pub(crate) now: OffsetDateTime,
    /// A random id that nothing else uses.
    pub(crate) random: Uuid,
}

/// A queue message as the trigger binding sees it.
#[derive(Clone, Debug)]
pub(crate) struct QueueMessage {
    /// The message id and the receipt of the receive; none when the invocation did not come from a queue.
    pub(crate) identity: Option<(String, String)>,
    /// The decoded message.
    pub(crate) content: String,
    /// The dequeue count of the message.
    pub(crate) dequeue_count: u32,
    /// When it was put on the queue.
    pub(crate) inserted: OffsetDateTime,
    /// When it becomes visible again.
    pub(crate) next_visible: OffsetDateTime,
    /// When the service drops it.
    pub(crate) expires: OffsetDateTime,
}

impl QueueMessage {
    /// Makes a message that never was on a queue, for the admin endpoint.
    pub(crate) fn manual(text: &str, now: OffsetDateTime) -> Self {
        let content = text.into();
        let (next_visible, expires) = (FAR_FUTURE, FAR_FUTURE);
        Self { identity: None, content, dequeue_count: 0, inserted: now, next_visible, expires }
    }
}

/// The data of a timer trigger.
#[derive(Clone, Debug)]
pub(crate) struct TimerInfo {
    /// False for schedules that are a time span.
    pub(crate) adjust_for_dst: bool,
    /// None without a schedule monitor.
    pub(crate) status: Option<ScheduleStatus>,
    /// True in the one run that makes up for ticks missed while the host was down.
    pub(crate) past_due: bool,
}

/// The state of a schedule as the monitor keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScheduleStatus {
    /// The last run, if there was one.
    pub(crate) last: Option<OffsetDateTime>,
    /// The next run; during a run the tick being served.
    pub(crate) next: OffsetDateTime,
    /// When this was written; none before a new app's first run.
    pub(crate) last_updated: Option<OffsetDateTime>,
}

impl ScheduleStatus {
    /// Converts it to its form in the invocation and in the status blob.
    pub(crate) fn to_json(&self) -> Json {
        // A `DateTime` that was never set is the year 1.
        let time = |time: Option<OffsetDateTime>| Json::Text(dates::to_ticks(time.unwrap_or(UNSET)));
        Json::object([
            ("Last", time(self.last)),
            ("Next", time(Some(self.next))),
            ("LastUpdated", time(self.last_updated)),
        ])
    }
}

/// The attempt number of a function with a retry policy.
#[derive(Clone, Debug)]
pub(crate) struct RetryContext {
    /// 0 at the first attempt.
    pub(crate) count: u32,
    /// The policy's limit; -1 for none.
    pub(crate) max: i64,
    /// The previous attempt.
    pub(crate) failed: Option<FailedAttempt>,
}

/// Composes the body for a queue function.
pub(crate) fn queue(invocation_data: &InvocationData<'_>, message: &QueueMessage) -> String {
    let time = |time| Json::Text(dates::to_seconds(time));
    let text = |text: &str| encoded(Json::Text(text.to_owned()));
    let mut metadata = BindingData(Vec::new());
    metadata.set("DequeueCount", encoded(Json::Number(message.dequeue_count.to_string())));
    metadata.set("ExpirationTime", time(message.expires));
    // A null keeps a place, and is left out unless the message fills it.
    let identity = message.identity.as_ref().map(|(id, receipt)| [text(id), text(receipt)]);
    let [id, receipt] = identity.unwrap_or([Json::Null, Json::Null]);
    metadata.set("Id", id);
    metadata.set("InsertionTime", time(message.inserted));
    metadata.set("NextVisibleTime", time(message.next_visible));
    metadata.set("PopReceipt", receipt);
    if message.identity.is_none() {
        metadata.set(invocation_data.binding, text(&message.content));
    }
    metadata.set("sys", invocation_data.system());
    metadata.apply_fields(&message.content);
    body(invocation_data, text(&message.content), metadata, None)
}

/// Composes the body for a timer function; `input` was given to the admin endpoint.
pub(crate) fn timer(
    invocation_data: &InvocationData<'_>,
    info: &TimerInfo,
    retry: Option<&RetryContext>,
    input: Option<&str>,
) -> String {
    let data = Json::object([
        ("Schedule", Json::object([("AdjustForDST", Json::Bool(info.adjust_for_dst))])),
        ("ScheduleStatus", info.status.as_ref().map_or(Json::Null, ScheduleStatus::to_json)),
        ("IsPastDue", Json::Bool(info.past_due)),
    ]);
    let mut metadata = BindingData(Vec::new());
    if let Some(input) = input {
        metadata.set(invocation_data.binding, encoded(Json::Text(input.to_owned())));
    }
    metadata.set("sys", invocation_data.system());
    body(invocation_data, data, metadata, retry)
}

impl InvocationData<'_> {
    fn system(&self) -> Json {
        Json::object([
            ("MethodName", Json::Text(self.function.to_owned())),
            ("UtcNow", Json::Text(dates::to_zulu(self.now))),
            ("RandGuid", Json::Text(self.random.to_string())),
        ])
    }
}

/// The host's binding data: a dictionary whose keys ignore case and keep the casing they came with.
struct BindingData(Vec<(String, Json)>);

impl BindingData {
    fn set(&mut self, key: &str, value: Json) {
        match self.0.iter_mut().find(|(known, _)| known.to_lowercase() == key.to_lowercase()) {
            Some(known) => known.1 = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Copies the top-level fields of a message that is a JSON object, except arrays and nulls.
    fn apply_fields(&mut self, message: &str) {
        let message = message.trim();
        if !(message.starts_with('{') && message.ends_with('}')) {
            return;
        }
        let Ok(Json::Object(fields)) = Json::parse(message, DEPTH) else { return };
        for (key, value) in fields {
            match value {
                Json::Null | Json::Array(_) => {}
                Json::Object(_) => self.set(&key, value),
                Json::Bool(_) | Json::Number(_) | Json::Text(_) => self.set(&key, encoded(Json::Text(value.display()))),
            }
        }
    }
}

fn body(
    invocation_data: &InvocationData<'_>,
    data: Json,
    mut metadata: BindingData,
    retry: Option<&RetryContext>,
) -> String {
    // After the message's fields, so that this one cannot be forged.
    if let Some(retry) = retry {
        metadata.set("RetryContext", retry.to_json(invocation_data));
    }
    // `queueTrigger`, `timerTrigger`: the host's own entries, and whatever else is called so.
    metadata.0.retain(|(key, value)| *value != Json::Null && !key.to_lowercase().ends_with("trigger"));
    Json::object([("Data", Json::object([(invocation_data.binding, data)])), ("Metadata", Json::Object(metadata.0))])
        .compact()
}

/// Encodes twice: the JSON text of a value, as a JSON string. A string that looks like a time stays the same,
/// because the inner quotes hide it from the date detection.
fn encoded(value: Json) -> Json {
    Json::Text(match value {
        Json::Text(text) => crate::json::quoted(&text),
        other => other.compact(),
    })
}

impl RetryContext {
    fn to_json(&self, invocation_data: &InvocationData<'_>) -> Json {
        let exception = |failed: &FailedAttempt| failed.to_json(invocation_data.function);
        Json::object([
            ("RetryCount", Json::from(self.count)),
            ("MaxRetryCount", Json::from(self.max)),
            ("Exception", self.failed.as_ref().map_or(Json::Null, exception)),
            ("Instance", Json::Null),
            ("State", Json::object([])),
        ])
    }
}
