//! The cure of a request that failed. The errors of the library say what happened.

use handler::storage::Error;

/// Says what an operator can do about a request that failed.
pub(crate) fn cure(error: &Error) -> &'static str {
    match error {
        Error::NotSent(_) => {
            "look at the name of the account, its endpoints and its firewall. Without --account, --connection and \
             AzureWebJobsStorage it is the emulator on this machine"
        }
        Error::Garbled(_) => "look at the endpoint: is it Azure Storage, or a proxy?",
        Error::NoToken { .. } | Error::IdentityRefused(_) => {
            "sign in with `az login` or `azd auth login`, as somebody with rights on this account"
        }
        Error::Refused { code, .. } if code == "AuthenticationFailed" => {
            "look at the key or the signature, which may have expired, and at the clock of this machine: see `ops doctor`"
        }
        Error::Refused { status: 401 | 403, .. } => {
            "Storage Queue Data Contributor and Storage Table Data Contributor, given minutes ago at the latest; or the \
             firewall. With a signature, all rights on queues and tables. See docs/deploy.md, who may do what"
        }
        Error::Refused { status: 404, .. } => {
            "look at --account and IDEMPOTENCY_TABLE; `ops init` creates what is missing"
        }
        error if error.is_transient() => "wait until the service answers, and run this again",
        _ => "look for the code in the documentation of Azure Storage",
    }
}
