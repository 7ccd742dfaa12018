//! Seeded histories, as many as are asked for, on all processors.

use crate::simulator::{
    history::of_seed,
    outcome::History,
    plan::{ELSEWHERE, Message, NEIGHBOURS, Plan},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const HISTORIES: u64 = 20_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the histories of some of the seeds, and stops at the first that breaks a promise.
fn simulate(next: &AtomicU64, end: u64) -> (History, Option<u64>) {
    let mut total = History::default();
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            return (total, None);
        }
        if seed > 0 && seed.is_multiple_of(10_000) {
            println!("{seed} histories begun");
        }
        let history = of_seed(Plan::of_seed(seed), false);
        if !history.broken.is_empty() {
            // Nobody begins another one: this one is to be shown now.
            next.store(end, Relaxed);
            return (total, Some(seed));
        }
        total.add(&history);
    }
}

/// Panics with the history of a seed.
fn show(seed: u64) {
    let plan = Plan::of_seed(seed);
    let history = of_seed(plan.clone(), true);
    let (trace, broken) = (history.trace.join("\n"), history.broken.join("\n"));
    assert!(broken.is_empty(), "seed {seed}: {plan:?}\n\n{trace}\n\n{broken}\n\nSIMULATION_SEED={seed} replays it");
    println!("{trace}");
}

#[test]
fn every_history_of_thousands_of_seeds_keeps_every_promise() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        return show(seed);
    }
    let (next, end) = (AtomicU64::new(0), setting("SIMULATION_HISTORIES").unwrap_or(HISTORIES));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut total = History::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| simulate(&next, end))).collect();
        for (histories, broken) in threads.into_iter().map(|thread| thread.join().unwrap()) {
            total.add(&histories);
            broken.into_iter().for_each(show);
        }
    });
    println!("{end} histories: {:#?}", total.counts);
    if end >= 2_000 {
        check_coverage(&total);
    }
}

/// A simulation in which nothing goes wrong proves nothing.
#[track_caller]
fn check_coverage(total: &History) {
    for (what, count) in &total.counts {
        assert!(*count > 0, "no {what}");
    }
}

#[test]
fn the_orders_that_should_share_a_bucket_do() {
    let bucket = |order| Message { order, amount: 42, spelling: 0, events: 1 }.key().partition_key();
    assert_eq!(NEIGHBOURS.map(bucket), NEIGHBOURS.map(|_| bucket(NEIGHBOURS[0])));
    assert_ne!(bucket(ELSEWHERE), bucket(NEIGHBOURS[0]));
}
