//! The actions that are possible next, and the schedule that chooses among them.

use super::{
    fault::Fault,
    host::{Location, QueueMessage},
    world::World,
};
use std::time::Duration;

/// One step of a history. Indices are those of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Delivers a pending request, and its response.
    Deliver(usize),
    /// Lets a pending request meet a fault.
    Fail(usize, Fault),
    /// Applies a late request.
    ApplyLate(usize),
    /// Loses a late request for good.
    DropLate(usize),
    /// Receives a message from the queue and invokes the function.
    Receive(usize),
    /// Lets the host handle the outcome of an invocation.
    HandleOutcome(usize),
    /// Kills the process of an invocation.
    Kill(usize),
    /// Ends the visibility timeout of a message whose invocation still runs.
    MakeVisible(usize),
    FireTimer,
    /// Lets time pass.
    Pause,
    /// Lets time pass until a sleeping invocation wakes, although something else could happen.
    Wake,
    /// Moves the clock to where the record of this message is about to expire, or has just expired; fires the timer.
    JumpToExpiry(usize),
}

impl Action {
    /// Returns the weight of the action in a random schedule.
    const fn weight(self, fault_weight: u32) -> u32 {
        match self {
            Self::Deliver(_) => 120,
            Self::Fail(..) => fault_weight,
            Self::HandleOutcome(_) | Self::Receive(_) => 40,
            Self::ApplyLate(_) => 20,
            Self::Pause | Self::Wake => 15,
            Self::JumpToExpiry(_) | Self::FireTimer => 10,
            Self::MakeVisible(_) | Self::Kill(_) | Self::DropLate(_) => 3,
        }
    }
}

/// The source of all choices in a history.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// Choices of a seeded generator: the same seed, the same history.
    Random { random: fastrand::Rng, fault_weight: u32 },
    /// Choices of an exploration, which ends with them.
    Listed(std::vec::IntoIter<u8>),
}

impl Schedule {
    pub(crate) fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed_ed5e);
        let fault_weight = [1, 4, 20, 200][random.usize(0..4)];
        Self::Random { random, fault_weight }
    }

    pub(crate) fn listed(choices: &[u8]) -> Self {
        Self::Listed(Vec::from(choices).into_iter())
    }

    /// Chooses an action; `None` at the end of the list.
    pub(crate) fn choose(&mut self, actions: &[Action]) -> Option<usize> {
        match self {
            Self::Listed(choices) => choices.next().map(usize::from),
            Self::Random { random, fault_weight } => {
                let weights = || actions.iter().map(|action| action.weight(*fault_weight));
                let mut drawn = random.u32(0..weights().sum());
                weights().position(|weight| {
                    let is_drawn = drawn < weight;
                    drawn = drawn.saturating_sub(weight);
                    is_drawn
                })
            }
        }
    }

    /// Chooses the length of a pause. A list knows one, longer than an event is left to its invocation.
    pub(crate) fn pause(&mut self) -> Duration {
        match self {
            Self::Listed(_) => Duration::from_secs(40),
            Self::Random { random, .. } => {
                Duration::from_millis([5, 1_000, 6_000, 45_000, 20 * 60_000][random.usize(0..5)])
            }
        }
    }

    /// Chooses which of the ready invocations is polled first. They share nothing but the storage, and the order of
    /// their requests is a choice of its own: a list need not vary this one.
    pub(crate) fn first_of(&mut self, invocations: usize) -> usize {
        match self {
            Self::Random { random, .. } if invocations > 1 => random.usize(0..invocations),
            Self::Random { .. } | Self::Listed(_) => 0,
        }
    }

    /// Chooses a number below `end`; 0 in a list.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        match self {
            Self::Random { random, .. } => random.u64(0..end),
            Self::Listed(_) => 0,
        }
    }
}

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
