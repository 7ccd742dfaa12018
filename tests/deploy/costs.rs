//! The costs in `docs/deploy.md`, computed again from the prices in its table and the requests that the README counts.

use std::{collections::BTreeMap, fs};

use crate::{
    infrastructure::{deployment, of_kind},
    root,
};

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The rows of the first table behind some text, by what is in their first cell.
fn table(text: &str, before: &str) -> BTreeMap<String, Vec<String>> {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before:?}"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.map(|cells| (cells[0].clone(), cells[1..].to_vec())).collect()
}

/// The number at the beginning of a text.
fn number(text: &str) -> f64 {
    let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap();
    digits.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// US dollars.
struct Prices {
    /// For a million requests.
    queue: f64,
    table: f64,
    invocation: f64,
    gb_second: f64,
    /// For a month.
    alert_rule: f64,
}

fn prices() -> Prices {
    let table = table(&text("docs/deploy.md"), "\n## What it costs\n");
    let price = |begin: &str, unit: &str| {
        let (_, cells) = table.iter().find(|(what, _)| what.starts_with(begin)).unwrap();
        assert!(cells[0].contains(unit), "{begin}: {} is not {unit}", cells[0]);
        number(cells[0].trim_start_matches("about "))
    };
    Prices {
        queue: price("queue request", "for a million"),
        table: price("table request", "for a million"),
        invocation: price("invocation", "for a million"),
        gb_second: price("memory", "for a GB-second"),
        alert_rule: price("an alert rule", "a month"),
    }
}

/// How many requests the README counts in a cell.
fn counted(cell: &str) -> f64 {
    cell.split(", ").filter(|part| !part.is_empty()).map(number).sum()
}

/// Millions of requests for a million orders: from the best case, sixteen messages a receive, to the worst.
struct Requests {
    queue: [f64; 2],
    table: f64,
}

/// What the README counts, the producer's put, and the host's receive and delete.
fn requests(delivery: &str) -> Requests {
    let rows = table(&text("README.md"), "\nWhat an order costs");
    let [table, queue] = [0, 1].map(|column| counted(&rows[delivery][column]));
    Requests { queue: [1.0 / 16.0, 1.0].map(|receive| 1.0 + receive + 1.0 + queue), table }
}

fn range([low, high]: [f64; 2]) -> String {
    format!("{low:.2} to {high:.2}")
}

#[test]
fn a_million_orders_cost_what_their_requests_cost() {
    let (text, readme, prices) = (text("docs/deploy.md"), text("README.md"), prices());
    let row = |title: &str, cells: [String; 2]| {
        let row = format!("| {title} | {} | {} |", cells[0], cells[1]);
        assert!(text.contains(&row), "{row}");
    };
    let kinds = ["new order with one event", "new order without events"].map(requests);
    row(
        "queue requests",
        kinds.each_ref().map(|kind| {
            let [low, high] = kind.queue;
            format!("{low:.2} to {high} million: {}", range(kind.queue.map(|count| count * prices.queue)))
        }),
    );
    row(
        "table requests",
        kinds.each_ref().map(|kind| format!("{} million: {:.2}", kind.table, kind.table * prices.table)),
    );
    row("invocations", kinds.each_ref().map(|_| format!("{:.2}", prices.invocation)));
    let total =
        |kind: &Requests| kind.queue.map(|queue| queue * prices.queue + kind.table * prices.table + prices.invocation);
    row("**together**", kinds.each_ref().map(|kind| format!("**{}**", range(total(kind)))));
    let [[_, dearest], [cheapest, _]] = kinds.each_ref().map(total);
    assert!(readme.contains(&format!("{} US dollars", range([cheapest, dearest]))));
}

#[test]
fn the_rest_of_the_bill_is_computed_as_well() {
    // One line, however the paragraphs are wrapped.
    let (text, readme, prices) = (text("docs/deploy.md"), text("README.md"), prices());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ticks = 30.0 * 24.0 * 60.0 / 5.0;
    let queries_of_a_tick =
        counted(&table(&readme, "\nWhat an order costs")["one tick of the timer with nothing to do"][0]);
    let queries = ticks * queries_of_a_tick;
    let (small, large) = (0.5, 2.0);
    let second = prices.gb_second;
    for sentence in [
        format!("× GB of memory × {second}."),
        format!("10,000 s for a million orders on one instance: {:.2} with 512 MB", 10_000.0 * small * second),
        format!("{:.0} with 512 MB, {:.0} with 2,048 MB", 1e6 * small * second, 1e6 * large * second),
        format!(
            "8,640 ticks in 30 days with {queries_of_a_tick} queries each, 561,600 table requests: {:.2};",
            queries / 1e6 * prices.table
        ),
        format!("4,320 GB-seconds with 512 MB: {:.2},", ticks * small * second),
        format!("43,200 times in 30 days: {:.2};", 43_200.0 / 1e6 * prices.queue),
    ] {
        assert!(text.contains(&sentence), "{sentence}");
    }
    assert_eq!((ticks, queries), (8_640.0, 561_600.0));
}

#[test]
fn the_alerts_cost_what_their_rules_cost() {
    let deployment = deployment();
    let rules = of_kind(&deployment, "Microsoft.Insights/scheduledQueryRules");
    assert!(rules.iter().all(|rule| rule.body["properties"]["evaluationFrequency"] == "PT15M"));
    let words = ["no", "one", "two", "three"];
    let (number, price) = (words[rules.len()], prices().alert_rule * f64::from(u8::try_from(rules.len()).unwrap()));
    let sentence = format!("- *the {number} alert rules*: {price:.2} a month;");
    assert!(text("docs/deploy.md").contains(&sentence), "{sentence}");
}
