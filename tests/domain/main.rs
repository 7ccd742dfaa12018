//! The handler of the end-to-end tests and of `cargo load`: the library with the domain of the tests.

mod order;

use handler::{
    decision::{Decision, Domain},
    message::Message,
    quarantine::Rejection,
};
use serde::Deserialize;

/// The domain, in which some messages do what no domain should do.
const DOMAIN: Domain = Domain { decide, ..order::DOMAIN };

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Misdeed {
    Aborts,
    Hangs,
}

#[derive(Deserialize)]
struct Killer {
    handler: Misdeed,
}

fn decide(message: &Message<'_>) -> Result<Decision, Rejection> {
    match message.read() {
        Ok(Killer { handler: Misdeed::Aborts }) => std::process::abort(),
        Ok(Killer { handler: Misdeed::Hangs }) => loop {
            std::thread::park();
        },
        Err(_) => (order::DOMAIN.decide)(message),
    }
}

fn main() -> std::process::ExitCode {
    handler::start::run(DOMAIN)
}
