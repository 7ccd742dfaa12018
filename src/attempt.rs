//! What one attempt knows about time and chance. Both are arguments everywhere, so that every run can be repeated.

use time::OffsetDateTime;
use tokio::time::Instant;

/// One attempt to serve one invocation.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The host's id of the invocation; the retries of a timer tick share it.
    pub invocation_id: String,
    /// When the attempt began.
    pub now: OffsetDateTime,
    /// When it must have ended: earlier than the host would kill the process, with every other invocation in it.
    pub deadline: Instant,
    /// Seeded for this attempt.
    pub random: fastrand::Rng,
}
