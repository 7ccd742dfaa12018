//! One history, from its first message to the end, at which everything must be done.

use super::{
    invocation::Trigger,
    journal::{Entry, is_record},
    plan::{MARGIN, Plan, RETENTION},
    promises,
    queue::{Location, QueueMessage},
    schedule::Schedule,
    world::World,
};
use std::{collections::BTreeMap, time::Duration};
use test_storage::{Kind, emulated::Change};

/// More steps than any history has that comes to an end.
const MAX_STEPS: u32 = 5_000;

/// Asks whether this state is new, so that the history continues from it.
pub(crate) type IsNew<'a> = &'a mut dyn FnMut(&World) -> bool;

/// The result of a history.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Promises that were broken.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// The number of actions among which the list of choices did not choose any more; `None` if it was long enough.
    pub(crate) options: Option<usize>,
    /// The number of times that each thing happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// The reason for which no action follows.
enum Stop {
    Done,
    /// The list of choices is at its end, before so many actions.
    Undecided(usize),
    TooLong,
}

/// Runs the history of `plan` under `schedule`.
pub(crate) fn run(plan: Plan, schedule: Schedule, is_traced: bool, is_new: IsNew<'_>) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(async {
        let mut world = World::new(plan, schedule).await;
        world.network.state().trace = is_traced.then(Vec::new);
        run_to_end(&mut world, is_new).await
    }))
}

/// Runs the history of a seed.
pub(crate) fn of_seed(seed: u64, is_traced: bool) -> History {
    run(Plan::of_seed(seed), Schedule::random(seed), is_traced, &mut |_| true)
}

async fn run_to_end(world: &mut World, is_new: IsNew<'_>) -> History {
    commit_expired(world).await;
    let mut violations = Vec::new();
    let (options, is_known) = match run_actions(world).await {
        Stop::Undecided(options) => (Some(options), !is_new(world)),
        Stop::Done => (None, false),
        Stop::TooLong => {
            violations.push(format!("no end after {MAX_STEPS} steps"));
            (None, false)
        }
    };
    if !is_known {
        drain(world, &mut violations).await;
        promises::check(world, &mut violations);
    }
    let trace = world.network.state().trace.clone().unwrap_or_default();
    History { violations, trace, options, counts: counts(world) }
}

async fn run_actions(world: &mut World) -> Stop {
    for _ in 0..MAX_STEPS {
        world.poll_all();
        let actions = world.actions();
        let chosen = match actions.len() {
            0 if world.advance_to_next_event().await => continue,
            0 => return Stop::Done,
            1 => 0,
            _ if world.is_fault_free => 0,
            options => match world.schedule.choose(&actions) {
                Some(chosen) => chosen,
                None => return Stop::Undecided(options),
            },
        };
        world.act(actions[chosen]).await;
    }
    Stop::TooLong
}

/// Commits the orders whose records are to be expired when the history begins.
async fn commit_expired(world: &mut World) {
    let expired = world.plan.expired;
    if expired == 0 {
        return;
    }
    let later = |location| move |queued: &mut QueueMessage| queued.location = location;
    world.messages.iter_mut().skip(expired).for_each(later(Location::PoisonQueue));
    world.is_fault_free = true;
    run_actions(world).await;
    world.jump_to_expiry(0).await;
    world.is_fault_free = false;
    world.messages.iter_mut().skip(expired).for_each(later(Location::Queue));
}

/// Stops the faults, puts back what is on the poison queue, and fires the timer until the outbox is empty.
async fn drain(world: &mut World, violations: &mut Vec<String>) {
    world.is_fault_free = true;
    world.unused = std::mem::take(&mut world.budget);
    let poisoned = world.messages.iter_mut().filter(|queued| queued.location == Location::PoisonQueue);
    poisoned.for_each(|queued| queued.location = Location::Queue);
    run_actions(world).await;
    if must_be_published_at_once(world) && !stored(world, "outbox~").is_empty() {
        violations.push(format!("left to the timer without need: {:?}", stored(world, "outbox~")));
    }
    if !stored(world, "outbox~").is_empty() {
        let pause = Duration::from_secs(130) + world.plan.skew.unsigned_abs() * 2;
        tokio::time::sleep(pause).await;
        world.fire_timer();
        run_actions(world).await;
    }
    let left = stored(world, "outbox~");
    if !left.is_empty() {
        violations.push(format!("left in the outbox after a tick without faults: {left:?}"));
    }
    if world.plan.has_expiry() {
        purge_all(world, violations).await;
    }
}

/// Lets every retention end: the next tick purges each record.
async fn purge_all(world: &mut World, violations: &mut Vec<String>) {
    let kept: time::Duration = RETENTION + MARGIN + world.plan.skew * 2 + time::Duration::seconds(1);
    tokio::time::sleep(kept.unsigned_abs()).await;
    world.fire_timer();
    run_actions(world).await;
    let left = [stored(world, "record~"), stored(world, "expiry~")].concat();
    if !left.is_empty() {
        violations.push(format!("never purged: {left:?}"));
    }
}

/// Tells whether the invocation that commits an event must publish it: nobody was killed, and at most commits met
/// faults, so few that none was given up. Where records expire not even those: a commit that is late may come after the
/// purge of the record with which its own invocation was answered.
fn must_be_published_at_once(world: &World) -> bool {
    let is_listed = matches!(world.schedule, Schedule::Listed(_));
    let state = world.network.state();
    let was_answered = if world.plan.has_expiry() { state.faulted.is_empty() } else { state.only_commits_failed() };
    is_listed && was_answered && world.unused.kills == world.plan.budget.kills
}

/// Returns the keys of the stored rows of one kind.
fn stored(world: &World, kind: &str) -> Vec<String> {
    let state = world.network.state();
    let row_keys = state.storage.entities().map(|((_, row_key), _)| row_key);
    row_keys.filter(|row_key| row_key.starts_with(kind)).cloned().collect()
}

fn counts(world: &World) -> BTreeMap<&'static str, u64> {
    let state = world.network.state();
    let is_purge = |entry: &&Entry| matches!(&entry.change, Change::Deleted(row) if is_record(row));
    let is_tick = |invocation: usize| matches!(world.invocations[invocation].trigger, Trigger::Tick(_));
    let puts = state.answered.iter().filter(|answered| answered.kind == Kind::PutMessage && answered.status < 300);
    let (planned, unused, counts) = (world.plan.budget, world.unused, &state.counts);
    BTreeMap::from([
        ("answers", world.answers.len() as u64),
        ("conflicts", world.answers.iter().filter(|given| given.answer.is_conflict()).count() as u64),
        ("failed deliveries", world.failures.into()),
        ("messages put back", (world.messages.len() - world.plan.messages.len()) as u64),
        ("killed workers", (planned.kills - unused.kills).into()),
        ("faults", (planned.faults - unused.faults).into()),
        ("purged records", state.journal.iter().filter(is_purge).count() as u64),
        ("events published by the timer", puts.filter(|put| is_tick(put.invocation)).count() as u64),
        ("continuation tokens", counts.continued),
        ("delete transactions", counts.deletions),
        ("refused delete transactions", counts.refused_deletions),
    ])
}
