//! The messages in `samples/`: what `cargo demo` sends, and what has to become of each.
//!
//! The name of a file is its place and its outcome, as in `3-conflict.json`: `committed`, `duplicate`, or the reason in
//! quarantine. They belong to the domain in `src/order.rs`, and are replaced together with it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// One message.
#[derive(Debug)]
pub struct Sample {
    /// The message, without the line break at the end of its file.
    pub message: String,
    /// The outcome, as the name of the file says it.
    pub outcome: String,
}

impl Sample {
    /// Says whether the message takes effect, or has taken it before.
    pub fn is_accepted(&self) -> bool {
        self.outcome == "committed" || self.outcome == "duplicate"
    }
}

/// Reads the samples of the workspace in `root`, in their order.
///
/// # Errors
/// When a file cannot be read, or its name is not a place and an outcome.
pub fn samples(root: &Path) -> Result<Vec<Sample>> {
    let folder = root.join("samples");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    files.iter().map(|file| sample(file)).collect()
}

fn sample(file: &Path) -> Result<Sample> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().and_then(|name| name.to_str()?.split_once('-'));
    let (_, outcome) = name.with_context(|| format!("{} is not named like 3-conflict.json", file.display()))?;
    Ok(Sample { message: text.trim_end().to_owned(), outcome: outcome.to_owned() })
}
