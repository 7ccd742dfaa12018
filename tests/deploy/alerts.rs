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
    let host = include_str!("../../dev/src/queue_listener/message.rs");
    assert!(host.contains("Moving message to queue '{queue}'") && host.contains(r#"format!("{}-poison", self.queue)"#));
    let (app, logging) = (include_str!("../../src/app.rs"), include_str!("../../src/logging.rs"));
    assert!(quarantine.contains("message startswith \"WARN\"") && logging.contains(r#"format!("{level} {line}")"#));
    assert!(quarantine.contains("\" reason=\"") && app.contains(r#"warn!("{} reason={}""#));
    assert!(quarantine.contains("\"function=queue_with_idempotency\"") && logging.contains(" function={function} "));
    let cap = &only(&deployment, "Microsoft.OperationalInsights/workspaces").body["properties"]["workspaceCapping"];
    assert!(cap["dailyQuotaGb"].as_u64().is_some_and(|cap| cap > 0));
}
