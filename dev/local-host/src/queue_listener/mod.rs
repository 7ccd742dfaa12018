//! The queue trigger: polls its queue, and takes a batch in hand whenever it has few enough messages in hand already.
//!
//! `QueueListener` and `QueueProcessor` in
//! <https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues>

mod message;
mod delivery;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use test_storage::{Account, Received};

use crate::{
    bindings::{Function, Queues},
    invocation::Invoker,
    shutdown::Shutdown,
    timings::Timings,
};

pub(crate) use delivery::Delivery;

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The host's default in a development environment; a minute on Azure.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) struct QueueListener {
    pub(crate) function: Function,
    pub(crate) queue: String,
    pub(crate) account: Account,
    pub(crate) options: Queues,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) shutdown: Shutdown,
    pub(crate) timings: Timings,
    /// The number of messages that are being processed.
    pub(crate) in_flight: AtomicUsize,
    pub(crate) one_done: Notify,
}

impl QueueListener {
    /// Listens until told not to, and returns when everything received is dealt with. Dropped, it lets go of its
    /// messages as they are, like a host that is killed.
    pub(crate) async fn run(self) {
        let listener = Arc::new(self);
        let mut messages = JoinSet::new();
        let mut message_written = listener.invoker.message_written.subscribe();
        let (mut misses, mut trouble) = (0, String::new());
        while !listener.shutdown.stop.is_cancelled() {
            while messages.try_join_next().is_some() {}
            if listener.in_flight.load(Ordering::SeqCst) > listener.threshold() {
                listener.one_done.notified().await;
                continue;
            }
            let received = listener.receive(&mut trouble).await;
            misses = if received.is_empty() { misses + 1 } else { 0 };
            for message in received {
                listener.in_flight.fetch_add(1, Ordering::SeqCst);
                let listener = Arc::clone(&listener);
                messages.spawn(async move {
                    listener.process_message(message).await;
                    listener.in_flight.fetch_sub(1, Ordering::SeqCst);
                    listener.one_done.notify_one();
                });
            }
            listener.pause(misses, &mut message_written).await;
        }
        while messages.join_next().await.is_some() {}
    }

    fn threshold(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default = self.options.batch_size as usize / 2 * cores;
        self.options.new_batch_threshold.map_or(default, |threshold| threshold as usize)
    }

    /// Receives a batch. The same trouble is told only once.
    async fn receive(&self, trouble: &mut String) -> Vec<Received> {
        let receive = self.account.receive(&self.queue, self.options.batch_size, self.timings.message_visibility);
        match receive.await {
            Ok(messages) => {
                trouble.clear();
                messages
            }
            // A missing queue is not created by its trigger.
            Err(error) if error.status() == Some(404) => Vec::new(),
            Err(error) => {
                let text = format!("Queue listener of {}: {error}", self.function.name);
                if *trouble != text {
                    self.invoker.console.warning(&text);
                    *trouble = text;
                }
                Vec::new()
            }
        }
    }

    async fn pause(&self, misses: u32, message_written: &mut watch::Receiver<()>) {
        let longest = self.options.max_polling_interval.unwrap_or(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause_after(misses, longest)) => {}
            _ = message_written.changed() => {}
            () = self.shutdown.stop.cancelled() => {}
        }
    }
}

/// Computes the pause: 0.1 s after a hit, then 0.2, 0.3, 0.5, 0.9 … each give or take a fifth, up to the limit.
fn pause_after(misses: u32, longest: Duration) -> Duration {
    if misses == 0 {
        return SHORTEST_PAUSE.min(longest);
    }
    let growth = SHORTEST_PAUSE.saturating_mul(2_u32.saturating_pow(misses.min(20) - 1));
    (SHORTEST_PAUSE + growth.mul_f64(0.8 + 0.4 * fastrand::f64())).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit() {
        assert_eq!(pause_after(0, LONGEST_PAUSE), Duration::from_millis(100));
        for (misses, about) in [(1, 200), (2, 300), (3, 500), (4, 900)] {
            let pause = pause_after(misses, LONGEST_PAUSE).as_millis();
            assert!((about * 8 / 10..=about * 12 / 10).contains(&pause), "{misses}: {pause}");
        }
        assert_eq!(pause_after(1_000, LONGEST_PAUSE), LONGEST_PAUSE);
    }
}
