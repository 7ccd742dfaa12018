//! What is there before a history begins, and how it is gone on with until everything is done.

use super::{
    choice::Chooser,
    history::drive,
    host::Place,
    network::State,
    plan::{MARGIN, RETENTION},
    world::World,
};
use std::{collections::BTreeSet, time::Duration};

/// Delivers what has to be old when the rest begins.
pub(crate) async fn begin(world: &mut World) {
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
pub(crate) async fn end(world: &mut World, broken: &mut Vec<String>) {
    world.is_calm = true;
    world.left = std::mem::take(&mut world.budget);
    let poisoned = world.messages.iter_mut().filter(|queued| queued.place == Place::Poison);
    poisoned.for_each(|queued| queued.place = Place::Queue);
    drive(world).await;
    if is_prompt(world) && !outbox(world).is_empty() {
        broken.push(format!("left to the timer without need: {:?}", outbox(world)));
    }
    if !outbox(world).is_empty() {
        let pause = Duration::from_secs(60) + world.plan.skew.unsigned_abs() * 2;
        tokio::time::sleep(pause).await;
        world.tick();
        drive(world).await;
    }
    let left = outbox(world);
    if !left.is_empty() {
        broken.push(format!("left in the outbox after a tick without faults: {left:?}"));
    }
    if world.plan.is_long() {
        expire(world, broken).await;
    }
}

/// When every retention is over, each record is purged in the next turn of its bucket.
async fn expire(world: &mut World, broken: &mut Vec<String>) {
    let kept: time::Duration = RETENTION + MARGIN + world.plan.skew * 2 + time::Duration::seconds(1);
    tokio::time::sleep(kept.unsigned_abs()).await;
    let buckets: BTreeSet<_> = world.messages.iter().map(|queued| queued.message.key().partition_key()).collect();
    for bucket in buckets {
        world.until_turn_of(&bucket).await;
        world.tick();
        drive(world).await;
    }
    let left = rows(world, "record~");
    if !left.is_empty() {
        broken.push(format!("never purged: {left:?}"));
    }
}

/// Whether every event should be published by the invocation that committed it: nobody was killed, and at most commits met
/// faults, so few that none was given up. Where records expire not even those: a commit that is late may come after the
/// purge of the record with which its own invocation was answered.
fn is_prompt(world: &World) -> bool {
    let is_listed = matches!(world.chooser, Chooser::Listed(_));
    let state = world.network.state();
    let is_waited_for = if world.plan.is_long() { state.faulted.is_empty() } else { only_commits_failed(&state) };
    is_listed && is_waited_for && world.left.kills == world.plan.budget.kills
}

/// Whether no other requests than transactions met faults.
pub(crate) fn only_commits_failed(state: &State) -> bool {
    state.faulted.iter().all(|verb| *verb == "batch")
}

/// The keys of the events that are not published.
fn outbox(world: &World) -> Vec<String> {
    rows(world, "outbox~")
}

fn rows(world: &World, kind: &str) -> Vec<String> {
    let state = world.network.state();
    let rows = state.storage.table.iter().flat_map(|table| table.keys());
    rows.filter(|(_, row_key)| row_key.starts_with(kind)).map(|(_, row_key)| row_key.clone()).collect()
}
