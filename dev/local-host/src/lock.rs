//! A lock among all hosts of one app: a lease on a blob.
//!
//! One of all hosts holds the lock of a timer and ticks it; the others look from time to time whether they
//! can take over. A host that stops gives the lock back, one that is killed leaves it to expire. `SingletonListener`
//! and `SingletonManager` in
//! <https://github.com/Azure/azure-webjobs-sdk/tree/dev/src/Microsoft.Azure.WebJobs.Host/Singleton>

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use test_storage::{Account, StorageError};

use crate::console::Console;

/// The container of the host's own blobs.
pub(crate) const CONTAINER: &str = "azure-webjobs-hosts";
/// In a development environment; a minute on Azure.
const DURATION: Duration = Duration::from_secs(15);
/// Three attempts before a lease expires.
const RENEWAL: Duration = Duration::from_secs(5);

/// A lock that this host wants.
pub(crate) struct Lock {
    pub(crate) account: Account,
    /// The blob, in [`CONTAINER`].
    pub(crate) blob: String,
    /// The pause between two attempts to acquire it.
    pub(crate) retry: Duration,
    pub(crate) console: Arc<Console>,
}

impl Lock {
    /// Does the work while the lock is held, and again each time it is gained, until told to stop. The token that the
    /// work gets is cancelled when it has to end.
    pub(crate) async fn while_held<W>(&self, stop: &CancellationToken, work: impl Fn(CancellationToken) -> W)
    where
        W: Future<Output = ()>,
    {
        while !stop.is_cancelled() {
            match self.account.acquire_lease(CONTAINER, &self.blob, DURATION).await {
                Ok(Some(lease)) => self.work(&lease, stop.child_token(), &work).await,
                Ok(None) => {}
                Err(error) => self.console.error(format!("Lock '{}': {error}", self.blob)),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.retry) => {}
            }
        }
    }

    async fn work<W>(&self, lease: &str, active: CancellationToken, work: &impl Fn(CancellationToken) -> W)
    where
        W: Future<Output = ()>,
    {
        let done = CancellationToken::new();
        let working = async {
            work(active.clone()).await;
            done.cancel();
        };
        tokio::join!(working, self.keep(lease, &active, &done));
        // What cannot be given back expires.
        let _ = self.account.release_lease(CONTAINER, &self.blob, lease).await;
    }

    /// Renews the lease until the work is done, and cancels the work when the lease is lost.
    async fn keep(&self, lease: &str, active: &CancellationToken, done: &CancellationToken) {
        loop {
            tokio::select! {
                () = done.cancelled() => return,
                () = tokio::time::sleep(RENEWAL) => {}
            }
            if let Err(error) = self.account.renew_lease(CONTAINER, &self.blob, lease).await
                && is_lost(&error)
            {
                self.console.error(format!("Lock '{}' is lost: {error}", self.blob));
                return active.cancel();
            }
        }
    }
}

/// Says whether the lease is lost. Anything else is a moment's trouble.
fn is_lost(error: &StorageError) -> bool {
    error.status().is_some_and(|status| (400..500).contains(&status))
}

/// Names the blob whose lease lets one host listen for a function, in [`CONTAINER`].
pub(crate) fn listener_blob(host_id: &str, function: &str) -> String {
    format!("locks/{host_id}/Host.Functions.{function}.Listener")
}
