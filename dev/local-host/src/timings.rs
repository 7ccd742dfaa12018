//! The pauses of the host that are too long to wait for in a test.
//!
//! A test sees what happens after them only with shorter ones, and nothing else may differ then: a
//! message that comes back, a renewal, another host that takes over. `QueueListener` in
//! <https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues>
//! and `SingletonOptions` in
//! <https://github.com/Azure/azure-webjobs-sdk/tree/dev/src/Microsoft.Azure.WebJobs.Host/Singleton>

use std::time::Duration;

/// The pauses of the host. The default is the real one.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// The visibility timeout of a received message, in whole seconds: ten minutes.
    pub message_visibility: Duration,
    /// The pause between two renewals of it while the message is being processed: five minutes.
    pub visibility_renewal: Duration,
    /// The pause between two attempts to take over a timer from another host: a minute.
    pub lock_retry: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            message_visibility: Duration::from_secs(10 * 60),
            visibility_renewal: Duration::from_secs(5 * 60),
            lock_retry: Duration::from_secs(60),
        }
    }
}
