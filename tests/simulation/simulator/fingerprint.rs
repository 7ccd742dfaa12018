//! What two histories have in common that have the same future.

use super::{ending, host::Queued, journal, network::Parked, promises, world::World};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Two histories with the same fingerprint have the same future: what is stored and queued and on its way, what the host
/// knows, and what every worker was told.
pub(crate) fn of(world: &World) -> u64 {
    let state = world.network.state();
    let mut queue = state.storage.queue.clone();
    queue.iter_mut().for_each(|queue| queue.sort_unstable());
    let mut late: Vec<_> = state.late.iter().map(|late| format!("{late:?}")).collect();
    late.sort_unstable();
    let tasks = world.tasks.iter().enumerate().filter(|(_, task)| task.is_running() || task.outcome.is_some());
    // Requests run into their time limits only where time can pass while they wait.
    let sent = |parked: &Parked| (world.budget.rests > 0).then_some(parked.sent);
    let mut tasks: Vec<_> = tasks
        .map(|(index, task)| {
            let parked = state.parked.iter().filter(|parked| parked.task == index);
            let parked: Vec<_> = parked.map(|parked| (&parked.call, sent(parked))).collect();
            let seen = state.seen.as_ref().and_then(|seen| seen.get(&index));
            // Who sleeps wakes up some time after that, which follows from what it was told.
            let asleep_since = parked.is_empty().then_some(task.went_on);
            let times = (task.began.at, asleep_since);
            format!("{:?} {:?} {times:?} {seen:?} {parked:?}", task.work, task.outcome)
        })
        .collect();
    tasks.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (format!("{:?}", state.storage.table), queue, late, tasks).hash(&mut hasher);
    let messages: Vec<_> = world.messages.iter().map(Queued::state).collect();
    (messages, world.budget, world.now()).hash(&mut hasher);
    // What was answered and changed keeps promises or breaks them, whatever comes.
    let mut ends: Vec<_> = world.ends.iter().map(|end| format!("{:?} {:?}", end.message, end.verdict)).collect();
    ends.sort_unstable();
    let mut broken = world.broken.clone();
    let mut known = journal::read(&state.storage.journal, &mut broken);
    if !world.plan.is_long() {
        known.forget_times();
    }
    for end in &world.ends {
        promises::check_end(end, &state.storage.journal[..end.journal], &mut broken);
    }
    (ends, format!("{known:?}"), broken, ending::only_commits_failed(&state)).hash(&mut hasher);
    hasher.finish()
}
