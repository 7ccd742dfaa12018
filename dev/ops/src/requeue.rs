//! `cargo ops requeue`: puts messages from quarantine back on the queue of orders, as they came, and then deletes them
//! here. Killed in between it leaves a message on both, of which the handler recognises the second.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    account::{Account, patiently},
    selection::{Way, take},
};

/// The arguments of `cargo ops requeue`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    way: Way,
    /// Put back what is older than the retention too: its order may have taken effect, and would do so again
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<ExitCode> {
    let app = &account.app;
    let oldest = account.began - account.config.app.retention;
    take(
        account,
        (&arguments.way, &[]),
        |kept| !arguments.force && kept.earliest().is_none_or(|earliest| earliest < oldest),
        async |kept| {
            let text = app.orders_encoding.encode(kept.envelope.message.clone());
            Ok(patiently(async || app.orders.put(&text).await).await?)
        },
    )
    .await
}
