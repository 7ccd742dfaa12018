//! The input of one history: its messages, and how many faults it may have.

use super::domain::Message;
use time::{Duration, OffsetDateTime, macros::datetime};

/// The retention of records.
pub(crate) const RETENTION: Duration = Duration::days(30);

/// The least time that a record is kept beyond its retention: an insert may come late, and clocks differ.
pub(crate) const MARGIN: Duration = Duration::hours(1);

const START: OffsetDateTime = datetime!(2026-11-21 10:20 UTC);

/// Orders whose records share a bucket: one page can hold rows of several of them.
pub(crate) const SAME_BUCKET: [u8; 3] = [0, 22, 57];

/// An order in another bucket.
pub(crate) const OTHER_BUCKET: u8 = 1;

/// The number of disturbances of each kind that a history may still have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Requests that are lost, refused or delayed.
    pub(crate) faults: u32,
    /// Invocations whose process is killed.
    pub(crate) kills: u32,
    /// Messages that become visible during their invocation, and are delivered a second time.
    pub(crate) visibility_timeouts: u32,
    /// Timer ticks, which may overlap.
    pub(crate) ticks: u32,
    /// Pauses during which nothing happens although something could.
    pub(crate) pauses: u32,
    /// Moments of an exploration at which a sleeping invocation wakes before something else happens that could.
    pub(crate) wakes: u32,
    /// Jumps of the clock to a time at which records are about to expire, or have just expired.
    pub(crate) jumps: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) messages: Vec<Message>,
    pub(crate) budget: Budget,
    /// The number of messages that are delivered without faults at first, and whose records then expire.
    pub(crate) expired: usize,
    /// The largest error of an invocation's clock.
    pub(crate) skew: Duration,
    /// The number of rows that the service reads for one page.
    pub(crate) page: usize,
    /// Whether a lost response is a reset connection, or silence.
    pub(crate) resets: bool,
    /// Whether queries for buckets without any row take part in the interleaving, or are answered at once.
    pub(crate) holds_empty_queries: bool,
    /// The wall clock at the start of the history.
    pub(crate) start: OffsetDateTime,
    /// The time from the end of the retention to the time of a jump; negative before the end.
    pub(crate) jump: Duration,
    pub(crate) seed: u64,
}

impl Plan {
    /// Makes a plan with perfect clocks and reset connections.
    pub(crate) fn small(messages: &[Message], budget: Budget) -> Self {
        let jump = MARGIN + Duration::seconds(1);
        Self {
            messages: messages.to_vec(),
            budget,
            expired: 0,
            skew: Duration::ZERO,
            page: 100,
            resets: true,
            holds_empty_queries: false,
            start: START,
            jump,
            seed: 1,
        }
    }

    /// Draws the plan of a seed: one in four has no faults.
    pub(crate) fn of_seed(seed: u64) -> Self {
        if seed % 4 == 3 { Self::fault_free(seed) } else { Self::faulty(seed) }
    }

    fn faulty(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let messages = messages(&mut random);
        let jumps = if random.u8(0..4) == 0 { random.u32(1..3) } else { 0 };
        let max_faults = [4, 20, 80][random.usize(0..3)];
        let budget = Budget {
            faults: random.u32(0..max_faults),
            kills: random.u32(0..4),
            visibility_timeouts: random.u32(0..3),
            ticks: random.u32(0..4) + jumps,
            pauses: random.u32(0..10),
            wakes: 0,
            jumps,
        };
        let skew = [Duration::ZERO, Duration::seconds(2), Duration::minutes(10)][random.usize(0..3)];
        let jump = jump(&mut random);
        Self {
            budget,
            expired: 0,
            skew,
            page: [1, 2, 100][random.usize(0..3)],
            resets: random.bool(),
            start: START + Duration::seconds(random.i64(0..100_000)),
            jump,
            holds_empty_queries: random.bool(),
            seed,
            messages,
        }
    }

    fn fault_free(seed: u64) -> Self {
        let budget = Budget { pauses: 5, ..Budget::default() };
        Self { budget, skew: Duration::ZERO, page: 100, ..Self::faulty(seed) }
    }

    pub(crate) fn is_fault_free(&self) -> bool {
        self.skew.is_zero()
            && self.expired == 0
            && self.budget == Budget { pauses: self.budget.pauses, ..Budget::default() }
    }

    /// Tells whether records may expire.
    pub(crate) const fn has_expiry(&self) -> bool {
        self.budget.jumps > 0 || self.expired > 0
    }
}

/// Draws two to five messages of one to three orders, all in one bucket or not.
fn messages(random: &mut fastrand::Rng) -> Vec<Message> {
    let [first, second, third] = SAME_BUCKET;
    let orders = [SAME_BUCKET, [first, second, OTHER_BUCKET], [first, OTHER_BUCKET, third]][random.usize(0..3)];
    let events: [u8; 3] = std::array::from_fn(|_| [1, 1, 1, 0, 2, 3][random.usize(0..6)]);
    let (kinds, contents) = (random.usize(1..=3), random.u8(1..=2));
    let message = |random: &mut fastrand::Rng| {
        let kind = random.usize(0..kinds);
        let amount = 42 + random.u8(0..4) / 3 * (contents - 1);
        Message { order: orders[kind], amount, spelling: random.u32(..), events: events[kind] }
    };
    (0..random.usize(2..6)).map(|_| message(random)).collect()
}

/// Draws a time around the end of the retention, or around that of the margin: a second away as often as an hour.
fn jump(random: &mut fastrand::Rng) -> Duration {
    let distance = Duration::seconds_f64((random.f64() * (3.0 * 3_600.0_f64).ln()).exp());
    let end = if random.bool() { Duration::ZERO } else { MARGIN };
    if random.bool() { end + distance } else { end - distance }
}
