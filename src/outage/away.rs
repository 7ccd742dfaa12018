//! One outage: since when, why, and when it is time to ask again.

use crate::{attempt::Attempt, backoff::Backoff, storage};
use time::OffsetDateTime;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Away {
    pub(super) since: OffsetDateTime,
    pub(super) cause: storage::Error,
    /// Number of requests that asked whether it is back, and the time of the next one.
    probes: u32,
    next_probe: Instant,
}

impl Away {
    /// Begins an outage.
    pub(super) fn new(cause: storage::Error, attempt: &Attempt) -> Self {
        let next_probe = Instant::now() + Backoff::PROBES.delay(0, &mut attempt.random());
        Self { since: attempt.time(), cause, probes: 0, next_probe }
    }

    /// Takes the turn to ask; if it is not time, says when it will be.
    pub(super) fn turn(&mut self, attempt: &Attempt) -> Result<bool, Instant> {
        let now = Instant::now();
        if now < self.next_probe {
            return Err(self.next_probe);
        }
        self.probes += 1;
        self.next_probe = now + Backoff::PROBES.delay(self.probes, &mut attempt.random());
        Ok(true)
    }
}

/// A service was still away when there was no more time to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {service} is away: {cause}")]
pub struct StillAway {
    /// Name of the service.
    pub service: String,
    /// Last error.
    pub cause: storage::Error,
}

/// Why a request has not succeeded that could wait for its service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service is away.
    #[error(transparent)]
    Away(#[from] StillAway),
    /// The service is there, and does not do this.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}
