//! What a history consists of: its messages, and how much may go wrong in it.

use super::operation::DOMAIN;
use handler::{
    idempotency::{
        Key,
        key::{bucket_to_purge, partition_key},
    },
    quarantine::Reason,
};
use time::{Duration, OffsetDateTime, macros::datetime};

/// How long records are kept.
pub(crate) const RETENTION: Duration = Duration::days(30);

/// How much longer at least, because the insert may come later than the time it is counted from, and clocks differ.
pub(crate) const MARGIN: Duration = Duration::hours(1);

/// Numbers of orders whose records share a bucket: one page can hold rows of several of them.
pub(crate) const NEIGHBOURS: [u8; 3] = [0, 22, 57];

/// The number of an order in another bucket.
pub(crate) const ELSEWHERE: u8 = 1;

/// A message: which order, with which content, in which of its spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) order: u8,
    pub(crate) amount: u8,
    pub(crate) spelling: u8,
    /// How many events the order has. The domain decides on one; operations with another number are made up.
    pub(crate) events: u8,
}

impl Message {
    pub(crate) fn text(self) -> String {
        let Self { order, amount, spelling, .. } = self;
        match spelling {
            0 => format!(r#"{{"id":"order-{order}","amount":{amount}}}"#),
            1 => format!(r#" {{ "amount": {amount}.0, "id": "order-{order}" }}"#),
            _ => format!(r#"{{"amount":{amount}0e-1,"id":"\u006frder-{order}"}}"#),
        }
    }

    pub(crate) fn key(self) -> Key {
        Key::new(DOMAIN.scope, &format!("order-{}", self.order))
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
    Quarantined(Reason),
}

impl Verdict {
    pub(crate) fn is_conflict(&self) -> bool {
        *self == Self::Quarantined(Reason::Conflict)
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
    /// Moments at which, in a list, somebody who sleeps goes on before something else happens that could.
    pub(crate) rests: u32,
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
    pub(crate) skew: Duration,
    /// How many rows the service looks at for one page.
    pub(crate) page: usize,
    /// Whether a lost answer is a connection that was reset, or silence.
    pub(crate) resets: bool,
    /// Whether queries for buckets in which nothing is are answered when they are chosen, as everything else, or at once.
    pub(crate) parks_all: bool,
    /// The time on the wall when the history starts: such that the bucket of the first message has its turn at the time
    /// to which leaps lead.
    pub(crate) start: OffsetDateTime,
    /// To which time after the end of the retention leaps lead, or before it.
    pub(crate) leap: Duration,
    pub(crate) seed: u64,
}

impl Plan {
    /// Perfect clocks, and answers that are either there or not.
    pub(crate) fn small(messages: &[Message], budget: Budget) -> Self {
        let leap = MARGIN + Duration::seconds(1);
        let start = start(&messages[0].key(), leap, Duration::ZERO);
        let (messages, skew) = (messages.to_vec(), Duration::ZERO);
        Self { messages, budget, expired: 0, skew, page: 100, resets: true, parks_all: false, start, leap, seed: 1 }
    }

    /// The history of a seed: one in four is without faults.
    pub(crate) fn of_seed(seed: u64) -> Self {
        if seed % 4 == 3 { Self::calm(seed) } else { Self::stormy(seed) }
    }

    fn stormy(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let messages = messages(&mut random);
        let leaps = if random.u8(0..4) == 0 { random.u32(1..3) } else { 0 };
        let most_faults = [4, 20, 80][random.usize(0..3)];
        let budget = Budget {
            faults: random.u32(0..most_faults),
            kills: random.u32(0..4),
            lapses: random.u32(0..3),
            ticks: random.u32(0..4) + leaps,
            waits: random.u32(0..10),
            rests: 0,
            leaps,
        };
        let skew = [Duration::ZERO, Duration::seconds(2), Duration::minutes(10)][random.usize(0..3)];
        let leap = leap(&mut random);
        Self {
            budget,
            expired: 0,
            skew,
            page: [1, 2, 100][random.usize(0..3)],
            resets: random.bool(),
            start: start(&messages[0].key(), leap, Duration::seconds(random.i64(0..300))),
            leap,
            parks_all: random.bool(),
            seed,
            messages,
        }
    }

    /// The history of a seed in which nothing goes wrong.
    fn calm(seed: u64) -> Self {
        let budget = Budget { waits: 5, ..Budget::default() };
        Self { budget, skew: Duration::ZERO, page: 100, ..Self::stormy(seed) }
    }

    /// Whether nothing can go wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.skew.is_zero()
            && self.expired == 0
            && self.budget == Budget { waits: self.budget.waits, ..Budget::default() }
    }

    /// Whether records may expire.
    pub(crate) const fn is_long(&self) -> bool {
        self.budget.leaps > 0 || self.expired > 0
    }
}

/// Two to five messages of one to three orders, all in one bucket or not.
fn messages(random: &mut fastrand::Rng) -> Vec<Message> {
    let [first, second, third] = NEIGHBOURS;
    let orders = [NEIGHBOURS, [first, second, ELSEWHERE], [first, ELSEWHERE, third]][random.usize(0..3)];
    let events: [u8; 3] = std::array::from_fn(|_| [1, 1, 1, 0, 2, 3][random.usize(0..6)]);
    let (kinds, contents) = (random.usize(1..=3), random.u8(1..=2));
    let message = |random: &mut fastrand::Rng| {
        let kind = random.usize(0..kinds);
        let amount = 42 + random.u8(0..4) / 3 * (contents - 1);
        Message { order: orders[kind], amount, spelling: random.u8(0..3), events: events[kind] }
    };
    (0..random.usize(2..6)).map(|_| message(random)).collect()
}

/// Before or after the end of the retention, or that of the margin: a second away as often as an hour.
fn leap(random: &mut fastrand::Rng) -> Duration {
    let distance = Duration::seconds_f64((random.f64() * (3.0 * 3_600.0_f64).ln()).exp());
    let end = if random.bool() { Duration::ZERO } else { MARGIN };
    if random.bool() { end + distance } else { end - distance }
}

/// A start for which the timer purges the bucket of `key` at `leap` after the end of the retention.
fn start(key: &Key, leap: Duration, phase: Duration) -> OffsetDateTime {
    let mut start = datetime!(2026-11-21 10:20 UTC) + phase;
    while partition_key(bucket_to_purge(start + RETENTION + leap)) != key.partition_key() {
        start += Duration::minutes(5);
    }
    start
}
