//! Random histories, one for each seed, on all processors.

use crate::simulator::{
    domain::Message,
    history::of_seed,
    plan::{OTHER_BUCKET, Plan, SAME_BUCKET},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The number of histories, unless `SIMULATION_HISTORIES` says another one.
const HISTORIES: u64 = 2_000;

type Counts = BTreeMap<&'static str, u64>;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the histories of some of the seeds, up to the first that breaks a promise.
fn simulate(next: &AtomicU64, end: u64) -> (Counts, Option<u64>) {
    let mut total = Counts::new();
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            return (total, None);
        }
        let history = of_seed(seed, false);
        if !history.violations.is_empty() {
            // No thread begins another history: this one is to be shown now.
            next.store(end, Relaxed);
            return (total, Some(seed));
        }
        add(&mut total, &history.counts);
    }
}

fn add(total: &mut Counts, counts: &Counts) {
    counts.iter().for_each(|(name, count)| *total.entry(name).or_default() += count);
}

/// Panics with the history of a seed if it breaks a promise.
fn show(seed: u64) {
    let history = of_seed(seed, true);
    let (plan, trace, violations) = (Plan::of_seed(seed), history.trace.join("\n"), history.violations.join("\n"));
    assert!(
        violations.is_empty(),
        "seed {seed}: {plan:?}\n\n{trace}\n\n{violations}\n\nSIMULATION_SEED={seed} replays it"
    );
    println!("{trace}");
}

#[test]
fn every_history_of_thousands_of_seeds_keeps_every_promise() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        return show(seed);
    }
    let (first, histories) = (setting("SIMULATION_FIRST").unwrap_or(0), setting("SIMULATION_HISTORIES"));
    let (next, end) = (AtomicU64::new(first), first + histories.unwrap_or(HISTORIES));
    let mut total = Counts::new();
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(|| simulate(&next, end))).collect();
        for (counts, broken) in threads.into_iter().map(|thread| thread.join().unwrap()) {
            add(&mut total, &counts);
            broken.into_iter().for_each(show);
        }
    });
    println!("seeds {first} to {}: {total:#?}", end - 1);
    // A simulation in which nothing goes wrong proves nothing.
    if end - first >= HISTORIES {
        for (name, count) in &total {
            assert!(*count > 0, "no {name}");
        }
    }
}

#[test]
fn the_orders_that_should_share_a_bucket_do() {
    let bucket = |order| Message { order, amount: 42, spelling: 0, events: 1 }.key().partition_key();
    assert_eq!(SAME_BUCKET.map(bucket), SAME_BUCKET.map(|_| bucket(SAME_BUCKET[0])));
    assert_ne!(bucket(OTHER_BUCKET), bucket(SAME_BUCKET[0]));
}
