//! Every mistake in the list breaks its promise in the history that is named beside it; the code without mistakes keeps
//! all promises in the same histories, over the same build.
//!
//! `MUTANT='<name>' cargo test --package mutants every_mutant -- --nocapture` shows the history of one.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "which mutant to show is asked of the environment")]

extern crate mutants as handler;

#[path = "../../simulation/simulator/mod.rs"]
mod simulator;
#[path = "../../simulation/small_plans.rs"]
mod small_plans;

use mutants::{
    idempotency::Key,
    mutation,
    mutations::{self, Killer, Mutation},
};
use simulator::{
    explore::{explore, of_choices},
    history::{History, of_seed},
    plan::Plan,
};
use small_plans::small_plans;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How far `find` searches.
const MAX_RUNS: usize = 2_000;
const MAX_SEEDS: u64 = 40_000;

/// The history that a killer names.
fn history(killer: Killer, is_traced: bool) -> History {
    match killer {
        Killer::Seed(seed) => of_seed(seed, is_traced),
        Killer::Choices(name, choices) => of_choices(&small_plan(name), choices, is_traced),
        Killer::Keys => History { violations: broken_keys(), ..History::default() },
        Killer::Unknown => History::default(),
    }
}

fn small_plan(name: &str) -> Plan {
    small_plans().into_iter().find(|(other, _)| *other == name).map(|(_, plan)| plan).unwrap()
}

fn broken_keys() -> Vec<String> {
    let is_fixed = Key::new("orders", "42").partition_key() == "bucket~2c";
    let is_apart = Key::new("ab", "c") != Key::new("a", "bc");
    if is_fixed && is_apart { Vec::new() } else { vec!["keys have changed".to_owned()] }
}

/// Whether a mutation broke the promise that it has to break.
fn is_noticed(mutant: &Mutation, broken: &[String]) -> bool {
    broken.iter().any(|text| text.starts_with(mutant.breaks))
}

#[test]
fn every_mutant_breaks_its_promise_in_a_history_in_which_the_original_keeps_all() {
    let named = std::env::var("MUTANT").ok();
    assert!(mutations::all().any(|mutant| named.as_ref().is_none_or(|name| name == mutant.name)), "no such mutant");
    for (index, mutant) in mutations::all().enumerate() {
        if named.as_ref().is_some_and(|name| name != mutant.name) {
            continue;
        }
        mutation::select(None);
        let original = history(mutant.killed_by, false).violations;
        assert!(original.is_empty(), "without any mutation, {:?}: {original:?}", mutant.killed_by);
        mutation::select(Some(index));
        let History { violations: broken, trace, .. } = history(mutant.killed_by, named.is_some());
        trace.iter().for_each(|line| println!("{line}"));
        println!("{}: {:?}: {broken:?}", mutant.name, mutant.killed_by);
        assert!(is_noticed(mutant, &broken), "`{}` does not break “{}”: search again", mutant.name, mutant.breaks);
    }
}

#[test]
fn the_guarantees_name_every_mutant() {
    let page = include_str!("../../../docs/guarantees.md");
    for Mutation { name, file, breaks, .. } in mutations::all() {
        assert!(page.contains(&format!("| {name} | `{file}` | {breaks} |")), "{name}");
    }
}

#[test]
#[ignore = "searches for what is then recorded in the list"]
fn find() {
    let (all, next) = (mutations::all().collect::<Vec<_>>(), AtomicUsize::new(0));
    let work = || {
        while let Some(mutant) = all.get(next.fetch_add(1, Relaxed)) {
            mutation::select(all.iter().position(|other| std::ptr::eq(*other, *mutant)));
            if !is_noticed(mutant, &history(mutant.killed_by, false).violations) {
                println!("{}: {:?}", mutant.name, search(mutant));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// The shortest list of choices that breaks the promise, else the first seed.
fn search(mutant: &Mutation) -> Option<String> {
    let is_noticed = |broken: &[String]| is_noticed(mutant, broken);
    if is_noticed(&broken_keys()) {
        return Some("Keys".to_owned());
    }
    let choices = |(name, plan): (&str, Plan)| {
        let broken = explore(&plan, MAX_RUNS, &is_noticed).broken_by?;
        Some(format!("Choices({name:?}, &{broken:?})"))
    };
    let seed = |seed: &u64| is_noticed(&of_seed(*seed, false).violations);
    let found = small_plans().into_iter().find_map(choices);
    found.or_else(|| (0..MAX_SEEDS).find(seed).map(|seed| format!("Seed({seed})")))
}
