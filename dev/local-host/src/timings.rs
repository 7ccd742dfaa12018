//! The pauses of the host that are too long to wait for in a test.
//!
//! What happens after them can only be seen with shorter ones, and only what happens after them may differ then: a
//! message that comes back, a renewal, another host that takes over. `QueueListener` in
//! <https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues>
//! and `SingletonOptions` in
//! <https://github.com/Azure/azure-webjobs-sdk/tree/dev/src/Microsoft.Azure.WebJobs.Host/Singleton>

use std::time::Duration;

/// How patient the host is. The default is the real one.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// How long a received message stays hidden, in whole seconds: ten minutes.
    pub message_visibility: Duration,
    /// How often that is renewed while the message is being processed: every five minutes.
    pub visibility_renewal: Duration,
    /// How often a host looks whether it can take over a timer from another one: every minute.
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
