//! Breadth-first exploration of everything that can happen in a small plan.
//!
//! It runs the production code, not a model of it: a state is the list of choices that leads to it, and is reached by
//! making them again. From every new state the history also runs to its end without further faults, and is checked: so
//! every promise holds in every state, and every state leads to one in which everything is done.

use super::{
    history::{History, run},
    journal,
    network::Pending,
    plan::Plan,
    promises,
    queue::QueueMessage,
    schedule::Schedule,
    world::World,
};
use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};
use test_storage::emulated::Change;

/// The result of an exploration.
#[derive(Debug)]
pub(crate) struct Explored {
    /// The number of different states.
    pub(crate) states: usize,
    /// The number of histories that were run to find them.
    pub(crate) runs: usize,
    /// The most choices that lead to a state.
    pub(crate) depth: usize,
    /// The first, and so a shortest, list of choices after which a promise is broken.
    pub(crate) broken_by: Option<Vec<u8>>,
    /// Whether there was no state left.
    pub(crate) is_complete: bool,
}

/// Runs the history in which these choices are made first.
pub(crate) fn of_choices(plan: &Plan, choices: &[u8], is_traced: bool) -> History {
    run(plan.clone(), Schedule::listed(choices), is_traced, &mut |_| true)
}

/// Explores `plan` until a promise that matters is broken, everything is known, or `max_runs` histories were run.
pub(crate) fn explore(plan: &Plan, max_runs: usize, matters: &dyn Fn(&[String]) -> bool) -> Explored {
    let mut known = HashSet::new();
    let mut next = VecDeque::from([Vec::new()]);
    let mut explored = Explored { states: 0, runs: 0, depth: 0, broken_by: None, is_complete: false };
    while let Some(choices) = next.pop_front() {
        if explored.runs == max_runs {
            return explored;
        }
        explored.runs += 1;
        explored.depth = explored.depth.max(choices.len());
        let mut is_new = true;
        let history = run(plan.clone(), Schedule::listed(&choices), false, &mut |world| {
            is_new = known.insert(fingerprint(world));
            is_new
        });
        if matters(&history.violations) {
            return Explored { broken_by: Some(choices), ..explored };
        }
        if is_new {
            explored.states += 1;
            let options = u8::try_from(history.options.unwrap_or_default()).unwrap();
            next.extend((0..options).map(|option| [&choices[..], &[option]].concat()));
        }
    }
    Explored { is_complete: true, ..explored }
}

/// Computes a hash that is equal for histories with the same future: of what is stored, queued and on its way, of what
/// the host knows, and of what every invocation was told.
fn fingerprint(world: &World) -> u64 {
    let state = world.network.state();
    let queue = sorted(state.journal.iter().filter_map(|entry| match &entry.change {
        Change::Put { text, .. } => Some(text.clone()),
        _ => None,
    }));
    let late = sorted(state.late.iter().map(|late| format!("{late:?}")));
    // Requests run into their time limits only where time can pass while they wait.
    let sent = |pending: &Pending| (world.budget.wakes > 0).then_some(pending.sent);
    let invocations = world.invocations.iter().enumerate();
    let active = invocations.filter(|(_, one)| one.is_running() || one.outcome.is_some());
    let active = sorted(active.map(|(index, invocation)| {
        let pending = state.pending.iter().filter(|pending| pending.invocation == index);
        let pending: Vec<_> = pending.map(|pending| (&pending.call, sent(pending))).collect();
        let observations = state.observations.get(&index).map(Hasher::finish);
        // When a sleeping invocation wakes follows from this and from what it observed.
        let asleep_since = pending.is_empty().then_some(invocation.polled_at);
        let times = (invocation.begin.at, asleep_since);
        format!("{:?} {:?} {times:?} {observations:?} {pending:?}", invocation.trigger, invocation.outcome)
    }));
    let mut hasher = DefaultHasher::new();
    (format!("{:?}", state.storage), queue, late, active).hash(&mut hasher);
    let messages: Vec<_> = world.messages.iter().map(QueueMessage::state).collect();
    (messages, world.budget, world.now()).hash(&mut hasher);
    // What was answered and changed keeps promises or breaks them, whatever comes.
    let answers = sorted(world.answers.iter().map(|given| format!("{:?} {:?}", given.message, given.answer)));
    let mut violations = world.violations.clone();
    let mut known = journal::read(&state.journal, &mut violations);
    if !world.plan.has_expiry() {
        known.forget_times();
    }
    for given in &world.answers {
        promises::check_answer(given, &state.journal[..given.journal], &mut violations);
    }
    (answers, format!("{known:?}"), violations, state.only_commits_failed()).hash(&mut hasher);
    hasher.finish()
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts
}
