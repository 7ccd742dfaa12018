//! The actions that are possible next.

use super::{
    fault::Fault,
    queue::{Location, QueueMessage},
    schedule::{Action, Schedule},
    world::World,
};

impl World {
    /// Returns every action that is possible next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let (pending, late) = {
            let state = self.network.state();
            (state.pending.len(), state.late.len())
        };
        let mut actions: Vec<_> = (0..pending).map(Action::Deliver).collect();
        actions.extend((0..late).map(Action::ApplyLate));
        let is_visible = |queued: &QueueMessage| queued.location == Location::Queue && queued.visible_at <= self.now();
        actions.extend(self.message_actions(|index| is_visible(&self.messages[index]), Action::Receive));
        let has_ended = |invocation: &usize| self.invocations[*invocation].outcome.is_some();
        actions.extend((0..self.invocations.len()).filter(has_ended).map(Action::HandleOutcome));
        if !self.is_fault_free {
            self.add_disturbances(&mut actions, (pending, late));
        }
        actions
    }

    fn message_actions(
        &self,
        is_possible: impl Fn(usize) -> bool,
        action: fn(usize) -> Action,
    ) -> impl Iterator<Item = Action> {
        (0..self.messages.len()).filter(move |index| is_possible(*index)).map(action)
    }

    /// Adds the actions for which there must be a budget.
    fn add_disturbances(&self, actions: &mut Vec<Action>, (pending, late): (usize, usize)) {
        let (budget, is_random) = (self.budget, matches!(self.schedule, Schedule::Random { .. }));
        let is_active = |one: &usize| self.invocations[*one].is_running() || self.invocations[*one].outcome.is_some();
        let active: Vec<_> = (0..self.invocations.len()).filter(is_active).collect();
        let is_idle = pending + late == 0 && active.is_empty();
        if budget.faults > 0 {
            let faults = if is_random { Fault::ALL } else { Fault::KINDS };
            let fail = |index| faults.iter().map(move |fault| Action::Fail(index, *fault));
            actions.extend((0..pending).flat_map(fail));
        }
        if budget.kills > 0 {
            actions.extend(active.into_iter().map(Action::Kill));
        }
        if budget.visibility_timeouts > 0 {
            let is_hidden = |index: usize| self.messages[index].visible_at > self.now() && self.is_in_progress(index);
            actions.extend(self.message_actions(is_hidden, Action::MakeVisible));
        }
        if budget.ticks > 0 {
            actions.push(Action::FireTimer);
        }
        // In a list, long times pass only when nobody waits for the network: a request that takes long has no response.
        if budget.pauses > 0 && (is_idle || is_random && budget.faults > 0) {
            actions.push(Action::Pause);
        }
        if budget.wakes > 0 && self.is_somebody_asleep() {
            actions.push(Action::Wake);
        }
        if is_random {
            actions.extend((0..late).map(Action::DropLate));
        }
        if budget.jumps > 0 && is_idle {
            actions.extend(self.message_actions(|index| self.committed_at(index).is_some(), Action::JumpToExpiry));
        }
    }

    /// Tells whether an invocation waits for nothing but the clock.
    fn is_somebody_asleep(&self) -> bool {
        let state = self.network.state();
        let waits = |invocation: usize| state.pending.iter().any(|pending| pending.invocation == invocation);
        (0..self.invocations.len()).any(|one| self.invocations[one].is_running() && !waits(one))
    }
}
