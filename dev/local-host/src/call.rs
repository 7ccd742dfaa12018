//! A call of the handler, as a trigger asks for it; and as it is seen while it goes on.

use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use crate::bindings::Function;

/// The function to call, the body, and the words of the console about it.
pub(crate) struct Call<'a> {
    pub(crate) function: &'a Function,
    pub(crate) id: Uuid,
    pub(crate) attempt: u32,
    pub(crate) dequeue_count: Option<u32>,
    pub(crate) reason: &'a str,
    pub(crate) details: Option<String>,
    /// The text of the message; none for timers.
    pub(crate) message: Option<&'a str>,
    pub(crate) body: Bytes,
}

/// An invocation that has not finished.
#[derive(Clone, Debug)]
pub struct Running {
    /// The invocation id.
    pub id: Uuid,
    /// The function's name.
    pub function: String,
    /// The dequeue count of the message; none for timers.
    pub dequeue_count: Option<u32>,
    /// The text of the message; none for timers.
    pub message: Option<String>,
    /// When it started.
    pub start: Instant,
}
