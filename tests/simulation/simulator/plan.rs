//! What a history consists of: its messages, and how much may go wrong in it.

use handler::{functions::queue_with_idempotency::CONFLICT, idempotency::Key, order};

/// How long records are kept.
pub(crate) const RETENTION: time::Duration = time::Duration::days(30);

/// A message: which order, with which content, in which of its spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) order: u8,
    pub(crate) amount: u8,
    pub(crate) spelling: u8,
}

impl Message {
    pub(crate) fn text(self) -> String {
        let Self { order, amount, spelling } = self;
        match spelling {
            0 => format!(r#"{{"id":"order-{order}","amount":{amount}}}"#),
            1 => format!(r#" {{ "amount": {amount}.0, "id": "order-{order}" }}"#),
            _ => format!(r#"{{"amount":{amount}0e-1,"id":"\u006frder-{order}"}}"#),
        }
    }

    pub(crate) fn key(self) -> Key {
        Key::new(order::SCOPE, &format!("order-{}", self.order))
    }

    /// Whether this is the receipt of this order with this content, in whichever of its spellings.
    pub(crate) fn is_receipt(self, receipt: &str) -> bool {
        let Self { order, amount, .. } = self;
        [format!("{amount}"), format!("{amount}.0"), format!("{amount}0e-1")]
            .iter()
            .any(|amount| receipt == format!(r#"{{"id":"order-{order}","status":"accepted","amount":{amount}}}"#))
    }
}

/// How a message was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Answered(String),
    Quarantined(&'static str),
}

impl Verdict {
    pub(crate) fn is_conflict(&self) -> bool {
        *self == Self::Quarantined(CONFLICT)
    }
}

/// What may go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Requests that are lost, refused or delayed.
    pub(crate) faults: u32,
    /// Workers that are killed.
    pub(crate) kills: u32,
    /// Messages that become visible while they are worked on, and are delivered a second time.
    pub(crate) lapses: u32,
    /// Ticks of the timer, which may overlap.
    pub(crate) ticks: u32,
    /// Moments at which time passes although something could be done.
    pub(crate) waits: u32,
    /// Leaps to a time at which records are about to expire, or just have.
    pub(crate) leaps: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) messages: Vec<Message>,
    pub(crate) budget: Budget,
    /// How many of the messages are delivered without faults before anything else happens, and then expire.
    pub(crate) expired: usize,
    /// By how much the clock of a worker may be wrong.
    pub(crate) skew: time::Duration,
    /// How many rows the service gives at once.
    pub(crate) page: usize,
    /// Whether a lost answer is a connection that was reset, or silence.
    pub(crate) resets: bool,
    pub(crate) seed: u64,
}

impl Plan {
    /// Perfect clocks, and answers that are either there or not.
    pub(crate) fn small(messages: &[Message], budget: Budget) -> Self {
        let (messages, skew) = (messages.to_vec(), time::Duration::ZERO);
        Self { messages, budget, expired: 0, skew, page: 100, resets: true, seed: 1 }
    }

    /// The history of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (orders, contents) = (random.u8(1..=3), random.u8(1..=2));
        let message = |random: &mut fastrand::Rng| Message {
            order: random.u8(0..orders),
            amount: 42 + random.u8(0..4) / 3 * (contents - 1),
            spelling: random.u8(0..3),
        };
        let messages: Vec<_> = (0..random.usize(2..6)).map(|_| message(&mut random)).collect();
        let leaps = if random.u8(0..4) == 0 { random.u32(1..3) } else { 0 };
        let most_faults = [4, 20, 80][random.usize(0..3)];
        let budget = Budget {
            faults: random.u32(0..most_faults),
            kills: random.u32(0..4),
            lapses: random.u32(0..3),
            ticks: random.u32(0..4) + leaps * 2,
            waits: random.u32(0..10),
            leaps,
        };
        let skew = [time::Duration::ZERO, time::Duration::seconds(2), time::Duration::minutes(10)];
        Self {
            messages,
            budget,
            expired: 0,
            skew: skew[random.usize(0..skew.len())],
            page: [1, 2, 100][random.usize(0..3)],
            resets: random.bool(),
            seed,
        }
    }

    /// Whether nothing can go wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.skew.is_zero()
            && self.expired == 0
            && self.budget == Budget { waits: self.budget.waits, ..Budget::default() }
    }

    /// The history of a seed in which nothing goes wrong.
    pub(crate) fn calm(seed: u64) -> Self {
        let budget = Budget { waits: 5, ..Budget::default() };
        Self { budget, skew: time::Duration::ZERO, page: 100, ..Self::of(seed) }
    }
}
