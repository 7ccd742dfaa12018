//! What to measure.

use std::{fmt, path::PathBuf, time::Duration};

use crate::orders::Mix;

/// What stores the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// A table and a queue in memory, which answer as the cloud does
    Fast,
    /// The emulator
    Azurite,
}

impl fmt::Display for Storage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if *self == Self::Fast { "fast" } else { "azurite" })
    }
}

/// What to measure.
pub(crate) struct Plan {
    pub(crate) executable: PathBuf,
    /// The folder with `host.json`.
    pub(crate) root: PathBuf,
    pub(crate) storage: Storage,
    /// How late every answer of the fast storage comes.
    pub(crate) latency: Duration,
    pub(crate) mix: Mix,
    /// Concurrency and orders of each step.
    pub(crate) steps: Vec<(usize, u64)>,
    /// A step is cut off after this.
    pub(crate) step_limit: Duration,
}
