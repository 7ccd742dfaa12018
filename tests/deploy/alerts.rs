//! The queries of the alerts and of `docs/operations.md`, held against lines that the handler prints.
//!
//! No parser of Kusto runs here. The alerts keep to a few forms, and another form fails; of the others only known mistakes
//! are looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use regex::Regex;
use serde_json::{Value, json};
use tokio::{process::Command, time::sleep};

use crate::{
    infrastructure::{deployment, of_type, only},
    root,
};

/// The line of a tick that finds nothing wrong. As a warning it begins with `WARN `.
const STATE: &str = "State: orders=12 orders-poison=0 orders-quarantine=0 order-events=5 oldest_s=34 published=0 \
                     unpublished=0 unpublished_oldest_s=0 purged=120 due=0 given_back=0 away=none";
const STORAGE_AWAY: &str = "WARN Storage away: table since 2026-11-28T14:00:00Z; 24 messages held, 120 given back; last \
                            error: storage cannot be reached: Connection refused (os error 111)";

const GIVEN_BACK: &str =
    "WARN Given back: 12 messages, while the table answers others; last error: storage answered 503";

/// The rule of each alert, by the alert's name.
fn rules() -> BTreeMap<String, Value> {
    let deployment = deployment();
    let rules = of_type(&deployment, "Microsoft.Insights/scheduledQueryRules").into_iter();
    let named = |name: &str| name.strip_prefix("alert-").unwrap().rsplit_once('-').unwrap().0.to_owned();
    rules.map(|rule| (named(rule.name()), rule.body["properties"].clone())).collect()
}

fn query(rule: &Value) -> &str {
    rule["criteria"]["allOf"][0]["query"].as_str().unwrap()
}

/// Says whether a condition of a query holds for a line.
fn holds(condition: &str, line: &str) -> bool {
    let words = Regex::new(r#"^message (startswith|contains|matches regex) "([^"]+)"$"#).unwrap();
    let number = Regex::new(r#"^extract\("([^"]+)", 1, message, typeof\(long\)\) > ([0-9]+)$"#).unwrap();
    if let Some(found) = number.captures(condition) {
        let value = Regex::new(&found[1]).unwrap().captures(line).map(|value| value[1].parse::<i64>().unwrap());
        return value.is_some_and(|value| value > found[2].parse().unwrap());
    }
    let (_, [operator, words]) = words.captures(condition).unwrap_or_else(|| panic!("{condition}")).extract();
    match operator {
        "startswith" => line.starts_with(words),
        "contains" => line.contains(words),
        _ => Regex::new(words).unwrap().is_match(line),
    }
}

/// Returns the number of rows that a query makes of lines, given from the oldest to the newest.
fn rows(query: &str, lines: &[&str]) -> i64 {
    let mut found = lines.to_vec();
    let mut stages = query.split(" | ").peekable();
    assert_eq!(stages.next(), Some("traces"));
    while let Some(stage) = stages.next() {
        match stage {
            "top 1 by timestamp" => found = found.pop().into_iter().collect(),
            "summarize states = count()" => {
                assert_eq!(stages.next(), Some("where states == 0"));
                return i64::from(found.is_empty());
            }
            _ => {
                let conditions = stage.strip_prefix("where ").unwrap_or_else(|| panic!("{stage}"));
                found.retain(|line| {
                    conditions.split(" or ").any(|all| all.split(" and ").all(|condition| holds(condition, line)))
                });
            }
        }
    }
    i64::try_from(found.len()).unwrap()
}

/// An alert is active while its query finds something, and no longer.
#[tokio::test]
async fn each_alert_is_raised_by_the_lines_about_its_trouble() {
    let failed = line_of_a_failed_tick().await;
    let failed = failed.as_str();
    let state = |changed: &str| {
        let name = changed.split('=').next().unwrap();
        Regex::new(&format!(" {name}=[a-z0-9]+")).unwrap().replace(STATE, format!(" {changed}")).into_owned()
    };
    let warning = |changed: &str| format!("WARN {}", state(changed));
    let forged = "WARN The order State: orders-quarantine=1 given_back=1 was rejected. reason=invalid_order";
    let rules = rules();
    let check = |lines: &[&str], expected: &[&str]| {
        let is_raised =
            |rule: &Value| rows(query(rule), lines) > rule["criteria"]["allOf"][0]["threshold"].as_i64().unwrap();
        let raised: BTreeSet<_> =
            rules.iter().filter(|(_, rule)| is_raised(rule)).map(|(name, _)| name.as_str()).collect();
        assert_eq!(raised, expected.iter().copied().collect(), "{lines:?}");
    };
    check(&[STATE, forged], &[]);
    check(&[STATE, &warning("orders-quarantine=3")], &["set-aside"]);
    check(&[&warning("orders-poison=10"), forged], &["set-aside"]);
    check(&[&warning("orders-quarantine=3"), STATE], &[]);
    check(&[&state("orders=10000")], &[]);
    check(&[&state("orders=10001")], &["backlog"]);
    check(&[&warning("oldest_s=901")], &["backlog"]);
    check(&[&state("order-events=10001")], &["events"]);
    check(&[&state("unpublished_oldest_s=901")], &["events"]);
    check(&[&state("given_back=1")], &["away"]);
    check(&[STATE, STORAGE_AWAY, STATE], &["away"]);
    check(&[STATE, GIVEN_BACK, STATE], &["away"]);
    check(&[STORAGE_AWAY], &["away", "timer-silent"]);
    check(&[failed, failed, failed, STATE], &[]);
    check(&[failed, failed, failed, failed, STATE], &["timer-fails"]);
    check(&[], &["timer-silent"]);
    for rule in rules.values() {
        assert_eq!((&rule["autoMitigate"], &rule["enabled"]), (&json!(true), &json!(true)));
        assert_eq!((&rule["evaluationFrequency"], &rule["windowSize"]), (&json!("PT15M"), &json!("PT30M")));
        let criterion = &rule["criteria"]["allOf"][0];
        assert_eq!((&criterion["timeAggregation"], &criterion["operator"]), (&json!("Count"), &json!("GreaterThan")));
    }
}

/// Runs the handler over a storage that is not there, has it fail one tick and one message, and returns its warnings and
/// errors.
async fn lines_without_storage() -> Vec<String> {
    let port = test_storage::free_port().unwrap().to_string();
    let storage =
        "AccountName=shop;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:1/a;QueueEndpoint=http://127.0.0.1:1/a";
    let settings = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.as_str()),
        ("AzureWebJobsStorage", storage),
        ("AzureFunctionsJobHost__functionTimeout", "00:00:02"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_handler"));
    command.env_clear().envs(settings).current_dir(root()).kill_on_drop(true);
    let mut handler = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = Instant::now();
    for (function, body) in [
        ("scheduled_with_retry", r#"{"Data":{"timer":{"IsPastDue":false}}}"#),
        ("queue_with_idempotency", r#"{"Data":{"msg":"{\"id\":\"order-123\",\"amount\":42}"}}"#),
    ] {
        while client.post(format!("http://127.0.0.1:{port}/{function}")).body(body).send().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "the handler does not answer");
            sleep(Duration::from_millis(10)).await;
        }
    }
    handler.start_kill().unwrap();
    let lines = String::from_utf8(handler.wait_with_output().await.unwrap().stderr).unwrap();
    lines.lines().map(str::to_owned).collect()
}

async fn line_of_a_failed_tick() -> String {
    let lines = lines_without_storage().await;
    lines.iter().find(|line| line.contains("Invocation failed")).unwrap_or_else(|| panic!("{lines:?}")).to_owned()
}

/// The lines of this test are those of the handler, but for numbers and times.
#[tokio::test]
async fn the_handler_prints_such_lines() {
    let value = Regex::new(r"=\S+|\d{4}-\S+Z|\b\d+ ").unwrap();
    let shape = |line: &str| value.replace_all(line.split(" function=").next().unwrap(), "").into_owned();
    let printed: Vec<_> = lines_without_storage().await.iter().map(|line| shape(line)).collect();
    for expected in [format!("WARN {STATE}"), STORAGE_AWAY.to_owned()] {
        assert!(printed.contains(&shape(&expected)), "{expected}: {printed:#?}");
    }
}

/// The queries of the documentation, each on one line.
fn documented_queries() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let blocks = text.split("```kusto\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().replace('\n', " "));
    let blocks: Vec<_> = blocks.collect();
    assert!(!blocks.is_empty());
    blocks
}

/// Microsoft's parser refuses `order by first`, and a name like that without brackets.
#[test]
fn no_query_has_a_known_mistake() {
    let strings = Regex::new(r#""[^"]*""#).unwrap();
    let names = Regex::new(r"(\w+)\s*=[^=~]|\bby\s+(\w+)").unwrap();
    let keywords = [
        "asc", "by", "desc", "first", "from", "in", "last", "let", "of", "on", "project", "set", "to", "where", "with",
    ];
    let rules = rules();
    let queries = documented_queries().into_iter().chain(rules.values().map(|rule| query(rule).to_owned()));
    for query in queries {
        assert!(!query.contains('\\'), "an escape that a string of Kusto may not have: {query}");
        let code = strings.replace_all(&query, "\"\"");
        assert!(code.matches('"').count().is_multiple_of(2), "a string without end: {query}");
        assert_eq!(code.matches('(').count(), code.matches(')').count(), "{query}");
        for found in names.captures_iter(&code) {
            let name = found.get(1).or_else(|| found.get(2)).unwrap().as_str();
            assert!(!keywords.contains(&name), "{name} is a keyword: {query}");
        }
    }
}

/// What succeeds is not in `traces`, and its requests are sampled.
#[tokio::test]
async fn the_documented_queries_look_for_what_reaches_the_log() {
    let lines = [STATE.to_owned(), STORAGE_AWAY.to_owned(), line_of_a_failed_tick().await];
    for query in documented_queries() {
        let mut stages = query.split(" | ");
        let table = stages.next().unwrap();
        let stages: Vec<_> = stages.collect();
        match table {
            "requests" => {
                let function = stages[0].strip_prefix("where name == \"").unwrap().trim_end_matches('"');
                assert!(root().join(function).join("function.json").exists(), "{function}");
                assert!(query.contains("sum(itemCount)"), "{query}");
            }
            _ => {
                assert_eq!(table, "traces");
                let condition = stages[0].strip_prefix("where ").unwrap();
                assert!(lines.iter().any(|line| holds(condition, line)), "{query}");
            }
        }
    }
}

/// An alert on a log without a cap is a bill without one.
#[test]
fn the_logs_of_a_day_are_capped() {
    let deployment = deployment();
    let workspace = &only(&deployment, "Microsoft.OperationalInsights/workspaces").body;
    assert_eq!(workspace["properties"]["workspaceCapping"]["dailyQuotaGb"], 1);
}
