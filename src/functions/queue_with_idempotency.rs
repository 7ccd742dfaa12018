//! Queue trigger `orders`: each order takes effect once, whatever the queue delivers.
//!
//! | message | outcome |
//! |---|---|
//! | new order | committed, its events published, answered with its receipt |
//! | same id, same content | answered with the first receipt |
//! | same id, other content | quarantined: `conflict` |
//! | no JSON object | quarantined: `invalid_json` |
//! | no usable id | quarantined: `missing_id`, `invalid_id` |
//! | not an order | quarantined: `invalid_order` |
//! | anything while the table does not work | fails, comes back |

use super::{App, Failure};
use crate::{
    attempt::Attempt,
    cloud_event::{self, Origin},
    decision::{Decision, Domain},
    idempotency::{Fingerprint, Key, Operation, Outcome, outbox, record::check_size},
    json::Object,
    message::{self, Message, Text},
    quarantine::{Reason, Rejection},
};
use tracing::{Span, field::debug, info};

/// A message that was read and decided, and not yet committed.
#[derive(Debug)]
pub struct Decided {
    /// Id of the order.
    pub id: String,
    /// Part of the message that a log line may show.
    pub printable: String,
    /// Operation to commit.
    pub operation: Operation,
}

/// Serves one message and answers with the receipt of its order.
///
/// # Errors
///
/// [`Failure::Reject`] when no delivery of this message can succeed, [`Failure::Retry`] when the next one may.
pub async fn run(app: &App, text: &str, attempt: &Attempt) -> Result<String, Failure> {
    let decided = read_and_decide(&app.domain, text, attempt)?;
    commit_and_publish(app, decided, attempt).await
}

/// Reads a message, and lets the domain decide it. Nothing happens here that another worker could notice.
///
/// # Errors
///
/// No delivery of this message can succeed.
pub fn read_and_decide(domain: &Domain, text: &str, attempt: &Attempt) -> Result<Decided, Rejection> {
    let text = Text::decode(text)?;
    let object = text.object()?;
    let printable = message::printable(&object, domain.id_member, domain.printable);
    match decide(domain, object, attempt) {
        Ok((id, operation)) => Ok(Decided { id, printable, operation }),
        Err(rejection) => Err(Rejection { printable: format!("payload={printable}"), ..rejection }),
    }
}

fn decide(domain: &Domain, object: Object<'_>, attempt: &Attempt) -> Result<(String, Operation), Rejection> {
    let message = Message::new(object, domain.id_member)?;
    Span::current().record("order", debug(message.id()));
    let Decision { receipt, events } = (domain.decide)(&message)?;
    let key = Key::new(domain.scope, message.id());
    let not_content = [&[domain.id_member], domain.ignored].concat();
    let fingerprint = Fingerprint::new(message.object(), &not_content);
    let origin = Origin { source: domain.event_source, subject: message.id(), time: attempt.now };
    let events = cloud_event::bodies(&events, &key, origin);
    check_size(receipt.get(), &events).map_err(|error| Rejection::invalid_order(error.to_string()))?;
    let receipt = String::from(Box::<str>::from(receipt));
    Ok((message.id().to_owned(), Operation { key, fingerprint, receipt, events }))
}

/// Commits a decided order unless it was committed before, publishes its events, and answers with its receipt.
///
/// # Errors
///
/// [`Failure::Reject`] when the id was committed with other content, [`Failure::Retry`] when the next delivery may
/// succeed.
pub async fn commit_and_publish(app: &App, decided: Decided, attempt: &Attempt) -> Result<String, Failure> {
    let Decided { id, printable, operation } = decided;
    match app.ledger.commit(&operation, attempt).await? {
        Outcome::Committed(unpublished) => {
            info!("Processing idempotent message id={id} payload={printable}");
            outbox::publish(&app.ledger, &app.events, &unpublished, attempt).await;
            Ok(operation.receipt)
        }
        Outcome::Duplicate { receipt, unpublished } => {
            info!("Duplicate message detected; skipping id={id}");
            outbox::publish(&app.ledger, &app.events, &unpublished, attempt).await;
            Ok(receipt)
        }
        Outcome::Conflict => {
            let detail = format!("order {id} was committed before, with other content");
            Err(Rejection { printable: format!("id={id}"), ..Rejection::new(Reason::Conflict, detail) }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Event, to_json};
    use serde::Deserialize;
    use time::macros::datetime;
    use tokio::time::Instant;

    const PAYMENTS: Domain = Domain {
        scope: "payments",
        event_source: "/payments",
        id_member: "paymentId",
        ignored: &["sentAt"],
        printable: &["cents"],
        decide: |message| {
            #[derive(Deserialize)]
            struct Payment {
                cents: u64,
            }
            let Payment { cents } = message.read()?;
            let booked = |kind| Ok(Event { kind, data: to_json(&cents)? });
            Ok(Decision { receipt: to_json(&message.id())?, events: vec![booked("booked")?, booked("audited")?] })
        },
    };

    fn decided(text: &str) -> Result<Decided, String> {
        let now = datetime!(2026-11-21 10:20 UTC);
        let attempt = Attempt::new("5b0c1f4e".to_owned(), now, Instant::now(), fastrand::Rng::with_seed(1));
        read_and_decide(&PAYMENTS, text, &attempt).map_err(|rejection| rejection.warning())
    }

    #[test]
    fn the_domain_says_what_an_operation_is() {
        let Decided { id, printable, operation } = decided(r#"{"paymentId":7,"cents":250,"card":"4111"}"#).unwrap();
        assert_eq!((id.as_str(), printable.as_str()), ("7", r#"{"paymentId":7,"cents":250}"#));
        assert_eq!((operation.key, operation.receipt.as_str()), (Key::new("payments", "7"), r#""7""#));
        let events = operation.events.iter().map(|body| serde_json::from_str::<serde_json::Value>(body).unwrap());
        let events: Vec<_> = events.map(|event| (event["source"].clone(), event["type"].clone())).collect();
        assert_eq!(events, [("/payments".into(), "booked".into()), ("/payments".into(), "audited".into())]);
    }

    #[test]
    fn the_members_that_the_domain_ignores_are_not_content() {
        let fingerprint = |text| decided(text).unwrap().operation.fingerprint;
        let first = fingerprint(r#"{"paymentId":"7","cents":250,"sentAt":"10:20"}"#);
        assert_eq!(fingerprint(r#"{"paymentId":"7","cents":250,"sentAt":"10:25"}"#), first);
        assert_ne!(fingerprint(r#"{"paymentId":"7","cents":250,"note":"10:20"}"#), first);
    }

    #[test]
    fn the_log_line_of_a_rejection_repeats_nothing_but_what_may_be_printed() {
        for (text, expected) in [
            (
                "4111 1111",
                "Invalid JSON; cannot apply idempotency. bytes=9 problem=as JSON: not valid JSON at line 1 column 6; as base64 of JSON: it is not UTF-8 reason=invalid_json",
            ),
            (
                r#"{"cents":10,"card":"4111"}"#,
                r#"Missing id field; cannot apply idempotency. payload={"cents":10} reason=missing_id"#,
            ),
            (
                r#"{"paymentId":["4111"]}"#,
                r#"Invalid id field; cannot apply idempotency. payload={"paymentId":…} reason=invalid_id"#,
            ),
            (
                r#"{"paymentId":7,"cents":"4111"}"#,
                r#"Invalid order; quarantining it. payload={"paymentId":7,"cents":…} reason=invalid_order"#,
            ),
        ] {
            assert_eq!(decided(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_result_that_cannot_be_committed_is_an_invalid_order() {
        let domain = Domain {
            decide: |_| Ok(Decision { receipt: to_json(&"x".repeat(40_000))?, events: Vec::new() }),
            ..PAYMENTS
        };
        let attempt =
            Attempt::new(String::new(), datetime!(2026-11-21 10:20 UTC), Instant::now(), fastrand::Rng::new());
        let rejection = read_and_decide(&domain, r#"{"paymentId":7}"#, &attempt).unwrap_err();
        assert_eq!(rejection.reason, Reason::InvalidOrder);
        assert!(rejection.detail.starts_with("the receipt has 40002 UTF-16 units"), "{}", rejection.detail);
    }
}
