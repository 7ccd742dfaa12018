//! What became of a history.

use super::{
    journal::is_record,
    storage::{Change, What},
    task::Work,
    world::World,
};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// How many things could happen where the list of choices ended; none if it was longer than the history.
    pub(crate) options: Option<usize>,
    /// How often what happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl History {
    pub(crate) fn of(world: &World, broken: Vec<String>, options: Option<usize>) -> Self {
        let state = world.network.state();
        let is_purge = |change: &&Change| matches!(&change.what, What::Deleted(row) if is_record(row));
        let is_tick = |task: usize| matches!(world.tasks[task].work, Work::Tick(_));
        let puts = state.answered.iter().filter(|answered| answered.call == "put" && answered.status < 300);
        let (planned, left, counts) = (world.plan.budget, world.left, &state.storage.counts);
        let counts = BTreeMap::from([
            ("answers", world.ends.len() as u64),
            ("conflicts", world.ends.iter().filter(|end| end.verdict.is_conflict()).count() as u64),
            ("failed deliveries", world.failures.into()),
            ("poisoned messages", world.poisoned.into()),
            ("killed workers", (planned.kills - left.kills).into()),
            ("faults", (planned.faults - left.faults).into()),
            ("purged records", state.storage.journal.iter().filter(is_purge).count() as u64),
            ("events published by the timer", puts.filter(|put| is_tick(put.task)).count() as u64),
            ("continuation tokens", counts.continued),
            ("delete transactions", counts.deletions),
            ("refused delete transactions", counts.refused_deletions),
        ]);
        Self { broken, trace: state.trace.clone().unwrap_or_default(), options, counts }
    }

    /// Counts another history in.
    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}
