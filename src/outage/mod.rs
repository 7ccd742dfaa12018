//! Whether a service is away, found out by one invocation for all.
//!
//! An outage is waited out. An invocation that meets one holds its message, so that the listener of the host, which has
//! only so many invocations at a time, leaves the others on the queue. While a service is away, one request in a while
//! asks for all whether it is back: a [circuit
//! breaker](https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker). Any request that succeeds ends the
//! outage, and everybody goes on at once.

mod away;

pub use away::{Error, StillAway};

use crate::{attempt::Attempt, storage};
use away::Away;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::warn;

/// Time between two warnings about one service.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What is known of a service.
#[derive(Debug)]
pub struct Outage {
    service: String,
    /// Whether nothing is printed.
    is_silent: bool,
    state: Mutex<State>,
    back: Notify,
    /// Taken by the invocation that asks whether a failure is an outage.
    question: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    last_success: Option<Instant>,
    away: Option<Away>,
    /// Number of invocations that wait.
    held: usize,
    /// Number of messages that were put back since the service went away or came back, and since the timer asked.
    given_back: u64,
    unreported: u64,
    next_warning: Option<Instant>,
}

impl Outage {
    /// Creates the state of a service that is not known to be away.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self { is_silent: false, ..Self::silent(service) }
    }

    /// The same for a part of a service, about which nothing is printed.
    #[must_use]
    pub fn silent(part: impl Into<String>) -> Self {
        Self {
            service: part.into(),
            is_silent: true,
            state: Mutex::default(),
            back: Notify::new(),
            question: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the outage that there is.
    #[must_use]
    pub fn now(&self) -> Option<StillAway> {
        let state = self.state();
        state.away.as_ref().map(|away| StillAway { service: self.service.clone(), cause: away.cause.clone() })
    }

    /// Returns whether any request has succeeded.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.state().last_success.is_some()
    }

    /// Returns the number of messages that were put back since this was asked last.
    #[must_use]
    pub fn take_given_back(&self) -> u64 {
        std::mem::take(&mut self.state().unreported)
    }

    /// Notes that a request succeeded.
    pub fn succeeded(&self) {
        let mut state = self.state();
        state.last_success = Some(Instant::now());
        if let Some(away) = state.away.take() {
            state.next_warning = None;
            let (since, held, given_back) = (text(away.since), state.held, std::mem::take(&mut state.given_back));
            if !self.is_silent {
                warn!(
                    "Storage back: {}, away since {since}; {held} messages held, {given_back} given back",
                    self.service
                );
            }
            self.back.notify_waiters();
        }
    }

    /// Notes that a request failed as all of them do: the service is away, unless another has succeeded since `begin`.
    pub fn failed(&self, begin: Instant, cause: &storage::Error, attempt: &Attempt) {
        let mut state = self.state();
        if state.last_success.is_some_and(|success| success >= begin) {
            return;
        }
        if state.away.is_none() {
            (state.given_back, state.next_warning) = (0, None);
        }
        state.away.get_or_insert_with(|| Away::new(cause.clone(), attempt)).cause = cause.clone();
        self.warn(&mut state, None);
    }

    /// Notes that a message was put back for this reason, whether or not the service is away.
    pub fn gave_back(&self, cause: &str) {
        let mut state = self.state();
        state.given_back += 1;
        state.unreported += 1;
        self.warn(&mut state, Some(cause));
    }

    /// Finds out whether the service is away, after a request failed just now. One invocation asks, with `probe`; the
    /// others take its word.
    pub async fn is_away(&self, attempt: &Attempt, probe: impl Future<Output = Result<(), storage::Error>>) -> bool {
        let failed_at = Instant::now();
        let _asking = self.question.lock().await;
        let is_known = {
            let state = self.state();
            state.away.is_some() || state.last_success.is_some_and(|success| success >= failed_at)
        };
        if !is_known {
            self.hear(failed_at, probe.await, attempt);
        }
        self.state().away.is_some()
    }

    /// Waits while the service is away, until `until` at the latest. `probe` asks whether it is back.
    ///
    /// # Errors
    ///
    /// It is still away.
    pub async fn wait(
        &self,
        until: Instant,
        attempt: &Attempt,
        probe: impl AsyncFn() -> Result<(), storage::Error>,
    ) -> Result<(), StillAway> {
        while self.turn(until, attempt).await? {
            self.hear(Instant::now(), probe().await, attempt);
        }
        Ok(())
    }

    /// Repeats a `request` that fails because the service is away, until `until` at the latest. While it is away, the
    /// request of one invocation asks for all.
    ///
    /// # Errors
    ///
    /// The request has not succeeded.
    pub async fn insist(
        &self,
        until: Instant,
        attempt: &Attempt,
        request: impl AsyncFn() -> Result<(), storage::Error>,
    ) -> Result<(), Error> {
        loop {
            self.turn(until, attempt).await?;
            let begin = Instant::now();
            let result = request().await;
            self.note(begin, &result, attempt);
            match result {
                Err(error) if error.is_about_the_request() || self.now().is_none() => return Err(error.into()),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Whether a request may be made now: the service is not known to be away, or it is time to ask.
    #[must_use]
    pub fn is_open(&self, attempt: &Attempt) -> bool {
        self.turn_now(attempt).is_ok()
    }

    /// Notes what the result of a request, made at `begin`, says about the service. One that was refused for what is in it
    /// says nothing.
    pub fn note(&self, begin: Instant, result: &Result<(), storage::Error>, attempt: &Attempt) {
        if !matches!(result, Err(error) if error.is_about_the_request()) {
            self.hear(begin, result.clone(), attempt);
        }
    }

    /// Notes the result of a probe, which fails only when everything does.
    fn hear(&self, begin: Instant, result: Result<(), storage::Error>, attempt: &Attempt) {
        match result {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(begin, &error, attempt),
        }
    }

    /// Waits until the service is not known to be away, or until it is this invocation's turn to ask: then it is `true`.
    async fn turn(&self, until: Instant, attempt: &Attempt) -> Result<bool, StillAway> {
        let mut held = None;
        loop {
            let back = self.back.notified();
            let next_probe = match self.turn_now(attempt) {
                Ok(asks) => return Ok(asks),
                Err(next_probe) => next_probe,
            };
            if let Some(away) = self.now().filter(|_| Instant::now() >= until) {
                return Err(away);
            }
            held.get_or_insert_with(|| Held::new(self));
            select! {
                () = back => {}
                () = sleep_until(next_probe.min(until)) => {}
            }
        }
    }

    /// Says whether an invocation has to ask before it goes on; it cannot before this time if another one has asked.
    fn turn_now(&self, attempt: &Attempt) -> Result<bool, Instant> {
        match &mut self.state().away {
            None => Ok(false),
            Some(away) => away.turn(attempt),
        }
    }

    /// Warns, unless it was done within a minute.
    fn warn(&self, state: &mut State, given_back_for: Option<&str>) {
        let now = Instant::now();
        if self.is_silent || state.next_warning.is_some_and(|next| now < next) {
            return;
        }
        let (service, held, given_back) = (&self.service, state.held, state.given_back);
        match (&state.away, given_back_for) {
            (Some(Away { since, cause, .. }), _) => {
                let since = text(*since);
                warn!(
                    "Storage away: {service} since {since}; {held} messages held, {given_back} given back; last error: {cause}"
                );
            }
            (None, Some(cause)) => {
                warn!("Given back: {given_back} messages, while the {service} answers others; last error: {cause}");
            }
            (None, None) => return,
        }
        state.next_warning = Some(now + WARNING_INTERVAL);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// An invocation that waits, counted for as long as it does.
struct Held<'a>(&'a Outage);

impl<'a> Held<'a> {
    fn new(outage: &'a Outage) -> Self {
        outage.state().held += 1;
        Self(outage)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::cell::Cell;
    use time::macros::datetime;

    const HELD: usize = 24;

    fn refused() -> storage::Error {
        storage::Error::NotSent("connection refused".to_owned())
    }

    fn attempt() -> Attempt {
        let deadline = Instant::now() + Duration::from_secs(290);
        Attempt::new("5b0c1f4e".to_owned(), datetime!(2026-11-21 10:20 UTC), deadline, 1)
    }

    /// A service that is away until a time, and counts what is asked of it.
    struct Service {
        outage: Outage,
        back_at: Cell<Instant>,
        asked: Cell<usize>,
    }

    impl Service {
        fn away_for(seconds: u64) -> Self {
            let back_at = Cell::new(Instant::now() + Duration::from_secs(seconds));
            Self { outage: Outage::new("table"), back_at, asked: Cell::new(0) }
        }

        async fn ask(&self) -> Result<(), storage::Error> {
            self.asked.set(self.asked.get() + 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
            if Instant::now() < self.back_at.get() { Err(refused()) } else { Ok(()) }
        }

        async fn is_away(&self) -> bool {
            self.outage.is_away(&attempt(), self.ask()).await
        }

        async fn wait(&self, attempt: &Attempt) -> Result<(), StillAway> {
            self.outage.wait(attempt.hold_until, attempt, async || self.ask().await).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_invocation_asks_for_all_whether_a_failure_is_an_outage() {
        let away = Service::away_for(3600);
        assert!(join_all((0..HELD).map(|_| away.is_away())).await.iter().all(|is_away| *is_away));
        let there = Service::away_for(0);
        assert!(join_all((0..HELD).map(|_| there.is_away())).await.iter().all(|is_away| !is_away));
        assert_eq!((away.asked.get(), there.asked.get()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_has_done_something_since_the_failure_is_not_away() {
        let service = Service::away_for(3600);
        let failed_at = Instant::now();
        service.outage.succeeded();
        service.outage.failed(failed_at, &refused(), &attempt());
        assert_eq!(service.outage.now(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_service_is_away_few_requests_ask_and_all_go_on_when_it_is_back() {
        let service = Service::away_for(35);
        let start = Instant::now();
        assert!(service.is_away().await);
        let attempts: Vec<_> = (0..HELD).map(|_| attempt()).collect();
        let waits = attempts.iter().map(async |attempt| {
            service.wait(attempt).await.unwrap();
            start.elapsed()
        });
        let waited = join_all(waits).await;
        assert!(waited.iter().all(|time| *time == waited[0]), "{waited:?}");
        assert!((35..=55).contains(&waited[0].as_secs()), "{waited:?}");
        assert!((3..=15).contains(&service.asked.get()), "{}", service.asked.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_time_to_put_the_message_back() {
        let service = Service::away_for(3600);
        assert!(service.is_away().await);
        let (start, attempt) = (Instant::now(), attempt());
        assert_eq!(service.wait(&attempt).await, Err(StillAway { service: "table".to_owned(), cause: refused() }));
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(attempt.hold_until, start + Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_of_anybody_ends_the_outage_for_all() {
        let service = Service::away_for(3600);
        assert!(service.is_away().await);
        let attempt = attempt();
        let start = Instant::now();
        let succeed = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            service.outage.succeeded();
        };
        let (waited, ()) = futures::join!(service.wait(&attempt), succeed);
        assert_eq!((waited, start.elapsed().as_secs()), (Ok(()), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_may_wait_is_repeated_until_it_succeeds() {
        let service = Service::away_for(30);
        let attempt = attempt();
        service.outage.insist(attempt.hold_until, &attempt, async || service.ask().await).await.unwrap();
        assert!((2..=12).contains(&service.asked.get()), "{}", service.asked.get());
        let result = service.outage.insist(attempt.hold_until, &attempt, async || {
            Err(storage::Error::Refused { status: 413, code: String::new(), operation: None, retry_after: None })
        });
        assert!(matches!(result.await, Err(Error::Storage(_))), "it was refused for what is in it");
        assert_eq!(service.outage.now(), None);
    }
}
