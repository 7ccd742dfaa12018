//! The invocation of a queue function for a message, whether a queue delivered it or a test.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    bindings::Function,
    call::Call,
    dates,
    envelope::{self, InvocationData, QueueMessage},
    invocation::{Invocation, Invoker},
};

/// A message for a queue function, wherever it comes from.
pub(crate) struct Delivery<'a> {
    pub(crate) function: &'a Function,
    pub(crate) message: &'a QueueMessage,
    pub(crate) reason: &'a str,
}

impl Delivery<'_> {
    pub(crate) async fn invoke(self, invoker: &Invoker) -> Invocation {
        let Self { function, message, reason } = self;
        let now = OffsetDateTime::now_utc();
        let invocation_data =
            InvocationData { function: &function.name, binding: &function.binding, now, random: Uuid::new_v4() };
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
            message: Some(&message.content),
            body: envelope::queue(&invocation_data, message).into(),
        };
        invoker.invoke(call).await
    }
}
