//! The outcome of `cargo demo`: shown as it is stored, and checked against the promises.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde_json::Value;

use local_host::Invocation;
use test_storage::{Received, Row, from_base64};
use workspace::{Sample, heading, print_table};

use crate::queues::{EVENTS, ORDERS, POISON, QUARANTINE, QUEUES, TABLE};

/// Everything there is to see at the end.
pub(super) struct Outcome {
    pub(super) samples: Vec<Sample>,
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
        let committed = self.samples.iter().filter(|sample| sample.outcome == "committed").count();
        let events: usize = self.rows.iter().filter_map(|row| row.get("events")?.as_u64()).sum::<u64>() as usize;
        let ids: BTreeSet<_> =
            self.messages(EVENTS).iter().map(|message| envelope(message)["id"].to_string()).collect();
        vec![
            (
                "the new order is committed once, and nothing else is stored".to_owned(),
                self.count("record~") == committed
                    && self.count("expiry~") == committed
                    && self.rows.len() == 2 * committed,
            ),
            ("its duplicate got the first receipt".to_owned(), self.duplicates_got_the_first_receipt()),
            (
                format!("each of its events is published once ({events})"),
                ids.len() == events && self.messages(EVENTS).len() == events,
            ),
        ]
    }

    /// Says whether every accepted sample after the first got the receipt of the one before it, unless it is an order of
    /// its own.
    fn duplicates_got_the_first_receipt(&self) -> bool {
        let answers = self.samples.iter().zip(&self.answers).filter(|(sample, _)| sample.is_accepted());
        let receipts: Vec<_> = answers.map(|(sample, answer)| (&sample.outcome, &answer.return_value)).collect();
        let are_receipts = receipts.iter().all(|(_, receipt)| receipt.as_ref().is_some_and(Value::is_string));
        are_receipts && receipts.windows(2).all(|pair| pair[1].0 == "committed" || pair[0].1 == pair[1].1)
    }

    fn promises_about_the_rest(&self) -> Vec<(String, bool)> {
        let rejected = self.samples.iter().filter(|sample| !sample.is_accepted());
        let mut promises: Vec<_> = rejected
            .map(|Sample { outcome, message }| {
                let title = format!("in quarantine as {outcome}, byte for byte: {message}");
                (title, self.is_quarantined(outcome, message))
            })
            .collect();
        let count = promises.len();
        promises.push(("nothing else is in quarantine".to_owned(), self.messages(QUARANTINE).len() == count));
        let nothing_left = self.messages(ORDERS).is_empty() && self.messages(POISON).is_empty();
        let all_succeeded =
            self.answers.len() == self.samples.len() && self.answers.iter().all(|answer| answer.succeeded);
        promises.push(("no message was left, lost or poisoned".to_owned(), nothing_left && all_succeeded));
        let attempts: Vec<_> = self.ticks.iter().map(|tick| tick.succeeded).collect();
        let retried =
            attempts.len() > 1 && attempts.iter().position(|succeeded| *succeeded) == Some(attempts.len() - 1);
        promises.push(("the timer failed while it had to, was retried, and succeeded".to_owned(), retried));
        promises
    }

    fn is_quarantined(&self, reason: &str, message: &str) -> bool {
        let mut envelopes = self.messages(QUARANTINE).iter().map(envelope);
        envelopes.any(|envelope| envelope["reason"] == reason && envelope["message"] == message)
    }

    fn count(&self, prefix: &str) -> usize {
        let row_keys = self.rows.iter().filter_map(|row| row.get("RowKey")?.as_str());
        row_keys.filter(|row_key| row_key.starts_with(prefix)).count()
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
    // Events are in base64, what is in quarantine is not.
    let text = from_base64(&received.text);
    serde_json::from_str(text.as_ref().unwrap_or(&received.text)).ok().filter(Value::is_object).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
