//! The actions of which a history consists, and the schedule that chooses among those that are possible.

use super::fault::Fault;
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
            Self::Listed(_) => Duration::from_secs(130),
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
