//! The queue trigger: receive, invoke, then delete, release or move to the poison queue.
//!
//! A message is received more often than one would like, and the count decides its fate: above the limit before the
//! invocation, at the limit after a failed one. `QueueListener` and `QueueProcessor` in
//! <https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues>

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    bindings::{DataType, Function, MessageEncoding, Queues},
    dates,
    envelope::{self, Occasion, QueueMessage},
    invocation::{Call, Invocation, Invoker},
    storage::{Account, Received, StorageError},
};

/// How long a received message stays hidden. Renewal after five minutes is left out: no invocation here takes as long.
const VISIBILITY: Duration = Duration::from_secs(10 * 60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The host's default in a development environment; a minute on Azure.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest name of a queue that can have a poison queue.
const LONGEST_NAME: usize = 56;

pub(crate) struct QueueListener {
    pub(crate) function: Function,
    pub(crate) queue: String,
    pub(crate) data_type: DataType,
    pub(crate) account: Account,
    pub(crate) options: Queues,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) stop: CancellationToken,
    /// How many messages are being dealt with.
    pub(crate) in_hand: AtomicUsize,
    pub(crate) one_done: Notify,
}

impl QueueListener {
    /// Listens until told to stop, and returns when everything received is dealt with.
    pub(crate) async fn run(self) {
        let listener = Arc::new(self);
        let tasks = TaskTracker::new();
        let mut message_written = listener.invoker.message_written.subscribe();
        let mut misses = 0;
        while !listener.stop.is_cancelled() {
            if listener.in_hand.load(Ordering::SeqCst) > listener.threshold() {
                listener.one_done.notified().await;
                continue;
            }
            let messages = listener.receive().await;
            misses = if messages.is_empty() { misses + 1 } else { 0 };
            for message in messages {
                listener.in_hand.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(Arc::clone(&listener).take_in_hand(message));
            }
            listener.pause(misses, &mut message_written).await;
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn take_in_hand(self: Arc<Self>, message: Received) {
        if let Err(error) = self.process(message).await {
            // Message or queue gone, or somebody else has the message by now: nothing to do.
            if !matches!(error.status(), Some(400 | 404 | 409)) {
                self.invoker.console.error(format!("The host is shutting down. Unhandled exception: {error}"));
                self.invoker.worker.stop_host("unhandled storage error");
            }
        }
        self.in_hand.fetch_sub(1, Ordering::SeqCst);
        self.one_done.notify_one();
    }

    fn threshold(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default = self.options.batch_size as usize / 2 * cores;
        self.options.new_batch_threshold.map_or(default, |threshold| threshold as usize)
    }

    async fn receive(&self) -> Vec<Received> {
        let receive = self.account.receive(&self.queue, self.options.batch_size, VISIBILITY);
        match receive.await {
            Ok(messages) => messages,
            // A missing queue is not created by its trigger.
            Err(error) if error.status() == Some(404) => Vec::new(),
            Err(error) => {
                self.invoker.console.warning(format!("Queue listener of {}: {error}", self.function.name));
                Vec::new()
            }
        }
    }

    async fn pause(&self, misses: u32, message_written: &mut watch::Receiver<()>) {
        let longest = self.options.max_polling_interval.unwrap_or(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause_after(misses, longest)) => {}
            _ = message_written.changed() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn process(&self, mut message: Received) -> Result<(), StorageError> {
        let text = match decode(&message.text, self.options.message_encoding) {
            Decoded::Text(text) => Some(text),
            Decoded::NotUtf8 => None,
            Decoded::NotBase64 => {
                let warning = "cannot be decoded. Check the MessageEncoding of the queue and of the host.";
                self.invoker.console.warning(format!("Message {} of queue '{}' {warning}", message.id, self.queue));
                return self.move_to_poison(&message).await;
            }
        };
        if message.dequeue_count > self.options.max_dequeue_count {
            return self.poison(&mut message).await;
        }
        let succeeded = match text {
            Some(text) => self.invoke(&message, text).await.succeeded,
            None => false,
        };
        if succeeded {
            self.account.delete(&self.queue, &message).await
        } else if message.dequeue_count >= self.options.max_dequeue_count {
            self.poison(&mut message).await
        } else {
            self.account.update_visibility(&self.queue, &mut message, self.options.visibility_timeout).await
        }
    }

    async fn invoke(&self, message: &Received, text: String) -> Invocation {
        let message = QueueMessage {
            identity: Some((message.id.clone(), message.pop_receipt.clone())),
            text,
            dequeue_count: message.dequeue_count,
            inserted: message.inserted,
            next_visible: message.next_visible,
            expires: message.expires,
        };
        let reason = format!("New queue message detected on '{}'.", self.queue);
        let delivery =
            Delivery { function: &self.function, data_type: self.data_type, message: &message, reason: &reason };
        delivery.invoke(&self.invoker).await
    }

    async fn poison(&self, message: &mut Received) -> Result<(), StorageError> {
        if self.queue.ends_with("-poison") || self.queue.len() > LONGEST_NAME {
            // There is no poison queue for such a queue: the message comes back when it becomes visible again.
            return Ok(());
        }
        let count = self.options.max_dequeue_count;
        let text =
            format!("Message has reached MaxDequeueCount of {count}. Moving message to queue '{}-poison'.", self.queue);
        self.invoker.console.warning(text);
        self.move_to_poison(message).await
    }

    /// Copies first, so that a crash in between doubles the message rather than losing it.
    async fn move_to_poison(&self, message: &Received) -> Result<(), StorageError> {
        self.account.put(&format!("{}-poison", self.queue), &message.text).await?;
        self.account.delete(&self.queue, message).await
    }
}

/// A message for a queue function, wherever it comes from.
pub(crate) struct Delivery<'a> {
    pub(crate) function: &'a Function,
    pub(crate) data_type: DataType,
    pub(crate) message: &'a QueueMessage,
    pub(crate) reason: &'a str,
}

impl Delivery<'_> {
    pub(crate) async fn invoke(self, invoker: &Invoker) -> Invocation {
        let Self { function, data_type, message, reason } = self;
        let now = OffsetDateTime::now_utc();
        let occasion = Occasion { function: &function.name, binding: &function.binding, now, random: Uuid::new_v4() };
        let details = message.identity.as_ref().map(|(id, _)| {
            let inserted = dates::to_ticks(message.inserted);
            format!("MessageId: {id}, DequeueCount: {}, InsertedOn: {inserted}", message.dequeue_count)
        });
        let call = Call {
            function,
            id: Uuid::new_v4(),
            attempt: 0,
            dequeue_count: Some(message.dequeue_count),
            reason,
            details,
            body: envelope::queue(&occasion, message, data_type).into(),
        };
        invoker.invoke(call).await
    }
}

enum Decoded {
    Text(String),
    /// The binding fails, at every delivery.
    NotUtf8,
    /// Goes to the poison queue unseen.
    NotBase64,
}

fn decode(text: &str, encoding: MessageEncoding) -> Decoded {
    match (encoding, STANDARD.decode(text)) {
        (MessageEncoding::None, _) => Decoded::Text(text.to_owned()),
        (MessageEncoding::Base64, Err(_)) => Decoded::NotBase64,
        (MessageEncoding::Base64, Ok(bytes)) => String::from_utf8(bytes).map_or(Decoded::NotUtf8, Decoded::Text),
    }
}

/// 0.1 s after a hit, then 0.2, 0.3, 0.5, 0.9 … each give or take a fifth, up to the limit.
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
