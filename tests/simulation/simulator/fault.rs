//! The faults that a request can meet between its sender and the service.

use test_storage::emulated::{Call, Response};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NotSent,
    RequestLost,
    ResponseLost,
    /// No response; the request is applied later, or never.
    Delayed,
    Throttled,
    /// Refused with 429 and a time to wait.
    ThrottledFor,
    /// Answered with 500, although the request was applied.
    FailedAndApplied,
    Failed,
    /// Answered with 500 inside the response to a transaction, which was not applied.
    FailedInside,
    /// Applied, with a response that nobody can read.
    Garbled,
    /// Refused with 403, as before a role assignment is in effect.
    Forbidden,
    /// Refused with 409, because what was deleted is not gone yet.
    BeingDeleted,
}

impl Fault {
    pub(crate) const ALL: &[Self] = &[
        Self::NotSent,
        Self::RequestLost,
        Self::ResponseLost,
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

    /// One of each kind: known not to be applied, lost either way, applied later. The others differ in their words only.
    pub(crate) const KINDS: &[Self] = &[Self::NotSent, Self::RequestLost, Self::ResponseLost, Self::Delayed];

    /// Tells whether the service applies the request before the fault happens.
    pub(crate) const fn is_applied(self) -> bool {
        matches!(self, Self::ResponseLost | Self::FailedAndApplied | Self::Garbled)
    }

    /// Returns the response to `call` in place of the `right` one; `None` if there is no response.
    pub(crate) fn response(self, call: &Call, right: Option<Response>) -> Option<Response> {
        let refused = |status, code| Some(Response::table_error((status, code)));
        match self {
            Self::NotSent | Self::RequestLost | Self::ResponseLost | Self::Delayed => None,
            Self::Throttled => refused(503, "ServerBusy"),
            Self::ThrottledFor => {
                let mut response = Response::table_error((429, "TooManyRequests"));
                response.headers.push(("retry-after", "3".to_owned()));
                Some(response)
            }
            Self::FailedInside if matches!(call, Call::Transaction(_)) => {
                Some(Response::transaction_error((500, "InternalError"), 0))
            }
            Self::FailedAndApplied | Self::Failed | Self::FailedInside => refused(500, "InternalError"),
            Self::Garbled => right.map(|right| Response { body: "<html>".to_owned(), ..right }),
            Self::Forbidden => refused(403, "AuthorizationPermissionMismatch"),
            Self::BeingDeleted if matches!(call, Call::Put(..) | Call::CreateQueue(_)) => {
                Some(Response::queue_error((409, "QueueBeingDeleted")))
            }
            Self::BeingDeleted => refused(409, "TableBeingDeleted"),
        }
    }
}
