//! The life of the handler, as its host sees it.

/// What the host does when the handler exits with code 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExitZero {
    /// Nothing, so that every later call fails: the hosts of many years.
    #[default]
    Ignored,
    /// Starts it again, as hosts do since 2026.
    Restarts,
}

/// Where the handler is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Starting,
    Ready(i32),
    Stopped(String),
}
