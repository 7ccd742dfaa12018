//! The outcome of `cargo demo`: shown as it is stored, and checked against the promises.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use local_host::Invocation;
use test_storage::{Received, Row};
use workspace::{heading, print_table};

use crate::{
    queues::{EVENTS, ORDERS, POISON, QUARANTINE, QUEUES},
    samples::{SAMPLES, TABLE},
};

/// Everything there is to see at the end.
pub(super) struct Outcome {
    /// One for each sample.
    pub(super) answers: Vec<Invocation>,
    /// The attempts of the timer.
    pub(super) ticks: Vec<Invocation>,
    pub(super) rows: Vec<Row>,
    pub(super) queues: BTreeMap<&'static str, Vec<Received>>,
}

impl Outcome {
    pub(super) fn show(&self) {
        heading(&format!("Table {TABLE}"));
        for row in &self.rows {
            let properties = row.iter().map(|(name, value)| vec![name.clone(), plain(value)]);
            print_table(&["property", "value"], &properties.collect::<Vec<_>>());
        }
        if self.rows.is_empty() {
            println!("  (empty)");
        }
        for queue in QUEUES {
            heading(&format!("Queue {queue}"));
            let titles = if queue == EVENTS { EVENT } else { QUARANTINED };
            let rows: Vec<_> = self.messages(queue).iter().map(|message| columns(message, &titles)).collect();
            if rows.is_empty() {
                println!("  (empty)");
            } else {
                print_table(&titles, &rows);
            }
        }
    }

    /// Prints what was promised and whether it was kept.
    pub(super) fn check(&self) -> Result<()> {
        heading("Promises");
        let mut promises = self.promises_about_the_order();
        promises.extend(self.promises_about_the_rest());
        for (promise, kept) in &promises {
            println!("  {} {promise}", if *kept { '✓' } else { '✗' });
        }
        println!();
        match promises.iter().filter(|(_, kept)| !kept).count() {
            0 => Ok(()),
            broken => bail!("{broken} of {} promises broken", promises.len()),
        }
    }

    fn promises_about_the_order(&self) -> Vec<(String, bool)> {
        let receipt = |index: usize| self.answers.get(index).and_then(|answer| answer.return_value.as_ref());
        let record = self.rows.first().and_then(|row| row.get("RowKey")?.as_str()?.strip_prefix("record~"));
        let events: Vec<_> = self.messages(EVENTS).iter().map(envelope).collect();
        let is_announced = |hash: &str| events.len() == 1 && events[0]["id"] == format!("{hash}-0");
        vec![
            (
                "order-123 is committed once, and nothing else is stored".to_owned(),
                self.rows.len() == 1 && record.is_some(),
            ),
            (
                "its duplicate got the first receipt".to_owned(),
                receipt(0).is_some_and(Value::is_string) && receipt(0) == receipt(1),
            ),
            (
                "it is announced once, under an id that follows from its own".to_owned(),
                record.is_some_and(is_announced) && events[0]["subject"] == "order-123",
            ),
        ]
    }

    fn promises_about_the_rest(&self) -> Vec<(String, bool)> {
        let quarantined = SAMPLES.iter().filter_map(|sample| Some((sample.quarantined?, sample.message)));
        let in_quarantine = quarantined.map(|(reason, message)| {
            let title = format!("in quarantine as {reason}, byte for byte: {message}");
            (title, self.is_quarantined(reason, message))
        });
        let mut promises: Vec<_> = in_quarantine.collect();
        let count = promises.len();
        promises.push(("nothing else is in quarantine".to_owned(), self.messages(QUARANTINE).len() == count));
        let nothing_left = self.messages(ORDERS).is_empty() && self.messages(POISON).is_empty();
        let all_succeeded = self.answers.len() == SAMPLES.len() && self.answers.iter().all(|answer| answer.succeeded);
        promises.push(("no message was left, lost or poisoned".to_owned(), nothing_left && all_succeeded));
        let attempts: Vec<_> = self.ticks.iter().map(|tick| tick.succeeded).collect();
        let retried =
            attempts.len() > 1 && attempts.iter().position(|succeeded| *succeeded) == Some(attempts.len() - 1);
        promises.push(("the timer failed while it had to, was tried again, and succeeded".to_owned(), retried));
        promises
    }

    fn is_quarantined(&self, reason: &str, message: &str) -> bool {
        let mut envelopes = self.messages(QUARANTINE).iter().map(envelope);
        envelopes.any(|envelope| envelope["reason"] == reason && envelope["message"] == message)
    }

    fn messages(&self, queue: &str) -> &[Received] {
        self.queues.get(queue).map(Vec::as_slice).unwrap_or_default()
    }
}

const QUARANTINED: [&str; 3] = ["reason", "detail", "message"];
const EVENT: [&str; 3] = ["type", "subject", "data"];

fn columns(received: &Received, names: &[&str]) -> Vec<String> {
    match envelope(received) {
        Value::Null => vec!["?".to_owned(), "not an envelope".to_owned(), received.text.clone()],
        envelope => names.iter().map(|name| plain(&envelope[*name])).collect(),
    }
}

fn envelope(received: &Received) -> Value {
    serde_json::from_str(&received.text).ok().filter(Value::is_object).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
