//! `cargo ops init`: creates what is missing in the account.

use anyhow::Result;
use handler::idempotency::Key;
use serde::Serialize;
use serde_json::Value;

use crate::{
    account::{Account, patiently},
    order::DOMAIN,
    output::{Outcome, print_json, print_lines, tell},
};

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    kind: &'static str,
    is_new: bool,
}

pub(crate) async fn run(account: &Account) -> Result<Outcome> {
    let app = &account.app;
    let is_new = is_table_missing(account).await?;
    patiently(async || account.table.create().await).await?;
    let mut made = vec![Made { name: &account.config.app.table, kind: "table", is_new }];
    for queue in [&app.orders, &app.poison, &app.quarantine.queue, &app.events.queue] {
        let is_new = patiently(async || queue.create().await).await?;
        made.push(Made { name: queue.name(), kind: "queue", is_new });
    }
    if account.json {
        made.iter().try_for_each(print_json)?;
    } else {
        let state = |made: &Made<'_>| format!("{} {}", made.kind, if made.is_new { "created" } else { "was there" });
        print_lines(&made.iter().map(|made| (made.name, state(made))).collect::<Vec<_>>())?;
    }
    if is_new {
        tell(
            "The table is empty: every id is new to it, and a copy of an order that took effect earlier does so again.",
        );
    }
    Ok(Outcome::Done)
}

/// Asks for a row of any key.
async fn is_table_missing(account: &Account) -> Result<bool> {
    let key = Key::new(DOMAIN.scope, "");
    let row = patiently(async || account.table.get::<Value>(&key.partition_key(), &key.record_row_key()).await).await;
    match row {
        Err(error) if error.is_table_missing() => Ok(true),
        result => Ok(result.map(|_| false)?),
    }
}
