//! Every mutation breaks its promise in some history in which the code without it keeps all promises.
//!
//! `MUTANT='<name>' cargo test --package mutants -- --nocapture` shows that history.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "the name of the mutation to show is asked of the environment")]

extern crate mutants as handler;

#[path = "../../simulation/simulator/mod.rs"]
mod simulator;
#[path = "../../simulation/small_plans.rs"]
mod small_plans;

use mutants::{
    idempotency::Key,
    mutation,
    mutations::{self, Mutation},
};
use simulator::{
    explore::{explore, of_choices},
    history::{History, of_seed},
    plan::Plan,
};
use small_plans::small_plans;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Seeds that are tried before the explorations, which are slower but shorter to read.
const FIRST_SEEDS: u64 = 50;
const MAX_SEEDS: u64 = 40_000;
const MAX_RUNS: usize = 1_000;

/// A history by which a mutation is noticed.
#[derive(Debug)]
enum Killer {
    /// Keys that are fixed for ever.
    Keys,
    Seed(u64),
    /// Choices in the small plan of this name.
    Choices(&'static str, Vec<u8>),
}

impl Killer {
    fn history(&self, is_traced: bool) -> History {
        match self {
            Self::Keys => History { violations: changed_keys(), ..History::default() },
            Self::Seed(seed) => of_seed(*seed, is_traced),
            Self::Choices(name, choices) => {
                let plan = small_plans().into_iter().find(|(other, _)| other == name).unwrap().1;
                of_choices(&plan, choices, is_traced)
            }
        }
    }

    fn find(mutation: &Mutation) -> Option<Self> {
        let is_noticed = |violations: &[String]| violations.iter().any(|text| text.starts_with(mutation.breaks));
        let seed = |seed: &u64| is_noticed(&of_seed(*seed, false).violations);
        let choices = |(name, plan): (&'static str, Plan)| {
            Some(Self::Choices(name, explore(&plan, MAX_RUNS, &is_noticed).broken_by?))
        };
        is_noticed(&changed_keys())
            .then_some(Self::Keys)
            .or_else(|| mutation.seed.into_iter().chain(0..FIRST_SEEDS).find(seed).map(Self::Seed))
            .or_else(|| small_plans().into_iter().find_map(choices))
            .or_else(|| (FIRST_SEEDS..MAX_SEEDS).find(seed).map(Self::Seed))
    }
}

fn changed_keys() -> Vec<String> {
    let is_fixed = Key::new("orders", "42").partition_key() == "bucket~2c";
    let is_apart = Key::new("ab", "c") != Key::new("a", "bc");
    if is_fixed && is_apart { Vec::new() } else { vec!["keys have changed".to_owned()] }
}

/// Returns what is wrong with a mutation: nothing notices it, or the code without it is no better.
fn check(index: usize, mutation: &Mutation, is_traced: bool) -> Option<String> {
    mutation::select(Some(index));
    let Some(killer) = Killer::find(mutation) else { return Some(format!("not noticed: {}", mutation.name)) };
    println!("{}: {killer:?}", mutation.name);
    if is_traced {
        let History { trace, violations, .. } = killer.history(true);
        println!("{}\n\n{}", trace.join("\n"), violations.join("\n"));
    }
    mutation::select(None);
    let original = killer.history(false).violations;
    (!original.is_empty()).then(|| format!("noticed without {}: {original:?}", mutation.name))
}

#[test]
fn every_mutation_breaks_its_promise_in_a_history_in_which_the_original_keeps_all() {
    let named = std::env::var("MUTANT").ok();
    let all = mutations::all();
    let is_selected = |mutation: &Mutation| named.as_ref().is_none_or(|name| name == mutation.name);
    let mutations: Vec<_> = all.iter().enumerate().filter(|(_, mutation)| is_selected(mutation)).collect();
    assert!(!mutations.is_empty(), "no such mutation");
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((index, mutation)) = mutations.get(next.fetch_add(1, Relaxed)) {
            problems.lock().unwrap().extend(check(*index, mutation, named.is_some()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    assert_eq!(problems.into_inner().unwrap(), Vec::<String>::new());
}
