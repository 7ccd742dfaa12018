//! Queue trigger `orders`: each order takes effect once, whatever the queue delivers.
//!
//! | message | outcome |
//! |---|---|
//! | new order | committed, announced, answered with its receipt |
//! | same id, same content | answered with the first receipt |
//! | same id, other content | quarantined: `conflict` |
//! | no JSON object | quarantined: `invalid_json` |
//! | no usable id | quarantined: `missing_id`, `invalid_id` |
//! | not an order | quarantined: `invalid_order` |
//! | anything while the table does not work | fails, comes back |

use super::Failure;
use crate::{
    attempt::Attempt,
    idempotency::{Fingerprint, Key, Ledger, Operation, Outcome, record::check_size},
    json::Object,
    order::{self, Order},
    outbox,
    quarantine::Rejection,
    storage::Queue,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::borrow::Cow;
use tracing::{Span, field::debug, info};

/// Reason of quarantine: the message is not a JSON object that every reader understands alike.
pub const INVALID_JSON: &str = "invalid_json";
/// Reason of quarantine: the id belongs to an order with other content.
pub const CONFLICT: &str = "conflict";

/// Serves one message and answers with the receipt of its order.
///
/// # Errors
///
/// [`Failure::Reject`] when no delivery of this message can succeed, [`Failure::Retry`] when the next one may.
pub async fn run(ledger: &Ledger, events: &Queue, message: &str, attempt: &Attempt) -> Result<String, Failure> {
    let text = json_text(message)?;
    let object = Object::parse(&text).map_err(|error| invalid_json(message, &error.to_string()))?;
    let order = Order::parse(&object)?;
    Span::current().record("order", debug(order.id.as_str()));
    let key = Key::new(order::SCOPE, order.id.as_str());
    let fingerprint = Fingerprint::new(&object, order::ID);
    let decision = order::decide(&order)?;
    let bodies = outbox::bodies(&decision.events, (order::SOURCE, order.id.as_str()), &key, attempt);
    check_size(&decision.receipt, &bodies).map_err(|error| order::invalid(&order, &error.to_string()))?;

    let operation = Operation { key: &key, fingerprint: &fingerprint, receipt: &decision.receipt, events: &bodies };
    match ledger.commit(&operation, attempt).await? {
        Outcome::Committed(pending) => {
            info!("Processing idempotent message id={} payload={}", order.id, order::logged(&object));
            outbox::publish(ledger, events, &pending, attempt).await;
            Ok(decision.receipt)
        }
        Outcome::Duplicate { receipt, pending } => {
            info!("Duplicate message detected; skipping id={}", order.id);
            outbox::publish(ledger, events, &pending, attempt).await;
            Ok(receipt)
        }
        Outcome::Conflict => Err(conflict(&order).into()),
    }
}

/// The JSON text of a message, which may be base64 of it: producers differ, and Storage Explorer offers both.
fn json_text(message: &str) -> Result<Cow<'_, str>, Rejection> {
    let trimmed = message.trim();
    if trimmed.starts_with('{') {
        return Ok(Cow::Borrowed(trimmed));
    }
    let Ok(bytes) = BASE64_STANDARD.decode(trimmed) else {
        return Ok(Cow::Borrowed(trimmed));
    };
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| invalid_json(message, "base64 of something that is not UTF-8"))
}

fn invalid_json(message: &str, detail: &str) -> Rejection {
    Rejection {
        reason: INVALID_JSON,
        detail: detail.to_owned(),
        warning: format!("Invalid JSON; cannot apply idempotency. bytes={} problem={detail}", message.len()),
    }
}

fn conflict(order: &Order<'_>) -> Rejection {
    Rejection {
        reason: CONFLICT,
        detail: format!("order {} was committed before, with other content", order.id),
        warning: format!("Conflicting message detected; quarantining it. id={}", order.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: Result<&str, &'static str>) {
        let text = json_text(message);
        assert_eq!(text.as_deref().map_err(|rejection| rejection.reason), expected, "{message}");
    }

    #[test]
    fn raw_json_and_base64_of_it_are_the_same_message() {
        check(r#"{"id":"order-123"}"#, Ok(r#"{"id":"order-123"}"#));
        check("eyJpZCI6Im9yZGVyLTEyMyJ9", Ok(r#"{"id":"order-123"}"#));
        check(" eyJpZCI6Im9yZGVyLTEyMyJ9\n", Ok(r#"{"id":"order-123"}"#));
    }

    #[test]
    fn base64_of_no_text_is_invalid() {
        check("//79/A==", Err(INVALID_JSON));
    }

    #[test]
    fn text_that_only_looks_like_base64_is_judged_as_json_later() {
        check("hello world", Ok("hello world"));
        check("", Ok(""));
    }
}
