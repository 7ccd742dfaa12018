//! The parser of orders: no text makes it panic, the canonical form is one, and what is accepted can be committed.

#![no_main]

use handler::{
    idempotency::{Fingerprint, Key},
    json::{Object, xml_safe},
    order::{self, Order},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(object) = Object::parse(text) else { return };
    check_canonical(&object);
    check_xml_safe(&object, text);
    match Order::parse(&object) {
        Ok(order) => check_accepted(&object, &order),
        // It is decided by the id alone that an id is missing or invalid.
        Err(rejection) if rejection.reason == order::MISSING_ID => {
            assert!(object.get(order::ID).is_none_or(|id| id == "null"));
        }
        Err(rejection) => assert!([order::INVALID_ID, order::INVALID_ORDER].contains(&rejection.reason)),
    }
});

/// The canonical form is an object with the same content, and its own canonical form.
fn check_canonical(object: &Object<'_>) {
    for left_out in ["", order::ID] {
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
    assert_eq!(again.canonical_without(""), object.canonical_without(""));
}

fn check_accepted(object: &Object<'_>, order: &Order<'_>) {
    let id = order.id.as_str();
    assert!(!id.is_empty() && id == id.trim() && !id.contains(char::is_control) && id.chars().count() <= 256, "{id:?}");
    let key = Key::new(order::SCOPE, id);
    assert_eq!((key.partition_key().len(), key.record_row_key().len()), ("bucket~00".len(), "record~".len() + 64));

    let decision = order::decide(order).expect("an order that can be read is accepted");
    let receipt = Object::parse(&decision.receipt).expect("a receipt is an object");
    assert_eq!(receipt.get(order::ID), Some(serde_json::Value::from(id).to_string().as_str()));
    assert_eq!(receipt.get("amount"), object.get("amount"), "to the character");

    let logged = order::logged(object);
    assert!(logged.len() <= object.get(order::ID).unwrap_or_default().len() + 100, "{logged}");
}
