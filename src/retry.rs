//! Trying again: a [`Backoff`] is an iterator of pauses, and [`until`] is the one loop that uses it.
//!
//! Pauses grow exponentially and are drawn with *full jitter* (uniformly between nothing and the ceiling of the
//! step), because many workers that failed together must not come back together: see
//! [Exponential backoff and jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
//! Which errors are worth another attempt is the caller's knowledge, so an attempt says it in its answer.

use std::time::Duration;
use tokio::time::Instant;

/// How often to try again, and how long to wait at most before each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first pause; it doubles with each further one.
    pub base: Duration,
    /// No pause is longer than this.
    pub cap: Duration,
    /// Attempts after the first.
    pub retries: u32,
}

impl Backoff {
    /// For the queue: nobody waits for the answer, and each attempt saved here is a delivery saved on the queue,
    /// which has only `maxDequeueCount` of them. About 6 s of pauses on average, 13 s at most.
    pub const PATIENT: Self = Self { base: Duration::from_millis(200), cap: Duration::from_secs(10), retries: 6 };

    /// For the timer: the host repeats the whole tick after 5 s anyway.
    pub const IMPATIENT: Self = Self { base: Duration::from_millis(100), cap: Duration::from_secs(1), retries: 2 };

    /// The pauses, each drawn from `random` when it is asked for.
    pub fn pauses(self, mut random: fastrand::Rng) -> impl Iterator<Item = Duration> {
        (0..self.retries).map(move |step| {
            let ceiling = self.base.saturating_mul(2_u32.saturating_pow(step)).min(self.cap);
            ceiling.mul_f64(random.f64())
        })
    }
}

/// Why an attempt gave no result.
#[derive(Debug)]
pub enum Failed<E> {
    /// Another attempt may succeed.
    Transient {
        /// Returned when no further attempt is allowed.
        cause: E,
        /// The service asked not to come back earlier than this.
        retry_after: Option<Duration>,
    },
    /// No attempt will succeed, or none is safe.
    Permanent(E),
}

/// Calls `attempt` until it succeeds, fails for good, the `pauses` are used up, or the next attempt would begin
/// after the `deadline`.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn until<T, E>(
    deadline: Instant,
    mut pauses: impl Iterator<Item = Duration>,
    mut attempt: impl AsyncFnMut() -> Result<T, Failed<E>>,
) -> Result<T, E> {
    loop {
        let (cause, retry_after) = match attempt().await {
            Ok(value) => return Ok(value),
            Err(Failed::Permanent(cause)) => return Err(cause),
            Err(Failed::Transient { cause, retry_after }) => (cause, retry_after),
        };
        let Some(pause) = pauses.next() else { return Err(cause) };
        let resume = Instant::now() + pause.max(retry_after.unwrap_or_default());
        if resume >= deadline {
            return Err(cause);
        }
        tokio::time::sleep_until(resume).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn transient(retry_after: Option<Duration>) -> Failed<&'static str> {
        Failed::Transient { cause: "busy", retry_after }
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    proptest! {
        #[test]
        fn pauses_stay_within_the_doubling_ceiling_and_the_cap(
            seed: u64, base in 1_u64..10_000, cap in 1_u64..60_000, retries in 0_u32..80
        ) {
            let backoff = Backoff { base: Duration::from_millis(base), cap: Duration::from_millis(cap), retries };
            let pauses: Vec<_> = backoff.pauses(fastrand::Rng::with_seed(seed)).collect();
            prop_assert_eq!(pauses.len(), retries as usize);
            for (step, pause) in pauses.iter().enumerate() {
                let doubled = u128::from(base) << step.min(64);
                prop_assert!(pause.as_millis() <= doubled.min(u128::from(cap)));
            }
        }
    }

    #[test]
    fn pauses_use_the_full_range_from_nothing_to_the_ceiling() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1), retries: 1000 };
        let pauses: Vec<_> = backoff.pauses(fastrand::Rng::with_seed(7)).collect();
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(50)));
        assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(950)));
    }

    #[tokio::test(start_paused = true)]
    async fn succeeds_after_transient_failures_and_waits_the_pauses() {
        let calls = Cell::new(0);
        let start = Instant::now();
        let pauses = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
        let result = until(in_an_hour(), pauses.into_iter(), async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(transient(None)) } else { Ok(calls.get()) }
        })
        .await;
        assert_eq!(result, Ok(3));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_repeated() {
        let calls = Cell::new(0);
        let result: Result<(), _> = until(in_an_hour(), [Duration::ZERO; 5].into_iter(), async || {
            calls.set(calls.get() + 1);
            Err(Failed::Permanent("refused"))
        })
        .await;
        assert_eq!((result, calls.get()), (Err("refused"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_with_the_last_error_when_the_pauses_are_used_up() {
        let calls = Cell::new(0);
        let result: Result<(), _> = until(in_an_hour(), [Duration::ZERO; 2].into_iter(), async || {
            calls.set(calls.get() + 1);
            Err(transient(None))
        })
        .await;
        assert_eq!((result, calls.get()), (Err("busy"), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_at_least_as_long_as_the_service_asks() {
        let calls = Cell::new(0);
        let start = Instant::now();
        let result = until(in_an_hour(), [Duration::from_secs(1)].into_iter(), async || {
            calls.set(calls.get() + 1);
            if calls.get() == 1 { Err(transient(Some(Duration::from_secs(30)))) } else { Ok(()) }
        })
        .await;
        assert_eq!(result, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_wait_for_an_attempt_that_would_begin_after_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(10);
        let result: Result<(), _> = until(deadline, [Duration::from_secs(1); 5].into_iter(), async || {
            Err(transient(Some(Duration::from_secs(60))))
        })
        .await;
        assert_eq!(result, Err("busy"));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
