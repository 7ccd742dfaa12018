//! The alerts: their queries, held against the lines that the host and the handler write.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use regex::Regex;
use serde_json::json;
use tokio::{process::Command, time::sleep};

use crate::{
    infrastructure::{deployment, of_type, only, queues_of_the_function},
    root,
};

/// The query of the alert on each queue: poison, quarantine.
fn queries() -> [String; 2] {
    let rules = of_type(&deployment(), "Microsoft.Insights/scheduledQueryRules")
        .into_iter()
        .map(|rule| rule.body["properties"]["criteria"]["allOf"][0]["query"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    rules.try_into().unwrap()
}

/// Says whether a query finds the trace `line`, for queries of conditions on the message.
fn finds(query: &str, line: &str) -> bool {
    let mut conditions = query.strip_prefix("traces | where ").unwrap().split(" and ");
    let condition = Regex::new(r#"^message (startswith|contains) "(.+)"$"#).unwrap();
    conditions.all(|text| {
        let (_, [operator, words]) = condition.captures(text).unwrap_or_else(|| panic!("{text}")).extract();
        if operator == "startswith" { line.starts_with(words) } else { line.contains(words) }
    })
}

/// <https://github.com/Azure/azure-sdk-for-net/blob/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues/src/QueueProcessor.cs>
#[test]
fn a_poisoned_message_raises_the_alert() {
    let [trigger, _] = queues_of_the_function();
    let line = |queue: &str| format!("Message has reached MaxDequeueCount of 5. Moving message to queue '{queue}'.");
    let [poison, quarantine] = queries();
    assert!(finds(&poison, &line(&format!("{trigger}-poison"))));
    assert!(!finds(&poison, &line("another-poison")) && !finds(&quarantine, &line("orders-poison")));
}

#[tokio::test]
async fn a_quarantined_message_raises_the_alert() {
    let lines = stderr_of_the_handler(r#"{"amount":10}"#).await;
    let [poison, quarantine] = queries();
    let found: Vec<_> = lines.lines().filter(|line| finds(&quarantine, line)).collect();
    assert_eq!(found.len(), 1, "{lines}");
    assert!(!finds(&poison, &lines));
}

/// Runs the handler, has it read one message, and returns what it wrote to stderr.
async fn stderr_of_the_handler(message: &str) -> String {
    let port = test_storage::free_port().unwrap().to_string();
    let settings =
        [("FUNCTIONS_CUSTOMHANDLER_PORT", port.as_str()), ("AzureWebJobsStorage", "UseDevelopmentStorage=true")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_handler"));
    command.env_clear().envs(settings).current_dir(root()).kill_on_drop(true);
    let mut handler = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let message = serde_json::to_string(message).unwrap();
    let body = json!({ "Data": { "msg": message }, "Metadata": {} }).to_string();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://127.0.0.1:{port}/queue_with_idempotency");
    let start = Instant::now();
    while client.post(&url).body(body.clone()).send().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "the handler does not answer");
        sleep(Duration::from_millis(10)).await;
    }
    handler.start_kill().unwrap();
    String::from_utf8(handler.wait_with_output().await.unwrap().stderr).unwrap()
}

/// An alert on a log without a cap is a bill without one.
#[test]
fn the_logs_of_a_day_are_capped() {
    let deployment = deployment();
    let workspace = &only(&deployment, "Microsoft.OperationalInsights/workspaces").body;
    assert_eq!(workspace["properties"]["workspaceCapping"]["dailyQuotaGb"], 1);
}
