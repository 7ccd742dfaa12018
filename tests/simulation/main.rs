//! Thousands of seeded histories of the production code over a simulated storage service.
//!
//! One thread, a paused clock, one generator: a seed decides how the messages look, how deliveries interleave at every
//! request, which requests and replies are lost, delayed, applied late or throttled, and where workers are killed. After
//! each history everything that was promised is checked against what is stored, queued and answered. A seed that fails is
//! printed with its history, and `SIMULATION_SEED=<seed> cargo test --test simulation` replays it;
//! `SIMULATION_HISTORIES=<count>` runs longer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "how long to simulate is asked of the environment")]

mod history;
mod service;

use history::{History, Kind};

/// Enough for every `cargo test`; the first few hundred already reach every branch of the protocol.
const HISTORIES: u64 = 1_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn simulate(kind: Kind) {
    let seeds = match setting("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SIMULATION_HISTORIES").unwrap_or(HISTORIES),
    };
    let (mut duplicates, mut retries, mut crashes) = (0, 0, 0);
    for seed in seeds.clone() {
        let history = History::run(seed, kind);
        let faults = history.check();
        assert!(faults.is_empty(), "seed {seed} ({kind:?}):\n{}\n\n{}", faults.join("\n"), history.trace());
        duplicates += history.duplicates;
        retries += history.retries;
        crashes += history.crashes;
    }
    println!("{} histories, {duplicates} duplicates, {retries} failed deliveries, {crashes} crashes", seeds.count());
}

#[test]
fn every_history_with_faults_keeps_every_promise() {
    simulate(Kind::Faulty);
}

#[test]
fn every_history_without_faults_keeps_every_promise_and_its_budget_of_requests() {
    simulate(Kind::Calm);
}
