//! What is asked of the log, held against the lines that are written.

use crate::infrastructure::{deployment, of_kind, only};

/// The alerts read the log, so they are worth as much as the lines that they look for.
#[test]
fn the_alerts_look_for_lines_that_are_written() {
    let deployment = deployment();
    let queries: Vec<_> = of_kind(&deployment, "Microsoft.Insights/scheduledQueryRules")
        .into_iter()
        .map(|rule| rule.body["properties"]["criteria"]["allOf"][0]["query"].as_str().unwrap().to_owned())
        .collect();
    let [poison, quarantine] = queries.as_slice() else { panic!("{queries:?}") };
    assert_eq!(poison, "traces | where message contains \"Moving message to queue 'orders-poison'\"");
    // The host's words, as the local host repeats them.
    let host = include_str!("../../dev/local-host/src/queue_listener/message.rs");
    assert!(host.contains("Moving message to queue '{queue}'") && host.contains(r#"format!("{}-poison", self.queue)"#));
    let (app, logging) = (include_str!("../../src/app.rs"), include_str!("../../src/logging.rs"));
    assert!(quarantine.contains("message startswith \"WARN\"") && logging.contains(r#"format!("{level} {line}")"#));
    assert!(quarantine.contains("\" reason=\"") && app.contains(r#"warn!("{} reason={}""#));
    assert!(quarantine.contains("\"function=queue_with_idempotency\"") && logging.contains(" function={function} "));
    let cap = &only(&deployment, "Microsoft.OperationalInsights/workspaces").body["properties"]["workspaceCapping"];
    assert!(cap["dailyQuotaGb"].as_u64().is_some_and(|cap| cap > 0));
}

#[test]
fn the_queries_of_the_documentation_look_for_lines_that_are_written() {
    let text = include_str!("../../docs/deploy.md");
    let queries: Vec<_> = text.split("```kusto\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [processed, duplicates, failures] = queries.as_slice() else { panic!("{queries:?}") };
    let function = include_str!("../../src/functions/queue_with_idempotency.rs");
    let app = include_str!("../../src/app.rs");
    let logging = include_str!("../../src/logging.rs");
    for (query, source, line) in [
        (processed, function, r#"info!("Processing idempotent message id={}"#),
        (duplicates, function, r#"info!("Duplicate message detected; skipping id={}"#),
        (failures, app, r#"error!("Invocation failed: {cause}"#),
    ] {
        assert!(source.contains(line), "{line}");
        let begin = line.split_once('"').unwrap().1.split('{').next().unwrap();
        assert!(query.contains(begin), "{query}: not {begin}");
    }
    assert!(failures.contains(r#"startswith "ERROR Invocation failed: ""#) && failures.contains("invocation=([^ ]+)"));
    assert!(logging.contains(r#"format!("{level} {line}")"#) && logging.contains(" invocation={}"));
}
