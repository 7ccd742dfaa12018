//! One received message: invoke, then delete, release or move to the poison queue.
//!
//! The dequeue count decides its fate: above the limit before the invocation, at the limit after a failed one. An order
//! is lost or doubled here if anywhere, so every step is the host's, and in its order. `QueueProcessor` in
//! <https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/storage/Microsoft.Azure.WebJobs.Extensions.Storage.Queues>

use std::pin::pin;

use tokio_util::sync::CancellationToken;

use test_storage::{Received, StorageError};

use crate::{bindings::Function, envelope::QueueMessage, message_encoding::Decoded};

use super::{QueueListener, delivery::Delivery};

/// The longest name of a queue that can have a poison queue.
const LONGEST_NAME: usize = 56;

impl QueueListener {
    /// Deals with a message to its end.
    pub(super) async fn process_message(&self, message: Received) {
        if let Err(error) = self.process(message).await {
            self.storage_failed(&error);
        }
    }

    fn storage_failed(&self, error: &StorageError) {
        if !is_lost(error) {
            self.invoker.console.error(format!("The host is shutting down. Unhandled exception: {error}"));
            self.invoker.worker.stop_host("unhandled storage error");
        }
    }

    async fn process(&self, mut message: Received) -> Result<(), StorageError> {
        let decoded = self.options.message_encoding.decode(&message.text);
        if decoded == Decoded::NotBase64 {
            let warning = "Message decoding has failed! Check MessageEncoding settings.";
            self.invoker.console.warning(format!("{warning} MessageId={}.", message.id));
            return self.poison(&message, &decoded).await;
        }
        if message.dequeue_count > self.options.max_dequeue_count {
            return self.poison(&message, &decoded).await;
        }
        if self.invoke(&mut message, &decoded).await {
            self.account.delete(&self.queue, &message).await
        } else if message.dequeue_count >= self.options.max_dequeue_count || self.poison_queue().is_none() {
            self.poison(&message, &decoded).await
        } else {
            self.account.update_visibility(&self.queue, &mut message, self.options.visibility_timeout).await
        }
    }

    /// Says whether the invocation succeeded.
    async fn invoke(&self, message: &mut Received, decoded: &Decoded) -> bool {
        let Function { name, binding, .. } = &self.function;
        let Decoded::Text(content) = decoded else {
            let error = format!("Exception while executing function: Functions.{name}.");
            let cause = format!("Microsoft.Azure.WebJobs.Host: Exception binding parameter '{binding}'.");
            self.invoker.console.error(format!("System.Private.CoreLib: {error} {cause}"));
            return false;
        };
        let as_received = QueueMessage {
            identity: Some((message.id.clone(), message.pop_receipt.clone())),
            content: content.clone(),
            dequeue_count: message.dequeue_count,
            inserted: message.inserted,
            next_visible: message.next_visible,
            expires: message.expires,
        };
        let reason = format!("New queue message detected on '{}'.", self.queue);
        let delivery = Delivery { function: &self.function, message: &as_received, reason: &reason };
        let done = CancellationToken::new();
        let invocation = async {
            let invocation = delivery.invoke(&self.invoker).await;
            done.cancel();
            invocation
        };
        // A renewal that is on its way is waited for: its receipt is the one that counts from then on.
        let (invocation, ()) = tokio::join!(invocation, self.renew_visibility(message, &done));
        invocation.succeeded
    }

    /// Renews the visibility of a message until it is done, or lost.
    async fn renew_visibility(&self, message: &mut Received, done: &CancellationToken) {
        let mut done = pin!(done.cancelled());
        loop {
            tokio::select! {
                () = &mut done => return,
                () = tokio::time::sleep(self.timings.visibility_renewal) => {}
            }
            if let Err(error) =
                self.account.update_visibility(&self.queue, message, self.timings.message_visibility).await
            {
                return self.storage_failed(&error);
            }
        }
    }

    /// Returns the name of the poison queue, if this queue has one.
    fn poison_queue(&self) -> Option<String> {
        let has_one = !self.queue.ends_with("-poison") && self.queue.len() <= LONGEST_NAME;
        has_one.then(|| format!("{}-poison", self.queue))
    }

    /// Copies first, so that a crash in between doubles the message rather than losing it.
    async fn poison(&self, message: &Received, decoded: &Decoded) -> Result<(), StorageError> {
        // Without a poison queue the message is left hidden. Were it released, it would fail without a pause.
        let Some(queue) = self.poison_queue() else { return Ok(()) };
        let count = self.options.max_dequeue_count;
        let text = format!("Message has reached MaxDequeueCount of {count}. Moving message to queue '{queue}'.");
        self.invoker.console.warning(text);
        let encoding = self.options.message_encoding;
        let copy = match decoded {
            Decoded::Text(text) => encoding.encode(text.as_bytes()),
            Decoded::NotUtf8(bytes) => encoding.encode(bytes),
            Decoded::NotBase64 => message.text.clone(),
        };
        self.account.put(&queue, &copy).await?;
        self.account.delete(&self.queue, message).await
    }
}

/// Says whether the message is lost: it or its queue is gone, or somebody else has it by now. Nothing is left to do.
fn is_lost(error: &StorageError) -> bool {
    matches!(error.status(), Some(400 | 404 | 409))
}
