//! One history from its first message to the moment at which everything should be done, and what became of it.

use super::{
    choice::Chooser,
    plan::Plan,
    promises,
    storage::{Change, What},
    task::Work,
    world::{Place, World},
};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// More than any history needs that comes to an end.
const MAX_STEPS: u32 = 5_000;

/// What became of a history.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// Deliveries that were answered.
    pub(crate) answers: u64,
    /// Answers that were a quarantine.
    pub(crate) conflicts: u64,
    /// Deliveries that failed, to be repeated by the host.
    pub(crate) failures: u64,
    /// Messages that the host gave up, until they were put back.
    pub(crate) poisoned: u64,
    /// Workers that were killed.
    pub(crate) kills: u64,
    /// Requests that were lost, refused or delayed.
    pub(crate) faults: u64,
    /// Records that were purged.
    pub(crate) purged: u64,
    /// Events that were left to the timer.
    pub(crate) by_timer: u64,
    /// How many things could happen where the list of choices ended; none if it was longer than the history.
    pub(crate) options: Option<usize>,
}

impl History {
    fn of(world: &World, broken: Vec<String>, options: Option<usize>) -> Self {
        let state = world.network.state();
        let is_purge = |change: &&Change| matches!(&change.what, What::Deleted(row) if row.contains_key("receipt"));
        let is_tick = |task: usize| matches!(world.tasks[task].work, Work::Tick(_));
        let puts = state.answered.iter().filter(|answered| answered.call == "put" && answered.status < 300);
        let (planned, left) = (world.plan.budget, world.left);
        Self {
            broken,
            trace: state.trace.clone().unwrap_or_default(),
            answers: world.ends.len() as u64,
            conflicts: world.ends.iter().filter(|end| end.verdict.is_conflict()).count() as u64,
            failures: world.failures.into(),
            poisoned: world.poisoned.into(),
            kills: (planned.kills - left.kills).into(),
            faults: (planned.faults - left.faults).into(),
            purged: state.storage.journal.iter().filter(is_purge).count() as u64,
            by_timer: puts.filter(|put| is_tick(put.task)).count() as u64,
            options,
        }
    }

    /// Counts another history in.
    pub(crate) fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.conflicts += other.conflicts;
        self.failures += other.failures;
        self.poisoned += other.poisoned;
        self.kills += other.kills;
        self.faults += other.faults;
        self.purged += other.purged;
        self.by_timer += other.by_timer;
    }
}

/// Asks whether this state is to be gone on from.
pub(crate) type IsNew<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Runs the history of `plan` in which `chooser` chooses.
pub(crate) fn run(plan: Plan, chooser: Chooser, is_traced: bool, is_new: IsNew<'_>) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(async {
        let mut world = World::new(plan, chooser).await;
        if is_traced {
            world.network.state().trace = Some(Vec::new());
        }
        if let Chooser::Listed(_) = world.chooser {
            world.network.state().seen = Some(BTreeMap::new());
        }
        live(&mut world, is_new).await
    }))
}

/// The history of a seed.
pub(crate) fn of_seed(plan: Plan, is_traced: bool) -> History {
    let chooser = Chooser::seeded(plan.seed);
    run(plan, chooser, is_traced, &mut |_| true)
}

async fn live(world: &mut World, is_new: IsNew<'_>) -> History {
    begin(world).await;
    let mut broken = Vec::new();
    let (options, is_known) = match drive(world).await {
        Stop::Undecided(options) => (Some(options), !is_new(fingerprint(world))),
        Stop::Over => (None, false),
        Stop::Endless => {
            broken.push(format!("no end after {MAX_STEPS} steps"));
            (None, false)
        }
    };
    if !is_known {
        end(world, &mut broken).await;
        promises::check(world, &mut broken);
        if world.plan.is_calm() {
            promises::check_budget(world, &mut broken);
        }
    }
    History::of(world, broken, options)
}

/// Why nothing happens any more.
enum Stop {
    /// There is nothing left to do.
    Over,
    /// Nobody chooses among so many actions.
    Undecided(usize),
    Endless,
}

async fn drive(world: &mut World) -> Stop {
    for _ in 0..MAX_STEPS {
        world.progress();
        let actions = world.actions();
        let chosen = match actions.len() {
            0 if world.rest().await => continue,
            0 => return Stop::Over,
            1 => 0,
            _ if world.is_calm => 0,
            options => match world.chooser.choose(&actions) {
                Some(chosen) => chosen,
                None => return Stop::Undecided(options),
            },
        };
        world.act(actions[chosen]).await;
    }
    Stop::Endless
}

/// Delivers what has to be old when the rest begins.
async fn begin(world: &mut World) {
    let expired = world.plan.expired;
    if expired == 0 {
        return;
    }
    let places: Vec<_> = world.messages.iter_mut().skip(expired).collect();
    places.into_iter().for_each(|queued| queued.place = Place::Poison);
    world.is_calm = true;
    drive(world).await;
    world.leap(0).await;
    world.is_calm = false;
    world.messages.iter_mut().skip(expired).for_each(|queued| queued.place = Place::Queue);
}

/// Faults stop, operators put back what is on the poison queue, and the timer fires until nothing is left in the outbox.
async fn end(world: &mut World, broken: &mut Vec<String>) {
    world.is_calm = true;
    world.left = std::mem::take(&mut world.budget);
    let poisoned = world.messages.iter_mut().filter(|queued| queued.place == Place::Poison);
    poisoned.for_each(|queued| queued.place = Place::Queue);
    drive(world).await;
    if is_prompt(world) && !outbox(world).is_empty() {
        broken.push(format!("left to the timer without need: {:?}", outbox(world)));
    }
    for _ in 0..3 {
        if outbox(world).is_empty() {
            return;
        }
        let pause = Duration::from_secs(60) + world.plan.skew.unsigned_abs() * 2;
        tokio::time::sleep(pause).await;
        world.tick();
        drive(world).await;
    }
    let left = outbox(world);
    if !left.is_empty() {
        broken.push(format!("never published: {left:?}"));
    }
}

/// Whether every event should be published by the invocation that committed it: nobody was killed, and at most commits met
/// faults, so few that none was given up.
fn is_prompt(world: &World) -> bool {
    let is_listed = matches!(world.chooser, Chooser::Listed(_));
    let only_commits = world.network.state().faulted.iter().all(|verb| *verb == "batch");
    is_listed && only_commits && world.left.kills == world.plan.budget.kills
}

/// The keys of the events that are not published.
fn outbox(world: &World) -> Vec<String> {
    let state = world.network.state();
    let rows = state.storage.table.iter().flat_map(|table| table.keys());
    rows.filter(|(_, row_key)| row_key.starts_with("outbox~")).map(|(_, row_key)| row_key.clone()).collect()
}

/// Two histories with the same fingerprint have the same future: what is stored and queued and on its way, what the host
/// knows, and what every worker was told.
fn fingerprint(world: &World) -> u64 {
    let state = world.network.state();
    let mut queue = state.storage.queue.clone();
    queue.iter_mut().for_each(|queue| queue.sort_unstable());
    let mut late: Vec<_> = state.late.iter().map(|call| format!("{call:?}")).collect();
    late.sort_unstable();
    let tasks = world.tasks.iter().enumerate().filter(|(_, task)| task.is_running() || task.outcome.is_some());
    let mut tasks: Vec<_> = tasks
        .map(|(index, task)| {
            let parked = state.parked.iter().filter(|parked| parked.task == index).map(|parked| &parked.call);
            format!(
                "{:?} {:?} {:?} {:?}",
                task.work,
                task.outcome,
                state.seen.as_ref().and_then(|seen| seen.get(&index)),
                parked.collect::<Vec<_>>()
            )
        })
        .collect();
    tasks.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (format!("{:?}", state.storage.table), queue, late, tasks).hash(&mut hasher);
    (&world.messages, world.budget, world.now()).hash(&mut hasher);
    // What was answered is a promise kept or broken, whatever comes.
    let mut ends: Vec<_> = world.ends.iter().map(|end| format!("{:?} {:?}", end.message, end.verdict)).collect();
    ends.sort_unstable();
    ends.hash(&mut hasher);
    hasher.finish()
}
