//! A call of the handler, as a trigger asks for it.

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
    pub(crate) body: Bytes,
}
