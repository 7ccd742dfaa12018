//! The costs in `docs/deploy.md`, computed again from the counted requests and the prices beside them.

use std::fs;

use crate::root;

/// US dollars for a million, and for a GB-second.
const QUEUE: f64 = 0.40;
const TABLE: f64 = 0.036;
const INVOCATION: f64 = 0.40;
const GB_SECOND: f64 = 0.000_026;

/// Millions of requests for a million orders: from the best case, sixteen messages a receive, to the worst.
struct Requests {
    queue: [f64; 2],
    table: f64,
}

/// The producer's put, the host's receive and delete, the commit; and the event's put and delete.
fn requests(events: f64) -> Requests {
    Requests { queue: [1.0 / 16.0, 1.0].map(|receive| 1.0 + receive + 1.0 + events), table: 1.0 + events }
}

fn range([low, high]: [f64; 2]) -> String {
    format!("{low:.2} to {high:.2}")
}

#[test]
fn a_million_orders_cost_what_their_requests_cost() {
    let text = fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    let row = |title: &str, cells: [String; 2]| {
        let row = format!("| {title} | {} | {} |", cells[0], cells[1]);
        assert!(text.contains(&row), "{row}");
    };
    let kinds = [requests(1.0), requests(0.0)];
    row(
        "queue requests",
        kinds.each_ref().map(|kind| {
            let [low, high] = kind.queue;
            format!("{low:.2} to {high} million: {}", range(kind.queue.map(|count| count * QUEUE)))
        }),
    );
    row("table requests", kinds.each_ref().map(|kind| format!("{} million: {:.2}", kind.table, kind.table * TABLE)));
    let total = |kind: &Requests| kind.queue.map(|queue| queue * QUEUE + kind.table * TABLE + INVOCATION);
    row("**together**", kinds.each_ref().map(|kind| format!("**{}**", range(total(kind)))));
    let [[_, dearest], [cheapest, _]] = kinds.each_ref().map(total);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("{} US dollars", range([cheapest, dearest]))));
}

#[test]
fn the_rest_of_the_bill_is_computed_as_well() {
    // One line, however the paragraphs are wrapped.
    let text = fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ticks = 30.0 * 24.0 * 60.0 / 5.0;
    let queries = ticks * 65.0;
    let (small, large) = (0.5, 2.0);
    for sentence in [
        format!("10,000 s for a million orders on one instance: {:.2} with 512 MB", 10_000.0 * small * GB_SECOND),
        format!("{:.0} with 512 MB, {:.0} with 2,048 MB", 1e6 * small * GB_SECOND, 1e6 * large * GB_SECOND),
        format!("8,640 ticks in 30 days with 65 queries each, 561,600 table requests: {:.2};", queries / 1e6 * TABLE),
        format!("4,320 GB-seconds with 512 MB: {:.2},", ticks * small * GB_SECOND),
        format!("43,200 times in 30 days: {:.2};", 43_200.0 / 1e6 * QUEUE),
    ] {
        assert!(text.contains(&sentence), "{sentence}");
    }
    assert_eq!((ticks, queries), (8_640.0, 561_600.0));
}
