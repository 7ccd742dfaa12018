//! The promises about an account when everything is delivered, whatever went wrong meanwhile: one record and one
//! effect for each order, every event published under one id, every other message kept, and nothing else anywhere.

use crate::app::{is_index_row, rows, text};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use test_storage::{Account, from_base64};

/// The messages that were sent, by the outcome they must have.
pub(crate) struct Promised {
    /// The receipts of all orders that have to take effect.
    pub(crate) receipts: BTreeSet<String>,
    /// The messages that have to be kept, each at least once.
    pub(crate) quarantined: BTreeSet<String>,
}

impl Promised {
    /// Checks everything, and answers with the number of copies of each event, by the id of its order. Takes the
    /// messages off the queues of events and of quarantine; `taken` are the events that somebody took before.
    pub(crate) async fn check(
        &self,
        account: &Account,
        mut taken: Vec<String>,
    ) -> Result<BTreeMap<String, usize>, String> {
        taken.extend(take_all(account, "order-events").await);
        let commits = self.records(account).await?;
        let copies = events(taken, &commits)?;
        let kept: BTreeSet<_> =
            take_all(account, "orders-quarantine").await.iter().map(|text| member(text, "message")).collect();
        equal("messages in quarantine", &kept, &self.quarantined)?;
        for queue in ["orders", "orders-poison"] {
            equal(queue, &account.queue_length(queue).await.unwrap(), &0)?;
        }
        Ok(copies)
    }

    /// Reads the receipts by the hashes of their keys and their commit ids, and checks that there is no other row.
    async fn records(&self, account: &Account) -> Result<BTreeMap<String, String>, String> {
        let (index_rows, rows): (Vec<_>, Vec<_>) = rows(account).await.into_iter().partition(is_index_row);
        equal("number of index rows", &index_rows.len(), &rows.len())?;
        let mut commits = BTreeMap::new();
        for row in &rows {
            let row_key = text(row, "RowKey");
            let hash = row_key.strip_prefix("record~").ok_or_else(|| format!("left in the table: {row:?}"))?;
            commits.insert(format!("{hash}-{}", text(row, "commit_id")), text(row, "receipt"));
        }
        equal("number of records", &rows.len(), &self.receipts.len())?;
        equal("receipts", &commits.values().cloned().collect(), &self.receipts)?;
        Ok(commits)
    }
}

/// Checks that each order is announced, always in the same words and under the id that follows from its record.
fn events(taken: Vec<String>, commits: &BTreeMap<String, String>) -> Result<BTreeMap<String, usize>, String> {
    let (mut bodies, mut copies) = (BTreeMap::new(), BTreeMap::new());
    for text in taken {
        let body = from_base64(&text).ok_or_else(|| format!("not base64: {text}"))?;
        let id = member(&body, "id");
        let (commit, _) = id.rsplit_once('-').unwrap_or_default();
        let receipt = commits.get(commit).ok_or_else(|| format!("an event without a record: {body}"))?;
        if !body.ends_with(&format!("\"data\":{receipt}}}")) {
            return Err(format!("an event that does not say {receipt}: {body}"));
        }
        *copies.entry(member(receipt, "id")).or_default() += 1;
        equal("copy of an event", &body, bodies.entry(id).or_insert_with(|| body.clone()))?;
    }
    equal("number of different events", &bodies.len(), &commits.len())?;
    Ok(copies)
}

/// Takes every message off a queue.
pub(crate) async fn take_all(account: &Account, queue: &str) -> Vec<String> {
    let mut all = Vec::new();
    while account.queue_length(queue).await.unwrap() > all.len() as u64 {
        let messages = account.receive(queue, 32, Duration::from_secs(3_600)).await.unwrap();
        assert!(!messages.is_empty(), "queue {queue} has hidden messages");
        all.extend(messages.into_iter().map(|message| message.text));
    }
    all
}

fn member(json: &str, name: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap();
    value[name].as_str().unwrap().to_owned()
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?} instead of {expected:?}")) }
}
