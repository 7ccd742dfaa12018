//! When the process ends, and with which exit code.
//!
//! To the host an exit code of 0 means "never start me again", so there is none. In Azure the host kills without
//! notice; at a terminal Ctrl-C reaches this process too. On Linux nothing ties a process to its parent, and one that
//! outlives the host keeps the port, so the parent's id is watched. (`PR_SET_PDEATHSIG` would fire when the *thread*
//! that started this process ends, and the host starts it from a pool thread.)

use std::{os::unix::process::parent_id, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Interval of looking for the parent.
const PARENT_POLL: Duration = Duration::from_secs(1);

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: Ctrl-C at the terminal.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The host is gone.
    Orphaned,
}

impl Stop {
    /// By convention 128 and the number of the signal; never 0.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Orphaned => 1,
        })
    }
}

/// Waits until the process has to end. `parent` is the id of the process that started it.
///
/// # Errors
///
/// Signals cannot be received.
pub async fn requested(parent: u32) -> std::io::Result<Stop> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => Stop::Interrupted,
        _ = terminate.recv() => Stop::Terminated,
        () = orphaned(parent) => Stop::Orphaned,
    })
}

async fn orphaned(parent: u32) {
    while parent_id() == parent {
        tokio::time::sleep(PARENT_POLL).await;
    }
}
