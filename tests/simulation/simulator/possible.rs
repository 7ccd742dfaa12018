//! What can happen next.

use super::{
    choice::{Action, Chooser},
    fate::Fate,
    host::{Place, Queued},
    world::World,
};

impl World {
    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let (now, state) = (self.now(), self.network.state());
        let mut actions: Vec<_> = (0..state.parked.len()).map(|index| Action::Meet(index, Fate::Delivered)).collect();
        actions.extend((0..state.late.len()).map(Action::Land));
        let can_be_taken = |queued: &Queued| queued.place == Place::Queue && queued.visible <= now;
        actions.extend((0..self.messages.len()).filter(|index| can_be_taken(&self.messages[*index])).map(Action::Take));
        actions.extend((0..self.tasks.len()).filter(|task| self.tasks[*task].outcome.is_some()).map(Action::Settle));
        if !self.is_calm {
            let (parked, late) = (state.parked.len(), state.late.len());
            drop(state);
            self.mishaps(&mut actions, (parked, late));
        }
        actions
    }

    /// What can happen while there is a budget for it.
    fn mishaps(&self, actions: &mut Vec<Action>, (parked, late): (usize, usize)) {
        let (budget, is_seeded) = (self.budget, matches!(self.chooser, Chooser::Seeded { .. }));
        let is_idle = parked + late == 0 && !self.tasks.iter().any(|task| task.is_running() || task.outcome.is_some());
        if budget.faults > 0 {
            let fates = if is_seeded { Fate::FAULTS } else { Fate::KINDS_OF_FAULT };
            let faults = |index| fates.iter().map(move |fate| Action::Meet(index, *fate));
            actions.extend((0..parked).flat_map(faults));
        }
        if budget.kills > 0 {
            let can_be_killed = |task: &usize| self.tasks[*task].is_running() || self.tasks[*task].outcome.is_some();
            actions.extend((0..self.tasks.len()).filter(can_be_killed).map(Action::Kill));
        }
        if budget.lapses > 0 {
            let is_worked_on = |index: &usize| self.messages[*index].visible > self.now() && self.is_running(*index);
            actions.extend((0..self.messages.len()).filter(is_worked_on).map(Action::Lapse));
        }
        if budget.ticks > 0 {
            actions.push(Action::Tick);
        }
        // In a list, long times pass only when nobody waits for the network: a request that takes long has no answer.
        if budget.waits > 0 && (is_idle || is_seeded && budget.faults > 0) {
            actions.push(Action::Wait);
        }
        if budget.rests > 0 && self.somebody_sleeps() {
            actions.push(Action::Rest);
        }
        if is_seeded {
            actions.extend((0..late).map(Action::Vanish));
        }
        if budget.leaps > 0 && is_idle {
            actions
                .extend((0..self.messages.len()).filter(|index| self.committed_at(*index).is_some()).map(Action::Leap));
        }
    }

    /// Whether a task waits for nothing but the time.
    fn somebody_sleeps(&self) -> bool {
        let state = self.network.state();
        let waits = |task: usize| state.parked.iter().any(|parked| parked.task == task);
        (0..self.tasks.len()).any(|task| self.tasks[task].is_running() && !waits(task))
    }
}
