//! `docs/crash-matrix.md`, written from the observed outcomes.

use super::scenario::{Failure, Scenario, Seen};
use crate::app::app_root;
use std::{collections::BTreeSet, fs};

const INTRODUCTION: &str = "\
# Crash matrix

The outcome of an order for every fault at every step of its delivery. The end-to-end tests saw it: the local host drives
the real handler over Azurite, through a proxy that injects the faults. *Written by the tests; do not edit:*

```sh
UPDATE_CRASH_MATRIX=1 cargo test --test e2e crash_matrix
```

In every row, and whatever the row says: one record and one effect for each order, its event published at least once,
always under one id and in the same words, every message committed, recognised as a duplicate or kept in quarantine,
nothing else in the table, and nothing left on `orders` or `orders-poison`. (What is quarantined is no order, and has
no record.) *Deliveries* says how each ended, the last one with the message off the queue; one that was *given back*, any
number of times, is a new message. Copies of the event come from the deliveries, or from the timer, which publishes what
they left behind. What the timer moves from the poison queue is not delivered.

| step | fault | deliveries | records | event |
|---|---|---|---|---|
";

/// Compares the document with what was seen, or writes it when that is asked for.
pub(super) fn check(rows: &[(&Scenario, Seen)]) {
    let path = app_root().join("docs/crash-matrix.md");
    let table: String = rows.iter().map(|(scenario, seen)| row(&scenario.failure, seen)).collect();
    let document = format!("{INTRODUCTION}{table}");
    if std::env::var_os("UPDATE_CRASH_MATRIX").is_some() {
        fs::create_dir_all(app_root().join("docs")).unwrap();
        fs::write(&path, &document).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let missing: Vec<_> = lines(&document).difference(&lines(&stored)).cloned().collect();
    assert!(missing.is_empty(), "docs/crash-matrix.md is not current, it lacks:\n{}", missing.join("\n"));
    // Elsewhere some of the rows cannot be seen.
    assert!(document == stored || !cfg!(target_os = "linux"), "docs/crash-matrix.md has more than was seen");
}

fn row(failure: &Failure, seen: &Seen) -> String {
    let mut deliveries: Vec<_> = seen.deliveries.iter().map(ToString::to_string).collect();
    if deliveries.is_empty() {
        deliveries.push("none".to_owned());
    }
    format!(
        "| {} | {} | {} | {} | {} |\n",
        failure.step(),
        failure.fault(),
        deliveries.join(", "),
        seen.records,
        event(seen)
    )
}

fn event(seen: &Seen) -> String {
    let [delivered, relayed] = seen.published;
    let copies = |count: usize, who: &str| (count > 0).then(|| format!("{count} × by {who}"));
    let copies: Vec<_> = copies(delivered, "a delivery").into_iter().chain(copies(relayed, "the timer")).collect();
    match (copies.is_empty(), seen.quarantined) {
        (false, 0) => copies.join(", "),
        (true, 0) => "none".to_owned(),
        (_, quarantined) => format!("none; {quarantined} × in quarantine"),
    }
}
