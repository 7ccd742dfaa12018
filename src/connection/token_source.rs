//! The place where tokens come from: the identity endpoint of the platform, Microsoft Entra ID, or a command line.
//!
//! `azure_identity` 1.x composes the requests and reads the answers, such as those of a [managed
//! identity](https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference). They go
//! through the client of the storage. An answer that is no success becomes an [`Error`] here, by what it means: it
//! passes through the crate and its own retries unchanged.

use super::identity::Identity;
use crate::storage::{Error, error::causes};
use async_trait::async_trait;
use azure_core::auth::AccessToken;
use azure_core_1::{
    credentials::TokenCredential,
    error::ErrorKind,
    http::{
        AsyncRawResponse, ClientOptions, HttpClient, Request, Transport,
        headers::{HeaderName, Headers},
    },
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// The scope of all storage services.
const SCOPE: &str = "https://storage.azure.com/.default";

/// The command lines of Azure take seconds. Requests have time limits of their own, which are shorter.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the credential of an identity.
pub(super) fn new(identity: &Identity, client: Arc<dyn HttpClient>) -> Result<Arc<dyn TokenCredential>, Error> {
    let transport = Transport::new(Arc::new(StrictClient(client)));
    let client_options = ClientOptions { transport: Some(transport), ..ClientOptions::default() };
    let credential: azure_core_1::Result<Arc<dyn TokenCredential>> = match identity.clone() {
        Identity::Managed { client_id } => {
            let user_assigned_id = client_id.map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options)).map(|credential| credential as _)
        }
        Identity::ServicePrincipal { tenant_id, client_id, secret } => {
            let options = Some(ClientSecretCredentialOptions { client_options });
            ClientSecretCredential::new(&tenant_id, client_id, secret, options).map(|credential| credential as _)
        }
        Identity::Developer => DeveloperToolsCredential::new(None).map(|credential| credential as _),
    };
    credential.map_err(|error| refused(&error))
}

/// Requests a token.
pub(super) async fn request(credential: &dyn TokenCredential) -> Result<AccessToken, Error> {
    match timeout(TIMEOUT, credential.get_token(&[SCOPE], None)).await {
        Ok(Ok(token)) if is_token(token.token.secret()) => {
            Ok(AccessToken::new(token.token.secret().to_owned(), token.expires_on))
        }
        Ok(Ok(_)) => Err(garbled()),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(unavailable(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// Hands on answers that are a success.
#[derive(Debug)]
struct StrictClient(Arc<dyn HttpClient>);

#[async_trait]
impl HttpClient for StrictClient {
    async fn execute_request(&self, request: &Request) -> azure_core_1::Result<AsyncRawResponse> {
        let answer = self.0.execute_request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let answer = answer.try_into_raw_response().await?;
        let error = unsuccessful(answer.status().into(), answer.headers(), answer.body().as_ref());
        // The kind is one that the crate does not repeat.
        Err(azure_core_1::Error::new(ErrorKind::Other, error))
    }
}

/// Sorts answers by [the platform's
/// rules](https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling).
fn unsuccessful(status: u16, headers: &Headers, body: &[u8]) -> Error {
    let cause = format!("the identity endpoint answered {status}{}", explanation(body));
    let seconds = headers.get_optional_str(&HeaderName::from_static("retry-after")).and_then(|text| text.parse().ok());
    match status {
        404 | 408 | 410 | 429 | 500..=599 => Error::NoToken { cause, retry_after: seconds.map(Duration::from_secs) },
        _ => Error::IdentityRefused(cause),
    }
}

/// Reads what the platform, or Entra ID, says of a failure.
fn explanation(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = body["message"].as_str().or_else(|| body["error_description"].as_str());
    text.map_or_else(String::new, |text| format!(": {}", one_line(text)))
}

/// There may be a token later.
fn unavailable(cause: String) -> Error {
    Error::NoToken { cause, retry_after: None }
}

/// Says nothing of what it was: it may have been a part of a token.
fn garbled() -> Error {
    unavailable("what was answered is not a token".to_owned())
}

/// Of some answers the crate makes an empty token.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

fn failure(error: &azure_core_1::Error) -> Error {
    let mut kinds = causes(error).filter_map(|cause| Some(cause.downcast_ref::<azure_core_1::Error>()?.kind()));
    match causes(error).find_map(|cause| cause.downcast_ref()) {
        Some(Error::NotSent(cause)) => unavailable(format!("the identity endpoint cannot be reached: {cause}")),
        Some(Error::Unanswered(cause)) => unavailable(format!("the identity endpoint did not answer: {cause}")),
        Some(own @ (Error::NoToken { .. } | Error::IdentityRefused(_))) => own.clone(),
        Some(other) => unavailable(format!("the identity endpoint: {other}")),
        None if kinds.any(|kind| matches!(kind, ErrorKind::DataConversion)) => garbled(),
        None => refused(error),
    }
}

/// Keeps the text: a command line of Azure says what is to be done, such as signing in.
fn refused(error: &azure_core_1::Error) -> Error {
    Error::IdentityRefused(one_line(&error.to_string()))
}

/// Joins the lines of a text, without the crate's advice where to read on.
fn one_line(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("To troubleshoot"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").chars().take(500).collect()
}
