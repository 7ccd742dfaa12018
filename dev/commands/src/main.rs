//! The commands of a developer, each behind an alias of Cargo: `cargo demo`, `cargo start`, `cargo send`.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]

mod demo;
mod start;
mod core_tools;
mod storage;
mod page;
mod send;
mod queues;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the handler on this machine, with nothing but Node.js beside Rust.
#[derive(Parser)]
#[command(bin_name = "cargo", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole story: storage, handler, host, orders, and what was stored and queued. Ends by itself.
    Demo(demo::Arguments),
    /// Keeps all of it running on the standard ports, until Ctrl-C.
    Start(start::Arguments),
    /// Puts one message on a queue: cargo send '{"id":"order-123","amount":42}'
    Send(send::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Start(arguments) => start::run(arguments).await,
        Command::Send(arguments) => send::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
