//! The plan of a measurement.

use std::{fmt, path::PathBuf, time::Duration};

use crate::orders::Mix;

/// The storage of the orders.
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

/// The plan of a measurement.
pub(crate) struct Plan {
    pub(crate) executable: PathBuf,
    /// Program that does the same steps, for comparison.
    pub(crate) baseline: Option<PathBuf>,
    /// The folder with `host.json`.
    pub(crate) root: PathBuf,
    pub(crate) storage: Storage,
    /// The delay of every answer of the fast storage.
    pub(crate) latency: Duration,
    pub(crate) mix: Mix,
    /// Concurrency and orders of each step.
    pub(crate) steps: Vec<(usize, u64)>,
    /// A step is cut off after this.
    pub(crate) step_limit: Duration,
}
