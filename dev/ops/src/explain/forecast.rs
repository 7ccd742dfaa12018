//! What would become of a message, by the rules of the handler and what is stored now. Nothing is done.

use anyhow::Result;
use handler::{
    functions::queue_with_idempotency::read_and_decide,
    idempotency::{
        Operation,
        record::StoredRecord,
        verdict::{self, Verdict},
    },
};
use serde::Serialize;

use crate::{account::Account, kept::id_and_printable, order::DOMAIN, stored::Stored};

/// What would become of a message.
#[derive(Debug, Serialize)]
pub(super) struct Forecast {
    pub(super) verdict: &'static str,
    pub(super) says: String,
    pub(super) id: Option<String>,
    pub(super) printable: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<String>,
}

/// Says what would become of a message, by the rules of the handler.
pub(super) async fn forecast(account: &Account, text: &str, shows: bool) -> Result<Forecast> {
    let attempt = account.attempt();
    let (id, printable) = id_and_printable(text);
    let decided = match read_and_decide(&DOMAIN, account.app.events.encoding, text, &attempt) {
        Ok(decided) => decided,
        Err(rejection) => {
            let says = format!("it would go into quarantine as {}", rejection.reason.as_str());
            let detail = shows.then_some(rejection.detail);
            return Ok(Forecast { verdict: "rejected", says, id, printable, detail, fingerprint: None });
        }
    };
    let operation = decided.operation;
    let stored = Stored::of(account, &decided.id).await?.unwrap_or_default();
    let (verdict, says) = judge(&stored, &operation);
    let fingerprint = Some(operation.fingerprint.as_str().to_owned());
    Ok(Forecast { verdict, says, id, printable, detail: None, fingerprint })
}

fn judge(stored: &Stored, operation: &Operation) -> (&'static str, String) {
    let committed_at = stored.text("committed_at").unwrap_or("an unknown time").to_owned();
    let record: Option<StoredRecord> = match stored.record().transpose() {
        Err(version) => {
            let says = format!("it would be put back for ever: the record has the unreadable schema version {version}");
            return ("put_back", says);
        }
        Ok(record) => record,
    };
    match verdict::verdict(record, &operation.commit_id, &operation.fingerprint) {
        Verdict::NotApplied => ("new", "it would take effect".to_owned()),
        Verdict::Committed | Verdict::Duplicate(_) => {
            ("duplicate", format!("the order took effect at {committed_at}, with the same content"))
        }
        Verdict::Conflict => (
            "conflict",
            format!(
                "it would go into quarantine: an order with this id and other content took effect at {committed_at}"
            ),
        ),
    }
}
