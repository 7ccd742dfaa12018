//! Failures of a request, by what they mean for the next one.
//!
//! The question after a failed write is never "did it fail?" but "may it have been applied?". Only two errors say no:
//! the request was [not sent](Error::NotSent), or it was [refused](Error::Refused) with an answer that says so.

use std::{error::Error as StdError, time::Duration};

/// A request that did not succeed. No message holds a URL, a credential or stored content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection: the service knows nothing of the request.
    #[error("storage cannot be reached: {0}")]
    NotSent(String),
    /// The answer did not come, or not whole: the request may have been applied.
    #[error("storage did not answer: {0}")]
    Unanswered(String),
    /// The answer is not one the service gives: the request may have been applied.
    #[error("storage gave an answer that cannot be understood: {0}")]
    Garbled(String),
    /// The service answered with an error.
    #[error("storage answered {status} {code}{}{}", operation.map_or_else(String::new, |index| format!(" to operation {index}")), hint(code))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Error code of the [Table](https://learn.microsoft.com/rest/api/storageservices/table-service-error-codes) or
        /// the [Queue service](https://learn.microsoft.com/rest/api/storageservices/queue-service-error-codes), empty
        /// when the answer has none.
        code: String,
        /// Which operation of a batch was refused, from 0.
        operation: Option<usize>,
        /// Time that the service asked to wait.
        retry_after: Option<Duration>,
    },
    /// No access token can be had now: the service knows nothing of the request.
    #[error("no access token for storage: {cause}")]
    NoToken {
        /// Answer, or the lack of one.
        cause: String,
        /// Time that the identity endpoint asked to wait.
        retry_after: Option<Duration>,
    },
    /// There is no access token for the identity in the settings: the service knows nothing of the request.
    #[error(
        "no access token for the identity in AzureWebJobsStorage__credential and AzureWebJobsStorage__clientId, or in \
         their absence: {0}"
    )]
    IdentityRefused(String),
    /// The request cannot be made with these settings.
    #[error("the request to storage cannot be made: {0}")]
    Unsendable(String),
}

impl Error {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Unanswered(_) | Self::Garbled(_) | Self::NoToken { .. } => true,
            Self::Refused { status: 408 | 429 | 500 | 502..=504, .. } => true,
            Self::Refused { code, .. } => code == "TableBeingDeleted" || code == "QueueBeingDeleted",
            Self::IdentityRefused(_) | Self::Unsendable(_) => false,
        }
    }

    /// Returns the shortest wait before the same request is repeated; `None` when it cannot succeed later.
    #[must_use]
    pub fn wait_before_retry(&self) -> Option<Duration> {
        self.is_transient().then(|| self.retry_after().unwrap_or_default())
    }

    /// Whether the request may have been applied all the same. A throttled one was not.
    #[must_use]
    pub const fn may_be_applied(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Garbled(_) | Self::Refused { status: 408 | 500 | 502 | 504, .. })
    }

    /// Whether the service answered with this error code.
    #[must_use]
    pub fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == expected)
    }

    /// Whether an insert met an entity of the same key.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, code, .. } if !code.starts_with("Table"))
    }

    /// Whether the table is not there: a fact about the account, not about the row that was asked for.
    #[must_use]
    pub fn is_table_missing(&self) -> bool {
        self.has_code("TableNotFound")
    }

    /// Whether it is the request that was refused, for what is in it: to wait does not help, and another may be taken.
    #[must_use]
    pub const fn is_about_the_request(&self) -> bool {
        matches!(self, Self::Unsendable(_) | Self::Refused { status: 400 | 413, .. })
    }

    /// Whether the row that was asked for is not there.
    #[must_use]
    pub fn is_row_missing(&self) -> bool {
        self.has_code("ResourceNotFound") || self.has_code("EntityNotFound")
    }

    /// Whether the row is no longer what it was when its `ETag` was read.
    #[must_use]
    pub fn is_changed_or_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 412, .. }) || self.is_row_missing()
    }

    /// Returns the time that the service asked to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::NoToken { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The cause in a few ASCII words, fit for an HTTP reason phrase.
    #[must_use]
    pub const fn phrase(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "Storage cannot be reached",
            Self::Unanswered(_) => "Storage did not answer",
            Self::Garbled(_) => "Storage gave an answer that cannot be understood",
            Self::Refused { status: 401 | 403, .. } => "Storage refused the credential",
            Self::Refused { status: 429 | 503, .. } => "Storage is throttling",
            Self::Refused { status: 408 | 500..=599, .. } => "Storage failed",
            Self::Refused { .. } => "Storage refused the request",
            Self::NoToken { .. } => "No access token for storage",
            Self::IdentityRefused(_) => "No access token for this identity",
            Self::Unsendable(_) => "The request to storage cannot be made",
        }
    }
}

/// Says what a person can do.
fn hint(code: &str) -> &'static str {
    match code {
        "TableNotFound" => {
            ": create the table with `infra/` or `ops init`, unless it was deleted by mistake: the new one is \
             empty, and every id is new to it"
        }
        _ => "",
    }
}

/// Carries the error through the pipeline of the client unchanged.
impl From<Error> for azure_core::Error {
    fn from(error: Error) -> Self {
        Self::new(azure_core::error::ErrorKind::Other, error)
    }
}

/// Takes the error out of the pipeline again. What the client itself found wrong with a successful answer says nothing
/// about whether the request was applied; its text may hold stored content and is dropped.
impl From<azure_core::Error> for Error {
    fn from(error: azure_core::Error) -> Self {
        use azure_core::error::ErrorKind;
        // The client wraps the error of a credential.
        if let Some(own) = causes(&error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return own.clone();
        }
        match error.kind() {
            ErrorKind::Credential => {
                Self::Unsendable("no authorization can be made with the credential in the settings".to_owned())
            }
            kind => Self::Garbled(format!("{kind} error in the client")),
        }
    }
}

/// The error, its cause, the cause of that.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::error::ResultExt;

    fn refused(status: u16, code: &str) -> Error {
        Error::Refused { status, code: code.to_owned(), operation: None, retry_after: None }
    }

    fn no_token() -> Error {
        Error::NoToken { cause: String::new(), retry_after: None }
    }

    #[test]
    fn what_passes_by_is_transient_and_what_does_not_is_not() {
        for transient in [408, 429, 500, 502, 503, 504] {
            assert!(refused(transient, "").is_transient(), "{transient}");
        }
        for permanent in [302, 400, 401, 403, 404, 409, 412, 413, 501, 507] {
            assert!(!refused(permanent, "").is_transient(), "{permanent}");
        }
        assert!(refused(409, "TableBeingDeleted").is_transient());
        assert!(!Error::Unsendable(String::new()).is_transient());
        assert!(no_token().is_transient());
        assert!(!Error::IdentityRefused(String::new()).is_transient());
    }

    #[test]
    fn only_an_unsent_or_a_refused_request_is_known_not_to_be_applied() {
        for unsent in [Error::NotSent(String::new()), no_token(), Error::IdentityRefused(String::new())] {
            assert!(!unsent.may_be_applied(), "{unsent:?}");
        }
        for known in [400, 403, 404, 409, 412, 413, 429, 503] {
            assert!(!refused(known, "").may_be_applied(), "{known}");
        }
        for unknown in [408, 500, 502, 504] {
            assert!(refused(unknown, "").may_be_applied(), "{unknown}");
        }
        assert!(Error::Unanswered(String::new()).may_be_applied());
        assert!(Error::Garbled(String::new()).may_be_applied());
    }

    #[test]
    fn missing_row_and_missing_table_are_told_apart() {
        assert!(refused(404, "TableNotFound").is_table_missing());
        assert!(!refused(404, "TableNotFound").is_row_missing());
        assert!(refused(404, "ResourceNotFound").is_row_missing());
        assert!(!refused(404, "").is_row_missing(), "an unknown 404 must not be taken for an absent record");
    }

    #[test]
    fn a_409_about_the_table_is_no_409_about_the_row() {
        assert!(refused(409, "EntityAlreadyExists").is_conflict());
        assert!(refused(409, "").is_conflict());
        assert!(!refused(409, "TableBeingDeleted").is_conflict());
        assert!(!refused(409, "TableAlreadyExists").is_conflict());
    }

    #[test]
    fn the_pipeline_carries_an_error_unchanged() {
        let error = refused(409, "EntityAlreadyExists");
        assert_eq!(Error::from(azure_core::Error::from(error.clone())), error);
        let wrapped: azure_core::Result<()> = Err(error.clone().into());
        let wrapped = wrapped.context(azure_core::error::ErrorKind::Credential, "failed to get bearer token");
        assert_eq!(Error::from(wrapped.unwrap_err()), error);
    }

    #[test]
    fn phrases_are_ascii_and_fit_a_status_line() {
        let refused = [refused(403, ""), refused(503, ""), refused(400, "")];
        let unsent = [Error::NotSent(String::new()), no_token(), Error::IdentityRefused(String::new())];
        for error in refused.into_iter().chain(unsent) {
            assert!(error.phrase().is_ascii() && error.phrase().len() < 80 && !error.phrase().contains(['\r', '\n']));
        }
    }
}
