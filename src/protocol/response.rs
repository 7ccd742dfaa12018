//! From the outcome of an invocation to the answer that the host understands. **The only place that knows status codes.**
//!
//! A success is never empty (the host would wait for ever) and names its type (the host would refuse it). The receipt
//! is sent as a *string*: the members of an object in `ReturnValue` would be merged into the outputs. There are no outputs:
//! a binding that somebody renames would lose them without a word.
//!
//! The host reads nothing of a failure but the status line, so the reason phrase is the place for the cause.

use super::invocation::DecodeError;
use crate::{functions, idempotency::ledger, storage};
use actix_web::HttpResponse;
use serde::Serialize;
use std::time::Duration;

/// Why an invocation failed: all of this may pass by the next delivery.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The function could not do it.
    #[error(transparent)]
    Function(#[from] functions::Error),
    /// The host's time for one invocation was nearly over.
    #[error("not finished within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// A bug; the process goes on.
    #[error("the function panicked")]
    Panic,
    /// The host said something this program does not understand.
    #[error("the invocation cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    /// The request of the host did not arrive whole.
    #[error("the invocation did not arrive whole: {0}")]
    Incomplete(String),
}

impl InvocationError {
    /// The cause in a few ASCII words.
    const fn phrase(&self) -> &'static str {
        match self {
            Self::Function(functions::Error::Stuck { .. }) => "Storage is away and the message cannot be put back",
            Self::Function(functions::Error::Ledger(error)) => match error {
                ledger::Error::Storage(error) => storage::Error::phrase(error),
                ledger::Error::Away(_) | ledger::Error::PartitionAway(_) => "Storage is away",
                ledger::Error::UnknownSchema(_) => "A record has an unknown schema version",
                ledger::Error::OutOfTime => "More is left than one attempt has time for",
            },
            Self::Deadline(_) => "Not finished in time",
            Self::Panic => "The function panicked",
            Self::Undecodable(_) => "The invocation cannot be decoded",
            Self::Incomplete(_) => "The invocation did not arrive whole",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Success<'a> {
    outputs: Outputs,
    logs: &'a [String],
    return_value: Option<&'a str>,
}

#[derive(Serialize)]
struct Outputs {}

/// The invocation succeeded: the host prints `logs`, and takes the message off its queue.
#[must_use]
pub fn success(receipt: Option<&str>, logs: &[String]) -> HttpResponse {
    HttpResponse::Ok().json(Success { outputs: Outputs {}, logs, return_value: receipt })
}

/// The invocation failed: the host delivers again what triggered it.
#[must_use]
pub fn failure(error: &InvocationError) -> HttpResponse {
    HttpResponse::InternalServerError().reason(error.phrase()).json(serde_json::json!({ "error": error.to_string() }))
}

/// Nothing is served at this method and path.
#[must_use]
pub fn not_found() -> HttpResponse {
    HttpResponse::NotFound().reason("No such function").json(
        serde_json::json!({ "error": "only POST /queue_with_idempotency and POST /scheduled_with_retry are served" }),
    )
}

/// The process accepts invocations.
#[must_use]
pub fn ready() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ready\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::StillAway;
    use actix_web::body::{MessageBody, to_bytes};

    async fn json(response: HttpResponse) -> serde_json::Value {
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        let body = to_bytes(response.into_body().boxed()).await.unwrap_or_default();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn a_success_has_the_shape_the_host_reads() {
        let response = success(Some(r#"{"id":"order-123"}"#), &["one".to_owned(), "two".to_owned()]);
        assert_eq!(response.status(), 200);
        assert_eq!(
            json(response).await,
            serde_json::json!({ "Outputs": {}, "Logs": ["one", "two"], "ReturnValue": r#"{"id":"order-123"}"# })
        );
    }

    #[tokio::test]
    async fn a_success_with_nothing_to_say_is_not_empty() {
        let body = json(success(None, &[])).await;
        assert_eq!(body, serde_json::json!({ "Outputs": {}, "Logs": [], "ReturnValue": null }));
    }

    #[test]
    fn a_failure_is_never_a_2xx_and_names_its_cause_in_the_reason_phrase() {
        let storage = storage::Error::NotSent("connection refused".to_owned());
        let away = StillAway { service: "table".to_owned(), cause: storage.clone() };
        let stuck = functions::Error::Stuck { cause: away.clone().into(), put: storage.clone() };
        let ledger = |error: ledger::Error| InvocationError::Function(error.into());
        for (cause, phrase) in [
            (ledger(storage.into()), "Storage cannot be reached"),
            (ledger(away.into()), "Storage is away"),
            (stuck.into(), "Storage is away and the message cannot be put back"),
            (ledger(ledger::Error::UnknownSchema(2)), "A record has an unknown schema version"),
            (ledger(ledger::Error::OutOfTime), "More is left than one attempt has time for"),
            (InvocationError::Deadline(Duration::from_secs(290)), "Not finished in time"),
            (InvocationError::Panic, "The function panicked"),
            (InvocationError::Undecodable(DecodeError::NoMessage), "The invocation cannot be decoded"),
            (InvocationError::Incomplete(String::new()), "The invocation did not arrive whole"),
        ] {
            let response = failure(&cause);
            assert_eq!((response.status().as_u16(), response.head().reason()), (500, phrase));
            assert!(phrase.is_ascii() && phrase.len() < 80);
        }
    }

    /// The texts of a `fn phrase`, whose only texts they are.
    fn phrases(source: &'static str) -> impl Iterator<Item = &'static str> {
        let body = source.split("fn phrase(").nth(1).unwrap().split("\n    }\n").next().unwrap();
        body.split('"').skip(1).step_by(2)
    }

    #[test]
    fn every_reason_phrase_is_explained_to_operators() {
        let page = include_str!("../../docs/operations.md");
        let sources = [include_str!("response.rs"), include_str!("../storage/error.rs")];
        let phrases: Vec<_> = sources.into_iter().flat_map(phrases).collect();
        assert!(phrases.contains(&"The function panicked") && phrases.contains(&"Storage failed"), "{phrases:?}");
        for phrase in phrases {
            assert!(page.contains(&format!("`500 ({phrase})`")), "{phrase}");
        }
    }
}
