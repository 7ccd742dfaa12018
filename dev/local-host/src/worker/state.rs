//! The life of the handler, as its host sees it.

/// The reaction of the host to a handler that exits with code 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExitZero {
    /// Nothing, so that every later call fails: the hosts of many years.
    #[default]
    Ignored,
    /// Starts it again, as hosts do since 2026.
    Restarts,
}

/// The state of the handler.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Starting,
    Ready(i32),
    Stopped(String),
}
