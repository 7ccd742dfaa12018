//! The time and the chance that one attempt is given. Both are arguments everywhere, so that every run can be repeated.

use std::{cell::RefCell, time::Duration};
use time::OffsetDateTime;
use tokio::time::Instant;

/// A message is held for so long while a service is away. A shorter time would put more messages on their queue again; in a
/// longer one no other instance, which may reach the service, gets the message.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// One attempt to serve one invocation.
#[derive(Debug)]
pub struct Attempt {
    /// The host's id of the invocation; the retries of a timer tick share it.
    pub invocation_id: String,
    /// The [trace](crate::trace_context) to which the host says that the invocation belongs.
    pub traceparent: Option<String>,
    /// Time of day at which the attempt began.
    pub began: OffsetDateTime,
    /// Latest end: earlier than the host would kill the process, with every other invocation in it.
    pub deadline: Instant,
    /// Latest end of waiting for a service that is away: there has to be time to put the message back.
    pub hold_until: Instant,
    /// Identity of what this attempt commits: 32 hexadecimal digits, different in every attempt.
    pub commit_id: String,
    start: Instant,
    random: RefCell<fastrand::Rng>,
}

impl Attempt {
    /// Begins an attempt at `began`. All its chance comes from `entropy`.
    #[must_use]
    pub fn new(invocation_id: String, began: OffsetDateTime, deadline: Instant, entropy: u128) -> Self {
        let random = RefCell::new(fastrand::Rng::with_seed((entropy >> 64) as u64 ^ entropy as u64));
        let commit_id = format!("{entropy:032x}");
        let start = Instant::now();
        let hold_until = start + LONGEST_HOLD.min(deadline.saturating_duration_since(start) / 2);
        Self { invocation_id, traceparent: None, began, deadline, hold_until, commit_id, start, random }
    }

    /// Begins an attempt at what is left to do when this one is answered. It commits nothing.
    #[must_use]
    pub fn follow_up(&self, limit: Duration) -> Self {
        let (start, random) = (Instant::now(), RefCell::new(self.random()));
        let (invocation_id, traceparent, commit_id) = (self.invocation_id.clone(), None, String::new());
        let (began, deadline) = (self.time(), start + limit);
        Self { invocation_id, traceparent, began, deadline, hold_until: deadline, commit_id, start, random }
    }

    /// Returns the time of day.
    #[must_use]
    pub fn time(&self) -> OffsetDateTime {
        self.began + self.start.elapsed()
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

    fn attempt() -> Attempt {
        Attempt::new("5b0c1f4e".to_owned(), OffsetDateTime::UNIX_EPOCH, Instant::now(), 7)
    }

    #[test]
    fn two_generators_of_one_attempt_draw_differently_and_those_of_another_alike() {
        let draws = |attempt: &Attempt| [attempt.random().u64(..), attempt.random().u64(..)];
        let [first, second] = draws(&attempt());
        assert_ne!(first, second);
        assert_eq!(draws(&attempt()), [first, second]);
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_goes_on() {
        let attempt = attempt();
        tokio::time::advance(std::time::Duration::from_secs(90)).await;
        assert_eq!(attempt.time(), OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(90));
        assert_eq!(attempt.began, OffsetDateTime::UNIX_EPOCH);
    }
}
