//! Why an invocation failed: the host's exceptions, as the console prints them and as the next attempt is told of them.
//!
//! Handlers must not depend on the shape of an exception, but they must survive its size. `FunctionExecutor`,
//! `FunctionInvocationException` and `FunctionTimeoutException` in
//! <https://github.com/Azure/azure-webjobs-sdk/tree/dev/src/Microsoft.Azure.WebJobs.Host>

use std::{fmt, time::Duration};

use uuid::Uuid;

use crate::json::Json;

/// The exception that was thrown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// An exception from an assembly of .NET or of the host, if that is known. The host wraps it.
    Thrown(Option<&'static str>, String),
    /// The function of this name did not end within `functionTimeout`. The host does not wrap it.
    TimedOut(String, Duration),
}

impl Failure {
    /// Makes an exception of the HTTP client.
    pub(crate) fn of_http(message: String) -> Self {
        Self::Thrown(Some("System.Net.Http"), message)
    }

    fn message(&self) -> String {
        match self {
            Self::Thrown(_, message) => message.clone(),
            Self::TimedOut(function, limit) => {
                format!("Timeout value of {} was exceeded by function: Functions.{function}", time_span(*limit))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thrown(Some(assembly), message) => write!(formatter, "{assembly}: {message}"),
            Self::Thrown(None, _) | Self::TimedOut(..) => formatter.write_str(&self.message()),
        }
    }
}

/// Formats as `00:05:00`.
pub(crate) fn time_span(limit: Duration) -> String {
    let seconds = limit.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A failed attempt, as the next one is told of it.
#[derive(Clone, Debug)]
pub(crate) struct FailedAttempt {
    /// The id of its invocation.
    pub(crate) id: Uuid,
    /// The handler's HTTP status, if it answered.
    pub(crate) status: Option<u16>,
    pub(crate) failure: Failure,
}

impl FailedAttempt {
    /// Converts the exception of the attempt as Newtonsoft writes it.
    pub(crate) fn to_json(&self, function: &str) -> Json {
        let name = format!("Functions.{function}");
        match &self.failure {
            Failure::Thrown(assembly, message) => {
                let inner = self.inner(assembly.unwrap_or(CORE), message);
                let message = format!("Exception while executing function: {name}");
                Json::Object(self.outer("Invocation", &format!("Host.{name}"), (&message, inner)))
            }
            Failure::TimedOut(_, limit) => {
                let mut members = self.outer("Timeout", &name, (&self.failure.message(), Json::Null));
                members.insert(0, ("Timeout".to_owned(), Json::Text(time_span(*limit))));
                Json::Object(members)
            }
        }
    }

    fn outer(&self, kind: &str, method: &str, (message, inner): (&str, Json)) -> Vec<(String, Json)> {
        let members = [
            ("InstanceId", Json::Text(self.id.to_string())),
            ("MethodName", text(method)),
            ("Handled", Json::Bool(false)),
            ("ClassName", Json::Text(format!("Microsoft.Azure.WebJobs.Host.Function{kind}Exception"))),
            ("Message", text(message)),
            ("Data", Json::Null),
            ("InnerException", inner),
            ("HelpURL", Json::Null),
            ("StackTraceString", stack_trace("Microsoft.Azure.WebJobs.Host.Executors.FunctionExecutor", 4)),
            ("RemoteStackTraceString", Json::Null),
            ("RemoteStackIndex", Json::from(0)),
            ("ExceptionMethod", Json::Null),
            ("HResult", Json::from(RESULT)),
            ("Source", text(CORE)),
            ("WatsonBuckets", Json::Null),
        ];
        members.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn inner(&self, assembly: &str, message: &str) -> Json {
        Json::object([
            ("HttpRequestError", Json::from(0)),
            ("StatusCode", self.status.map_or(Json::Null, Json::from)),
            ("Message", text(message)),
            ("Data", Json::object([])),
            ("InnerException", Json::Null),
            ("HelpLink", Json::Null),
            ("Source", text(assembly)),
            ("HResult", Json::from(RESULT)),
            ("StackTrace", stack_trace("System.Net.Http.HttpResponseMessage.EnsureSuccessStatusCode()", 15)),
        ])
    }
}

/// The source of most exceptions.
const CORE: &str = "System.Private.CoreLib";
/// `COR_E_EXCEPTION`
const RESULT: i64 = -2_146_233_088;

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn stack_trace(frame: &str, frames: usize) -> Json {
    let line = |number| {
        format!("   at {frame} in /_/src/Microsoft.Azure.WebJobs.Host/Executors/FunctionExecutor.cs:line {number}\n")
    };
    Json::Text((0..frames).map(|frame| line(100 + frame)).collect())
}
