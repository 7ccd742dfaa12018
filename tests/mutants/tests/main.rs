//! Every mistake in the list breaks a promise in the history that is named beside it; the code without mistakes keeps
//! all of them in the same histories, over the same build.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

extern crate mutants as handler;

#[path = "../../simulation/simulator/mod.rs"]
mod simulator;
#[path = "../../simulation/small_plans.rs"]
mod small_plans;

use mutants::{
    idempotency::Key,
    mutation,
    mutations::{Killer, MUTATIONS},
};
use simulator::{
    explore::{explore, of_choices},
    history::of_seed,
    plan::Plan,
};
use small_plans::SMALL_PLANS;

/// How far `find` searches.
const MAX_RUNS: usize = 1_000;
const MAX_SEEDS: u64 = 20_000;

/// The promises that are broken in the history that a killer names.
fn broken(killer: Killer) -> Vec<String> {
    match killer {
        Killer::Seed(seed) => of_seed(Plan::of(seed), false).broken,
        Killer::Choices(name, choices) => of_choices(&small_plan(name), choices, false).broken,
        Killer::Keys => broken_keys(),
        Killer::Unknown => Vec::new(),
    }
}

fn small_plan(name: &str) -> Plan {
    SMALL_PLANS.iter().find(|(other, _)| *other == name).map(|(_, plan)| plan()).unwrap()
}

fn broken_keys() -> Vec<String> {
    let is_fixed = Key::new("orders", "42").partition_key() == "bucket~2c";
    let is_apart = Key::new("ab", "c") != Key::new("a", "bc");
    if is_fixed && is_apart { Vec::new() } else { vec!["keys have changed".to_owned()] }
}

#[test]
fn every_mutant_breaks_a_promise_in_a_history_in_which_the_original_keeps_all() {
    for (index, mutant) in MUTATIONS.iter().enumerate() {
        mutation::select(None);
        let original = broken(mutant.killed_by);
        assert!(original.is_empty(), "without any mutation, {:?}: {original:?}", mutant.killed_by);
        mutation::select(Some(index));
        let found = broken(mutant.killed_by);
        assert!(!found.is_empty(), "`{}` survives {:?}: search again", mutant.name, mutant.killed_by);
        println!("{}: {:?}: {}", mutant.name, mutant.killed_by, found[0]);
    }
}

#[test]
fn the_guarantees_name_every_mutant() {
    let page = include_str!("../../../docs/guarantees.md");
    for mutant in MUTATIONS {
        assert!(page.contains(&format!("| {} | `{}` |", mutant.name, mutant.file)), "{}", mutant.name);
    }
}

#[test]
#[ignore = "searches for what is then recorded in the list"]
fn find() {
    for (index, mutant) in MUTATIONS.iter().enumerate() {
        mutation::select(Some(index));
        if !broken(mutant.killed_by).is_empty() {
            continue;
        }
        let found = search();
        println!("{}: {found:?}", mutant.name);
    }
}

/// The shortest list of choices that breaks a promise, else the first seed.
fn search() -> Option<String> {
    if !broken_keys().is_empty() {
        return Some("Keys".to_owned());
    }
    let choices = |(name, plan): &(&str, fn() -> Plan)| {
        let broken = explore(&plan(), MAX_RUNS).broken?;
        Some(format!("Choices({name:?}, &{broken:?})"))
    };
    let seed = |seed: &u64| !of_seed(Plan::of(*seed), false).broken.is_empty();
    let found = SMALL_PLANS.iter().find_map(choices);
    found.or_else(|| (0..MAX_SEEDS).find(seed).map(|seed| format!("Seed({seed})")))
}
