//! One history from its first message to the moment at which everything should be done, and what became of it.

use super::{choice::Chooser, ending, fingerprint, outcome::History, plan::Plan, promises, world::World};
use std::collections::BTreeMap;

/// More than any history needs that comes to an end.
const MAX_STEPS: u32 = 5_000;

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
    ending::begin(world).await;
    let mut broken = Vec::new();
    let (options, is_known) = match drive(world).await {
        Stop::Undecided(options) => (Some(options), !is_new(fingerprint::of(world))),
        Stop::Over => (None, false),
        Stop::Endless => {
            broken.push(format!("no end after {MAX_STEPS} steps"));
            (None, false)
        }
    };
    if !is_known {
        ending::end(world, &mut broken).await;
        promises::check(world, &mut broken);
        if world.plan.is_calm() {
            promises::check_budget(world, &mut broken);
        }
    }
    History::of(world, broken, options)
}

/// Why nothing happens any more.
pub(crate) enum Stop {
    /// There is nothing left to do.
    Over,
    /// Nobody chooses among so many actions.
    Undecided(usize),
    Endless,
}

pub(crate) async fn drive(world: &mut World) -> Stop {
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
