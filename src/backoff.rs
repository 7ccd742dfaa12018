//! Retries: a [`Backoff`] is an iterator of delays, and [`retry`] is the one loop that uses it.
//!
//! Delays grow exponentially and are drawn with *full jitter* (uniformly between nothing and the ceiling of the
//! step), because many workers that failed together must not come back together: see
//! [Exponential backoff and jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
//! Which errors are worth another attempt is the caller's knowledge.

use std::time::Duration;
use tokio::time::Instant;

/// Number of retries, and the longest delay before each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first delay; it doubles with each further one.
    pub base: Duration,
    /// Ceiling of all delays.
    pub cap: Duration,
    /// Attempts after the first.
    pub retries: u32,
}

impl Backoff {
    /// For asking whether a service is back: soon after it went away, and a few times a minute later on.
    pub const PROBES: Self = Self { base: Duration::from_secs(1), cap: Duration::from_secs(20), retries: u32::MAX };

    /// For everything else. What fails for longer is taken up later: an order goes back to its queue, the host repeats a tick
    /// after 5 s, and the timer publishes events.
    pub const IMPATIENT: Self = Self { base: Duration::from_millis(100), cap: Duration::from_secs(1), retries: 2 };

    /// Draws the delays from `random`, each when it is asked for.
    pub fn delays(self, mut random: fastrand::Rng) -> impl Iterator<Item = Duration> {
        (0..self.retries).map(move |step| self.delay(step, &mut random))
    }

    /// Draws the delay before the retry `step`, from 0.
    #[must_use]
    pub fn delay(self, step: u32, random: &mut fastrand::Rng) -> Duration {
        let ceiling = self.base.saturating_mul(2_u32.saturating_pow(step)).min(self.cap);
        ceiling.mul_f64(random.f64())
    }
}

/// Calls `attempt` until it succeeds, fails for good, has used up the `delays`, or would begin again after the
/// `deadline`. An error is worth another attempt when `wait_after` says how long the service asked to wait, if only for
/// no time at all.
///
/// # Errors
///
/// The error of the last attempt.
pub async fn retry<T, E>(
    deadline: Instant,
    mut delays: impl Iterator<Item = Duration>,
    wait_after: impl Fn(&E) -> Option<Duration>,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some((wait, delay)) = wait_after(&error).and_then(|wait| Some((wait, delays.next()?))) else {
            return Err(error);
        };
        let resume = Instant::now() + delay.max(wait);
        if resume >= deadline {
            return Err(error);
        }
        tokio::time::sleep_until(resume).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// An error that asks to wait so many seconds; without a number it is permanent.
    type Asked = Option<u64>;

    fn wait_after(error: &Asked) -> Option<Duration> {
        error.map(Duration::from_secs)
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    proptest! {
        #[test]
        fn delays_stay_within_the_doubling_ceiling_and_the_cap(
            seed: u64, base in 1_u64..10_000, cap in 1_u64..60_000, retries in 0_u32..80
        ) {
            let backoff = Backoff { base: Duration::from_millis(base), cap: Duration::from_millis(cap), retries };
            let delays: Vec<_> = backoff.delays(fastrand::Rng::with_seed(seed)).collect();
            prop_assert_eq!(delays.len(), retries as usize);
            for (step, delay) in delays.iter().enumerate() {
                let doubled = u128::from(base) << step.min(64);
                prop_assert!(delay.as_millis() <= doubled.min(u128::from(cap)));
            }
        }
    }

    #[test]
    fn delays_use_the_full_range_from_nothing_to_the_ceiling() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1), retries: 1000 };
        let delays: Vec<_> = backoff.delays(fastrand::Rng::with_seed(7)).collect();
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(50)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(950)));
    }

    #[tokio::test(start_paused = true)]
    async fn succeeds_after_transient_failures_and_waits_the_delays() {
        let calls = Cell::new(0);
        let start = Instant::now();
        let delays = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
        let result = retry(in_an_hour(), delays.into_iter(), wait_after, async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(Some(0)) } else { Ok(calls.get()) }
        })
        .await;
        assert_eq!(result, Ok(3));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_repeated() {
        let calls = Cell::new(0);
        let result: Result<(), _> = retry(in_an_hour(), [Duration::ZERO; 5].into_iter(), wait_after, async || {
            calls.set(calls.get() + 1);
            Err(None)
        })
        .await;
        assert_eq!((result, calls.get()), (Err(None), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_with_the_last_error_when_the_delays_are_used_up() {
        let calls = Cell::new(0);
        let result: Result<(), _> = retry(in_an_hour(), [Duration::ZERO; 2].into_iter(), wait_after, async || {
            calls.set(calls.get() + 1);
            Err(Some(0))
        })
        .await;
        assert_eq!((result, calls.get()), (Err(Some(0)), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_at_least_as_long_as_the_service_asks() {
        let calls = Cell::new(0);
        let start = Instant::now();
        let result = retry(in_an_hour(), [Duration::from_secs(1)].into_iter(), wait_after, async || {
            calls.set(calls.get() + 1);
            if calls.get() == 1 { Err(Some(30)) } else { Ok(()) }
        })
        .await;
        assert_eq!(result, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_wait_for_an_attempt_that_would_begin_after_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(10);
        let result: Result<(), _> =
            retry(deadline, [Duration::from_secs(1); 5].into_iter(), wait_after, async || Err(Some(60))).await;
        assert_eq!(result, Err(Some(60)));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
