//! Access tokens for an [`Identity`]: got when they are first needed, kept, and renewed before they expire.
//!
//! `azure_identity` 1.x knows the protocols, such as that of a [managed
//! identity](https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference). The
//! client of the tables asks for tokens by the trait of `azure_core` 0.21. This module is the bridge.
//!
//! By itself the crate makes every request wait while a token is renewed, and fail when it cannot be, though the old
//! one is good for minutes. Here
//!
//! - callers that need a token at the same time wait for one exchange, and share its failure too;
//! - a token is renewed five minutes before it expires, by one caller; the others go on with the old one, and so does
//!   that caller when the exchange fails;
//! - nothing is repeated: a token that cannot be had now is a [transient](Error::is_transient) error of the request to
//!   the storage, which was not sent, and is repeated like any other.

use super::{
    Error,
    error::causes,
    identity::Identity,
    identity_endpoint::{IdentityEndpoint, one_line, unavailable},
};
use async_trait::async_trait;
use azure_core::{
    HttpClient,
    auth::{AccessToken, TokenCredential},
};
use azure_core_1::{
    credentials::{Secret, TokenCredential as Source},
    error::ErrorKind,
    http::{ClientOptions, Transport},
};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential, AzureDeveloperCliCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

/// Of all storage services.
const SCOPE: &str = "https://storage.azure.com/.default";

/// A token is renewed when it expires in less than this. `azure_identity` keeps tokens too, and for as long.
const EARLY: time::Duration = time::Duration::minutes(5);

/// While a token is good, no more than one exchange is begun in this time.
const PAUSE: Duration = Duration::from_secs(30);

/// The command lines of Azure take seconds. Requests have [limits](super::http_client) of their own, which are shorter.
const LIMIT: Duration = Duration::from_secs(30);

/// Tells the time of day.
pub type Clock = fn() -> OffsetDateTime;

/// The tokens of one identity.
pub struct Tokens(Arc<Shelf>);

type Exchange = BoxFuture<'static, Result<AccessToken, Error>>;

struct Shelf {
    /// The first one that has a token is asked.
    sources: Vec<Arc<dyn Source>>,
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<AccessToken>,
    /// Gone when nobody waits for it any more.
    exchange: Option<WeakShared<Exchange>>,
    /// When the last exchange ended.
    ended: Option<Instant>,
}

/// What one caller does.
enum Step {
    Use(AccessToken),
    Wait { exchange: Shared<Exchange>, old: Option<AccessToken> },
}

/// Prints no token.
impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens for `identity`, asked for through `connection`, and as old as `clock` says. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No token can ever be had for an identity like this.
    pub fn new(identity: &Identity, connection: Arc<dyn HttpClient>, clock: Clock) -> Result<Self, Error> {
        let sources = sources(identity, connection).map_err(|error| refused(&error))?;
        Ok(Self(Arc::new(Shelf { sources, clock, held: Mutex::default() })))
    }
}

#[async_trait]
impl TokenCredential for Tokens {
    /// The client asks for the one scope of the storage services only.
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<AccessToken> {
        match self.0.step() {
            Step::Use(token) => Ok(token),
            Step::Wait { exchange, old } => exchange.await.or_else(|error| {
                // The exchange takes time, in which the old one may have expired.
                old.filter(|token| token.expires_on > (self.0.clock)()).ok_or_else(|| error.into())
            }),
        }
    }

    /// Does nothing: nobody asks for it, and the token would come back from the cache of `azure_identity`.
    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(())
    }
}

impl Shelf {
    fn step(self: &Arc<Self>) -> Step {
        let mut held = self.lock();
        let now = (self.clock)();
        let running = held.exchange.as_ref().and_then(WeakShared::upgrade);
        let old = held.token.clone().filter(|token| token.expires_on > now);
        if let Some(token) = &old {
            let rests = held.ended.is_some_and(|ended| ended.elapsed() < PAUSE);
            if token.expires_on > now + EARLY || running.is_some() || rests {
                return Step::Use(token.clone());
            }
        }
        let exchange = running.unwrap_or_else(|| Arc::clone(self).exchange().boxed().shared());
        held.exchange = exchange.downgrade();
        Step::Wait { exchange, old }
    }

    async fn exchange(self: Arc<Self>) -> Result<AccessToken, Error> {
        let result = self.ask().await;
        let mut held = self.lock();
        held.exchange = None;
        held.ended = Some(Instant::now());
        if let Ok(token) = &result {
            held.token = Some(token.clone());
        }
        result
    }

    async fn ask(&self) -> Result<AccessToken, Error> {
        let mut errors = Vec::new();
        for source in &self.sources {
            match timeout(LIMIT, source.get_token(&[SCOPE], None)).await {
                Ok(Ok(token)) if is_token(token.token.secret()) => {
                    return Ok(AccessToken::new(token.token.secret().to_owned(), token.expires_on));
                }
                Ok(Ok(_)) => errors.push(garbled()),
                Ok(Err(error)) => errors.push(failed(&error)),
                Err(_) => errors.push(unavailable(format!("no answer within {} s", LIMIT.as_secs()))),
            }
        }
        Err(first_transient(errors))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sources(identity: &Identity, connection: Arc<dyn HttpClient>) -> azure_core_1::Result<Vec<Arc<dyn Source>>> {
    let transport = Transport::new(Arc::new(IdentityEndpoint(connection)));
    let client_options = ClientOptions { transport: Some(transport), ..ClientOptions::default() };
    Ok(match identity.clone() {
        Identity::Managed { client_id } => {
            let user_assigned_id = client_id.map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            vec![ManagedIdentityCredential::new(Some(options))?]
        }
        Identity::ServicePrincipal { tenant_id, client_id, secret } => {
            let secret = Secret::new(secret.secret().to_owned());
            let options = Some(ClientSecretCredentialOptions { client_options });
            vec![ClientSecretCredential::new(&tenant_id, client_id, secret, options)?]
        }
        Identity::Developer { tenant_id } => {
            let az = AzureCliCredentialOptions { tenant_id: tenant_id.clone(), ..Default::default() };
            let azd = AzureDeveloperCliCredentialOptions { tenant_id, ..Default::default() };
            vec![AzureCliCredential::new(Some(az))?, AzureDeveloperCliCredential::new(Some(azd))?]
        }
    })
}

/// Says nothing of what it was: it may have been a part of a token.
fn garbled() -> Error {
    unavailable("what was answered is not a token".to_owned())
}

/// Of some answers the crate makes an empty token.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

/// What went wrong in a source.
fn failed(error: &azure_core_1::Error) -> Error {
    if let Some(own) = causes(error).find_map(|cause| cause.downcast_ref::<Error>()) {
        return own.clone();
    }
    let is_garbled = |cause: &azure_core_1::Error| matches!(cause.kind(), ErrorKind::DataConversion);
    if causes(error).filter_map(|cause| cause.downcast_ref()).any(is_garbled) {
        return garbled();
    }
    refused(error)
}

/// A command line of Azure says what is to be done, such as signing in.
fn refused(error: &azure_core_1::Error) -> Error {
    Error::IdentityRefused(one_line(&error.to_string()))
}

/// Of what several sources said, what gives hope, or all of it.
fn first_transient(mut errors: Vec<Error>) -> Error {
    if let Some(index) = errors.iter().position(Error::is_transient) {
        return errors.swap_remove(index);
    }
    let causes = errors.into_iter().map(|error| match error {
        Error::IdentityRefused(cause) => cause,
        error => error.to_string(),
    });
    Error::IdentityRefused(causes.collect::<Vec<_>>().join("; "))
}
