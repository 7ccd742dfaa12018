//! The section "Make it yours" of the README: applied to `src/order.rs`, compiled, and tried.
//!
//! `order.rs` beside this file is the domain with that change. A test holds it against the README and `src/order.rs`;
//! when either has changed, `UPDATE_README_EXAMPLE=1 cargo test --test wire` writes it anew.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "an example; and who asks for an update says so from outside"
)]

mod order;

use handler::json::Object;
use order::{INVALID_ORDER, Order, decide};
use std::{fs, path::Path};

/// Applies a `diff` block: the lines of its context and of what it removes stand in `source`, together, and once.
fn apply(source: &str, diff: &str) -> String {
    let without = |mark: char| {
        let kept = diff.lines().filter(|line| !line.starts_with(mark));
        kept.map(|line| format!("{}\n", &line[1..])).collect::<String>()
    };
    assert_eq!(source.matches(&without('+')).count(), 1, "the README shows what is not in src/order.rs:\n{diff}");
    source.replace(&without('+'), &without('-'))
}

#[test]
fn the_example_is_the_domain_with_the_change_that_the_readme_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let diffs: Vec<_> = readme.split("```diff\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(diffs.len(), 2);
    let order = fs::read_to_string(root.join("src/order.rs")).unwrap();
    let changed = diffs.iter().fold(order, |order, diff| apply(&order, diff));
    let changed = format!("{}\n", changed.split("#[cfg(test)]").next().unwrap().trim_end());
    let example = root.join("tests/wire/make_it_yours/order.rs");
    if std::env::var_os("UPDATE_README_EXAMPLE").is_some() {
        fs::write(&example, &changed).unwrap();
    }
    assert!(fs::read_to_string(&example).unwrap() == changed, "UPDATE_README_EXAMPLE=1 cargo test --test wire");
}

fn kinds(text: &str) -> Result<Vec<&'static str>, &'static str> {
    let object = Object::parse(text).unwrap();
    let order = Order::parse(&object).map_err(|rejection| rejection.reason)?;
    Ok(decide(&order).unwrap().events.iter().map(|event| event.kind).collect())
}

#[test]
fn the_example_announces_express_orders_to_the_warehouse_too() {
    assert_eq!(kinds(r#"{"id":"a","express":true}"#), Ok(vec!["order.accepted", "shipment.requested"]));
    assert_eq!(kinds(r#"{"id":"a","express":false}"#), Ok(vec!["order.accepted"]));
    assert_eq!(kinds(r#"{"id":"a"}"#), Ok(vec!["order.accepted"]));
    assert_eq!(kinds(r#"{"id":"a","express":"yes"}"#), Err(INVALID_ORDER));
}
