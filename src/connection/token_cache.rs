//! The access token of an [`Identity`]: asked for when it is first needed, cached, and renewed before it expires.
//!
//! The client of the tables asks for tokens by the trait of `azure_core` 0.21; `azure_identity` gives them by that of
//! 1.x, and caches them too. While it renews one, every request waits, and fails when the renewal fails, though the old
//! token is good for minutes. Therefore this cache stands before it:
//!
//! - callers without a token wait for one exchange, and share its failure too;
//! - a token is renewed five minutes before it expires, by one caller; the others use the old one, and so does that
//!   caller when the exchange fails;
//! - nothing is repeated: without a token the request to the storage was not sent, its error is
//!   [transient](Error::is_transient), and it is repeated like any other.

use super::{identity::Identity, token_source};
use crate::storage::Error;
use async_trait::async_trait;
use azure_core::auth::{AccessToken, TokenCredential};
use azure_core_1::{credentials::TokenCredential as Source, http::HttpClient};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::{sync, time::Instant};

/// A token is renewed when it expires in less than this. `azure_identity` returns its own cached token until then.
const RENEW_BEFORE: time::Duration = time::Duration::minutes(5);

/// While a token is good, no exchange begins in this time after the last one.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Tells the time of day.
pub type Clock = fn() -> OffsetDateTime;

/// The cached token of one identity. It prints its expiry only.
#[derive(Debug)]
pub struct TokenCache {
    source: Arc<dyn Source>,
    clock: Clock,
    token: Mutex<Option<AccessToken>>,
    /// The last exchange, locked while the next one runs.
    exchange: sync::Mutex<Option<Exchange>>,
}

#[derive(Debug)]
struct Exchange {
    ended: Instant,
    result: Result<AccessToken, Error>,
}

#[async_trait]
impl TokenCredential for TokenCache {
    /// Returns a token for the storage services: the client asks for no other scope.
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<AccessToken> {
        match self.valid_token() {
            Some(token) => Ok(self.renew_early(token).await?),
            None => Ok(self.wait_for_token().await?),
        }
    }

    /// Does nothing: nobody asks for it, and the token would come back from the cache of `azure_identity`.
    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(())
    }
}

impl TokenCache {
    /// Creates a cache of tokens for `identity`, asked for through `client`, which expire by `clock`. Nothing is asked
    /// yet.
    ///
    /// # Errors
    ///
    /// No token can ever be had for an identity like this.
    pub fn new(identity: &Identity, client: Arc<dyn HttpClient>, clock: Clock) -> Result<Self, Error> {
        let source = token_source::new(identity, client)?;
        Ok(Self { source, clock, token: Mutex::default(), exchange: sync::Mutex::default() })
    }

    async fn renew_early(&self, token: AccessToken) -> Result<AccessToken, Error> {
        if token.expires_on > (self.clock)() + RENEW_BEFORE {
            return Ok(token);
        }
        match self.exchange.try_lock() {
            Ok(mut last) if last.as_ref().is_none_or(|last| last.ended.elapsed() >= RETRY_AFTER) => {
                let result = self.exchange(&mut last).await;
                // The exchange takes time, in which the old token may have expired.
                result.or_else(|error| self.valid_token().ok_or(error))
            }
            _ => Ok(token),
        }
    }

    async fn wait_for_token(&self) -> Result<AccessToken, Error> {
        let arrived = Instant::now();
        let mut last = self.exchange.lock().await;
        match &*last {
            Some(last) if last.ended > arrived => last.result.clone(),
            _ => self.exchange(&mut last).await,
        }
    }

    async fn exchange(&self, last: &mut Option<Exchange>) -> Result<AccessToken, Error> {
        let result = token_source::request(&*self.source).await;
        if let Ok(token) = &result {
            *self.cached() = Some(token.clone());
        }
        *last = Some(Exchange { ended: Instant::now(), result: result.clone() });
        result
    }

    fn valid_token(&self) -> Option<AccessToken> {
        self.cached().clone().filter(|token| token.expires_on > (self.clock)())
    }

    fn cached(&self) -> MutexGuard<'_, Option<AccessToken>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
