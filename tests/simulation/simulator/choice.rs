//! What happens next, of all that can: drawn by a seed, or read from a list.

use super::fate::Fate;
use std::time::Duration;

/// One thing that can happen. Indices are those of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A request meets its fate.
    Meet(usize, Fate),
    /// A late request is applied.
    Land(usize),
    /// A late request is lost.
    Vanish(usize),
    /// The host takes a message off the queue and delivers it.
    Take(usize),
    /// The host deals with the answer of a task.
    Settle(usize),
    /// The process dies, with one task in it.
    Kill(usize),
    /// A message becomes visible while it is worked on.
    Lapse(usize),
    /// The timer fires.
    Tick,
    /// Time passes.
    Wait,
    /// Time passes until somebody who sleeps goes on, although something else could happen.
    Rest,
    /// Much time passes: records of this message's order are about to expire, or just have. Then the timer fires.
    Leap(usize),
}

impl Action {
    /// How likely it is, beside the others, where a fault is as likely as `storm` says.
    const fn weight(self, storm: u32) -> u32 {
        match self {
            Self::Meet(_, Fate::Delivered) => 120,
            Self::Meet(..) => storm,
            Self::Settle(_) | Self::Take(_) => 40,
            Self::Land(_) => 20,
            Self::Wait | Self::Rest => 15,
            Self::Leap(_) | Self::Tick => 10,
            Self::Lapse(_) | Self::Kill(_) | Self::Vanish(_) => 3,
        }
    }
}

/// Who chooses.
#[derive(Debug)]
pub(crate) enum Chooser {
    /// One generator: the same seed, the same history.
    Seeded { random: fastrand::Rng, storm: u32 },
    /// The next choices, then nobody.
    Listed(std::vec::IntoIter<u8>),
}

impl Chooser {
    pub(crate) fn seeded(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed_ed5e);
        let storm = [1, 4, 20, 200][random.usize(0..4)];
        Self::Seeded { random, storm }
    }

    pub(crate) fn listed(choices: &[u8]) -> Self {
        Self::Listed(Vec::from(choices).into_iter())
    }

    /// The index of what happens, or none when the list is at its end.
    pub(crate) fn choose(&mut self, actions: &[Action]) -> Option<usize> {
        match self {
            Self::Listed(choices) => choices.next().map(usize::from),
            Self::Seeded { random, storm } => {
                let weights = || actions.iter().map(|action| action.weight(*storm));
                let mut drawn = random.u32(0..weights().sum());
                weights().position(|weight| {
                    let is_drawn = drawn < weight;
                    drawn = drawn.saturating_sub(weight);
                    is_drawn
                })
            }
        }
    }

    /// How long a wait lasts. In a list there is one length, longer than an event is left to its invocation.
    pub(crate) fn pause(&mut self) -> Duration {
        match self {
            Self::Listed(_) => Duration::from_secs(40),
            Self::Seeded { random, .. } => {
                Duration::from_millis([5, 1_000, 6_000, 45_000, 20 * 60_000][random.usize(0..5)])
            }
        }
    }

    /// Which of the tasks that can go on goes first. They share nothing but the storage, whose order of requests is a
    /// choice of its own, so a list need not vary it.
    pub(crate) fn first_of(&mut self, tasks: usize) -> usize {
        match self {
            Self::Seeded { random, .. } if tasks > 1 => random.usize(0..tasks),
            Self::Seeded { .. } | Self::Listed(_) => 0,
        }
    }

    /// A number below `end`, 0 in a list.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        match self {
            Self::Seeded { random, .. } => random.u64(0..end),
            Self::Listed(_) => 0,
        }
    }
}
