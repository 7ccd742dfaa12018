//! The commands of an operator, behind the alias `cargo ops`: what became of an order, what is set aside, putting it
//! back, forgetting an id.
//!
//! Settings, sign-in, storage client and rows are those of the handler's library, so both see the same. The commands that
//! change something put before they delete, and may be killed at any point and started again.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, or nothing to do |
//! | 1 | failed: settings, sign-in or storage |
//! | 2 | wrong arguments |
//! | 3 | something is left or was found, the output says what; or not all was seen or told: interrupted, or the output closed |

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the commands of an operator")]

// Each imports only from those below it.
mod explain;
mod list;
mod requeue;
mod discard;
mod forget;
mod verify;
mod init;
mod doctor;
mod stored;
mod selection;
mod kept;
mod walk;
mod account;
mod cure;
mod output;
#[path = "../../../src/order.rs"]
mod order;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use account::{Account, Place};
use cure::cure;
use output::{LEFT, is_unread, tell};

/// Answers an operator's questions, and puts back what was set aside.
///
/// Settings are those of the handler, from the environment; without a connection there, it is the emulator. Exit codes: 0 done,
/// 1 failed, 2 wrong arguments, 3 something is left or was found, or not all was seen or told.
#[derive(Parser)]
#[command(disable_help_subcommand = true, version)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says what became of an order, or would become of a message
    Explain(explain::Arguments),
    /// Counts all messages that are set aside, or events that are left, by reason
    List(list::Arguments),
    /// Puts messages from quarantine back on the queue of orders
    Requeue(requeue::Arguments),
    /// Deletes messages from quarantine, after they were written to a file
    Discard(discard::Arguments),
    /// Forgets an id on purpose: the next message with it takes effect
    Forget(forget::Arguments),
    /// Holds all that is stored against the promises; changes nothing
    Verify(verify::Arguments),
    /// Creates the table and the queues that are not there
    Init,
    /// Examines settings, rights, clocks and encodings, each finding with its cure. Inserts the row `probe` as the handler does
    Doctor,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { place, command } = Arguments::parse();
    match Box::pin(run(&place, command)).await {
        Ok(code) => code,
        Err(error) if is_unread(&error) => LEFT.into(),
        Err(error) => {
            tell(&format!("error: {error:#}"));
            let storage_error = error.chain().find_map(|cause| cause.downcast_ref());
            storage_error.map(cure).iter().for_each(|cure| tell(&format!("cure: {cure}")));
            ExitCode::FAILURE
        }
    }
}

async fn run(place: &Place, command: Command) -> anyhow::Result<ExitCode> {
    match (command, Account::open(place)) {
        (Command::Doctor, account) => doctor::run(account, place.json).await,
        (_, Err(error)) => Err(error),
        (Command::Explain(arguments), Ok(account)) => explain::run(&account, arguments).await,
        (Command::List(arguments), Ok(account)) => list::run(&account, &arguments).await,
        (Command::Requeue(arguments), Ok(account)) => requeue::run(&account, &arguments).await,
        (Command::Discard(arguments), Ok(account)) => discard::run(&account, &arguments).await,
        (Command::Forget(arguments), Ok(account)) => forget::run(&account, &arguments).await,
        (Command::Verify(arguments), Ok(account)) => verify::run(&account, &arguments).await,
        (Command::Init, Ok(account)) => init::run(&account).await,
    }
}
