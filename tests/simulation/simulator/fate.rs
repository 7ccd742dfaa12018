//! What can become of a request between its sender and the service.

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    NotSent,
    RequestLost,
    ReplyLost,
    /// No answer; it is applied at some later time, or never.
    Delayed,
    Throttled,
    /// Refused with 429 and a time to wait.
    ThrottledFor,
    /// The answer is an error 500, and it was applied all the same.
    FailedAndApplied,
    Failed,
    /// An error 500 inside the answer to a transaction, which was not applied.
    FailedInside,
    /// It was applied, and nobody can read the answer.
    Garbled,
    /// Refused with 403, as while a role is being assigned.
    Forbidden,
    /// Refused with 409, because what was deleted is not gone yet.
    BeingDeleted,
}

impl Fate {
    pub(crate) const FAULTS: &[Self] = &[
        Self::NotSent,
        Self::RequestLost,
        Self::ReplyLost,
        Self::Delayed,
        Self::Throttled,
        Self::ThrottledFor,
        Self::FailedAndApplied,
        Self::Failed,
        Self::FailedInside,
        Self::Garbled,
        Self::Forbidden,
        Self::BeingDeleted,
    ];

    /// One of each kind: the others differ in their words only. Known not to be applied, lost either way, applied later.
    pub(crate) const KINDS_OF_FAULT: &[Self] = &[Self::NotSent, Self::RequestLost, Self::ReplyLost, Self::Delayed];
}
