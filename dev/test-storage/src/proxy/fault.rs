//! Faults of a request on its way to a service, and of the answer on its way back.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::request::Request;

/// The treatment of a request.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Pass,
    /// The connection is reset and the service never sees the request.
    Reset,
    /// An answer without the service having seen the request.
    Status(u16, Vec<(&'static str, String)>, String),
    /// No answer, and no end of the connection. The service never sees the request.
    Hang,
    /// Bytes that are not HTTP. The service never sees the request.
    Garbage,
    /// The connection is closed before the service sees the request.
    DropRequest,
    /// The head and half of the body are read, then the connection is reset. The service never sees the request.
    CutRequest,
    /// The service carries the request out; the connection is closed instead of an answer.
    DropReply,
    /// The service carries the request out; the answer never comes.
    HangReply,
    /// The service carries the request out; half of the answer is sent, then the connection is reset.
    CutReply,
    /// The service carries the request out, but this is the answer.
    FalseReply(u16, Vec<(&'static str, String)>, String),
    /// Forwarded after a pause.
    Delay(Duration),
    /// Forwarded when the gate is opened, also when the client has given up by then: a request that is applied late.
    Held(Gate),
    /// Forwarded with the method, the target and the headers of this request.
    Instead(Request),
}

/// A gate at which requests wait until a test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(CancellationToken);

impl Gate {
    /// Lets every request go that waits here, or comes later.
    pub fn open(&self) {
        self.0.cancel();
    }

    pub(super) async fn opened(&self) {
        self.0.cancelled().await;
    }
}
