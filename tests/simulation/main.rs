//! The protocol over a simulated storage service: thousands of seeded histories, everything that can happen in small
//! configurations, outages, the purge of ten million orders a day, and a comparison of the simulated service with a real one.
//!
//! `docs/verification.md` says what is assumed and what was found. A seed that fails is printed with its history, and
//! `SIMULATION_SEED=<seed> cargo test --test simulation seeds` replays it; `SIMULATION_HISTORIES=<count>` runs more or fewer,
//! from `SIMULATION_FIRST=<seed>` on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "how long to simulate is asked of the environment")]

mod conformance;
mod explorations;
mod killer;
mod outage;
mod publisher;
mod reach;
mod seeds;
mod simulator;
mod small_plans;
