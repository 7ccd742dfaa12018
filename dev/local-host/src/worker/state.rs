//! The life of the handler, as its host sees it.

/// The state of the handler.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Starting,
    Ready(i32),
    Stopped(String),
}
