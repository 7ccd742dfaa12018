//! The host's verdict on a handler's answer.
//!
//! Only the status decides between success and failure, with two exceptions that cost people days: a 2xx that is not
//! JSON fails, and a 2xx without a body never ends. `DefaultHttpWorkerService.ProcessDefaultInvocationRequest` in
//! <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>

use crate::json::Json;

/// The host's limit on nesting in an answer.
const DEPTH: usize = 256;

/// An answer of the handler, read completely.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The text after the status: the only part of a failure that the host prints.
    pub(crate) reason: String,
    /// The `Content-Type` header.
    pub(crate) content_type: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// The outcome of the invocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The function succeeded, unless an output cannot be written.
    Success(Reply),
    /// The host waits for a result that never comes, until the function times out.
    NeverEnds,
    /// The function failed, with the text of the exception.
    Failure(String),
}

/// The content of a good answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reply {
    /// Values by output binding, in the order sent.
    pub(crate) outputs: Vec<(String, Json)>,
    /// Lines for the function's log.
    pub(crate) logs: Vec<String>,
    /// The return value, if it is not null.
    pub(crate) return_value: Option<Json>,
}

/// Judges an answer by the host's table.
pub(crate) fn judge(answer: &Answer) -> Verdict {
    let Answer { status, reason, .. } = answer;
    if !(200..300).contains(status) {
        return Verdict::Failure(format!("Response status code does not indicate success: {status} ({reason})."));
    }
    if answer.body.is_empty() {
        return Verdict::NeverEnds;
    }
    match reply(answer) {
        Ok(Some(reply)) => Verdict::Success(reply),
        Ok(None) => Verdict::NeverEnds,
        Err(detail) => Verdict::Failure(invalid(answer, &detail)),
    }
}

/// Words the exception. The host puts the whole answer into it, and so into the next attempt of a timer.
fn invalid(answer: &Answer, detail: &str) -> String {
    let Answer { status, reason, content_type, body } = answer;
    let content_type = content_type.as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    format!("Invalid HttpResponseMessage: {detail}. {status} ({reason}), Content-Type: '{content_type}', body: {body}")
}

fn reply(answer: &Answer) -> Result<Option<Reply>, String> {
    let content_type = answer.content_type.as_deref().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(media_type.as_str(), "application/json" | "text/json") {
        return Err(format!("content type '{content_type}' is not JSON"));
    }
    let body = std::str::from_utf8(&answer.body).map_err(|_| "the body is not UTF-8")?;
    let members = match Json::parse_start(body, DEPTH).map_err(|error| format!("the body is not JSON: {error}"))? {
        Json::Null => return Ok(None),
        Json::Object(members) => members,
        _ => return Err("the body is not a JSON object".to_owned()),
    };
    let mut reply = Reply::default();
    for (name, value) in members {
        match (name.to_ascii_lowercase().as_str(), value) {
            ("outputs" | "logs" | "returnvalue", Json::Null) => {}
            ("outputs", Json::Object(outputs)) => reply.outputs = outputs,
            ("outputs", _) => return Err("Outputs is not an object".to_owned()),
            ("logs", Json::Array(logs)) => reply.logs = logs.iter().map(log_line).collect::<Result<_, _>>()?,
            ("logs", _) => return Err("Logs is not an array".to_owned()),
            ("returnvalue", value) => reply.return_value = Some(value),
            _ => {}
        }
    }
    Ok(Some(reply))
}

fn log_line(line: &Json) -> Result<String, String> {
    match line {
        Json::Null => Ok("[null]".to_owned()),
        line => line.scalar().ok_or_else(|| "an entry of Logs is not a scalar".to_owned()),
    }
}
