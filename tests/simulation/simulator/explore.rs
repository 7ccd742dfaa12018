//! Breadth-first exploration of everything that can happen in a small configuration.
//!
//! It runs the production code, not a model of it: a state is the list of choices that leads to it, and is reached by making them
//! again. From every state that is new, the history is also gone on with to its end without further faults, and checked:
//! so every promise holds in every state, and from every state everything is done in the end.

use super::{choice::Chooser, history::run, outcome::History, plan::Plan};
use std::collections::{HashSet, VecDeque};

/// What an exploration found.
#[derive(Debug)]
pub(crate) struct Explored {
    /// Different states.
    pub(crate) states: usize,
    /// Histories that were run to find them.
    pub(crate) runs: usize,
    /// The most choices that lead to a state.
    pub(crate) depth: usize,
    /// The first, and so a shortest, list of choices after which a promise is broken.
    pub(crate) broken: Option<Vec<u8>>,
    /// Whether there was no state left.
    pub(crate) is_complete: bool,
}

/// The history in which these choices are made first.
pub(crate) fn of_choices(plan: &Plan, choices: &[u8], is_traced: bool) -> History {
    run(plan.clone(), Chooser::listed(choices), is_traced, &mut |_| true)
}

/// Explores from the start of `plan` until a promise that matters is broken, everything is known, or `max_runs` histories were run.
pub(crate) fn explore(plan: &Plan, max_runs: usize, matters: &dyn Fn(&[String]) -> bool) -> Explored {
    let mut known = HashSet::new();
    let mut next = VecDeque::from([Vec::new()]);
    let mut explored = Explored { states: 0, runs: 0, depth: 0, broken: None, is_complete: false };
    while let Some(choices) = next.pop_front() {
        if explored.runs == max_runs {
            return explored;
        }
        explored.runs += 1;
        explored.depth = explored.depth.max(choices.len());
        let mut is_new = true;
        let chooser = Chooser::listed(&choices);
        let history = run(plan.clone(), chooser, false, &mut |state| {
            is_new = known.insert(state);
            is_new
        });
        if matters(&history.broken) {
            return Explored { states: known.len(), broken: Some(choices), ..explored };
        }
        if is_new {
            explored.states += 1;
            let options = u8::try_from(history.options.unwrap_or_default()).unwrap();
            next.extend((0..options).map(|option| [&choices[..], &[option]].concat()));
        }
    }
    Explored { is_complete: true, ..explored }
}
