//! `cargo send`: puts one message on a queue.

use anyhow::{Context, Result};

use test_storage::Account;

/// The arguments of `cargo send`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The message: JSON or any other text
    message: String,
    /// Put it on the queue as base64
    #[arg(long)]
    base64: bool,
    /// The queue; created when it is missing
    #[arg(long, default_value = "orders")]
    queue: String,
    /// Connection string of the storage account
    #[arg(long, default_value = "UseDevelopmentStorage=true")]
    connection: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { message, base64, queue, connection } = arguments;
    let account = Account::from_connection_string(&connection)?;
    let sent = if base64 { account.put_base64(&queue, &message).await } else { account.put(&queue, &message).await };
    match sent {
        Err(error) if error.status().is_none() => Err(error).context("no storage there; start it with `cargo start`"),
        Err(error) => Err(error.into()),
        Ok(()) => {
            println!("Put on queue '{queue}' of account '{}': {message}", account.name());
            Ok(())
        }
    }
}
