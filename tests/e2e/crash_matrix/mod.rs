//! Every failure at every step of a delivery: one scenario for each, over the real handler and real storage.
//!
//! The observed outcomes are the table in `docs/crash-matrix.md`. `UPDATE_CRASH_MATRIX=1 cargo test --test e2e
//! crash_matrix` writes it anew. `CRASH_MATRIX_ONLY=killed` runs only the scenarios whose name contains that text.

mod document;
mod scenarios;
mod faults;
mod run;
mod scenario;
mod setup;
mod step;

use crate::{clock, host::local_only};
use futures::{FutureExt, StreamExt, stream};
use scenario::{Scenario, Seen};
use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

/// They wait more than they work: for time-outs, and for messages that come back.
const AT_ONCE: usize = 12;

#[tokio::test]
async fn crash_matrix() {
    local_only!("it kills host and handler at chosen requests");
    let scenarios = scenarios::all();
    let only = std::env::var("CRASH_MATRIX_ONLY").unwrap_or_default();
    // The compiler runs for seconds, and everything else here is on this thread.
    tokio::task::spawn_blocking(clock::library).await.unwrap();
    let selected: Vec<_> = scenarios.iter().filter(|scenario| scenario.name().contains(&only)).collect();
    let played =
        stream::iter(selected.iter().map(|scenario| play(scenario))).buffered(AT_ONCE).collect::<Vec<_>>().await;

    let mut faults = Vec::new();
    for (scenario, (result, duration)) in selected.iter().zip(&played) {
        println!("{duration:5.1?} {}: {result:?}", scenario.name());
        match result {
            Ok(seen) if *seen == scenario.seen => {}
            Ok(seen) => {
                faults.push(format!("{}:\n  seen     {seen:?}\n  expected {:?}", scenario.name(), scenario.seen));
            }
            Err(fault) => faults.push(format!("{}:\n  {fault}", scenario.name())),
        }
    }
    assert!(faults.is_empty(), "{} of {} scenarios:\n{}", faults.len(), selected.len(), faults.join("\n"));
    if only.is_empty() {
        let seen = played.into_iter().filter_map(|(result, _)| result.ok());
        document::check(&scenarios.iter().zip(seen).collect::<Vec<_>>());
    }
}

async fn play(scenario: &Scenario) -> (Result<Seen, String>, Duration) {
    let start = Instant::now();
    let result = AssertUnwindSafe(scenario.run()).catch_unwind().await;
    (result.unwrap_or_else(|_| Err("panicked: see above".to_owned())), start.elapsed())
}
