//! The way of a message to its operation: no text makes it panic, the canonical form is one, and what is decided can be
//! committed.

#![no_main]

use handler::{
    attempt::Attempt,
    functions::queue_with_idempotency::{Decided, read_and_decide},
    idempotency::Fingerprint,
    json::{Object, xml_safe},
    quarantine::Reason,
    storage::MessageEncoding,
};
use libfuzzer_sys::fuzz_target;
use order::DOMAIN;

#[path = "../../tests/domain/order.rs"]
mod order;

fuzz_target!(|text: &str| {
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let attempt = Attempt::new(String::new(), now, tokio::time::Instant::now(), 1);
    let decided = read_and_decide(&DOMAIN, MessageEncoding::Base64, text, &attempt);
    let Ok(object) = Object::parse(text) else { return };
    check_canonical(&object);
    check_xml_safe(&object, text);
    let id = object.get(DOMAIN.id_member);
    match decided {
        Ok(decided) => check_decided(&object, &decided),
        Err(rejection) => match rejection.reason {
            Reason::MissingId => assert!(id.is_none_or(|id| id == "null")),
            Reason::InvalidId | Reason::InvalidOrder => assert!(id.is_some()),
            reason => panic!("an object is rejected as {reason:?}"),
        },
    }
});

/// Checks that the canonical form is an object with the same content, and its own canonical form.
fn check_canonical(object: &Object<'_>) {
    for left_out in [&[][..], &[DOMAIN.id_member]] {
        let canonical = object.canonical_without(left_out);
        let again = Object::parse(&canonical).expect("the canonical form is an object");
        assert_eq!(again.canonical_without(left_out), canonical);
        assert_eq!(Fingerprint::new(&again, left_out), Fingerprint::new(object, left_out));
    }
}

fn check_xml_safe(object: &Object<'_>, text: &str) {
    let safe = xml_safe(text.to_owned());
    assert!(!safe.contains(['\u{fffe}', '\u{ffff}']));
    let again = Object::parse(&safe).expect("escaping leaves an object");
    assert_eq!(again.canonical_without(&[]), object.canonical_without(&[]));
}

fn check_decided(object: &Object<'_>, Decided { id, printable, operation }: &Decided) {
    assert!(!id.is_empty() && id == id.trim() && !id.contains(char::is_control) && id.chars().count() <= 256, "{id:?}");
    let key = &operation.key;
    assert_eq!((key.partition_key().len(), key.record_row_key().len()), ("bucket~00".len(), "record~".len() + 64));
    let receipt = Object::parse(&operation.receipt).expect("a receipt is an object");
    assert_eq!(receipt.get("id"), Some(serde_json::Value::from(id.as_str()).to_string().as_str()));
    assert_eq!(receipt.get("amount"), object.get("amount"), "to the character");
    assert!(printable.len() <= object.get(DOMAIN.id_member).unwrap_or_default().len() + 100, "{printable}");
}
