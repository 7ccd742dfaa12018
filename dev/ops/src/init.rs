//! `cargo ops init`: creates what is missing in the account.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::{
    account::{Account, patiently},
    output::{print_json, print_lines, tell},
    stored::Stored,
};

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    kind: &'static str,
    is_new: bool,
}

pub(crate) async fn run(account: &Account) -> Result<ExitCode> {
    let app = &account.app;
    let is_new = Stored::of(account, "").await?.is_none();
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
    Ok(ExitCode::SUCCESS)
}
