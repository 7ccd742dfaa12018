//! The time and the chance that one attempt is given. Both are arguments everywhere, so that every run can be repeated.

use std::cell::RefCell;
use time::OffsetDateTime;
use tokio::time::Instant;

/// One attempt to serve one invocation.
#[derive(Debug)]
pub struct Attempt {
    /// The host's id of the invocation; the retries of a timer tick share it.
    pub invocation_id: String,
    /// Time of day at which the attempt began.
    pub now: OffsetDateTime,
    /// Latest end: earlier than the host would kill the process, with every other invocation in it.
    pub deadline: Instant,
    random: RefCell<fastrand::Rng>,
}

impl Attempt {
    /// Begins an attempt at `now`, which draws from `random`.
    #[must_use]
    pub const fn new(invocation_id: String, now: OffsetDateTime, deadline: Instant, random: fastrand::Rng) -> Self {
        Self { invocation_id, now, deadline, random: RefCell::new(random) }
    }

    /// Returns a generator of its own for one purpose: two of them never draw alike.
    #[must_use]
    pub fn random(&self) -> fastrand::Rng {
        self.random.borrow_mut().fork()
    }
}

/// Reads the time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the only reader of the clock")]
pub fn time_of_day() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generators_of_one_attempt_draw_differently_and_those_of_another_alike() {
        let attempt = || {
            let random = fastrand::Rng::with_seed(7);
            Attempt::new("5b0c1f4e".to_owned(), OffsetDateTime::UNIX_EPOCH, Instant::now(), random)
        };
        let draws = |attempt: &Attempt| [attempt.random().u64(..), attempt.random().u64(..)];
        let [first, second] = draws(&attempt());
        assert_ne!(first, second);
        assert_eq!(draws(&attempt()), [first, second]);
    }
}
