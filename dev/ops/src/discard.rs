//! `cargo ops discard`: deletes messages from quarantine, after they were written to a file.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use anyhow::{Context, Result};
use handler::storage::Error;

use crate::{
    account::Account,
    kept::Kept,
    output::Outcome,
    selection::{Way, take},
};

/// The arguments of `cargo ops discard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    way: Way,
    /// The file to which each envelope is appended, one a line, before it is deleted
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<Outcome> {
    let file = arguments.to.as_ref().map(|path| {
        // The orders of customers are nobody else's business.
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    });
    let file = file.transpose()?;
    take(account, &arguments.way, |_| false, async |kept| write(file.as_ref(), kept)).await
}

/// Writes a message to the disk.
fn write(file: Option<&File>, kept: &Kept) -> Result<(), Error> {
    let unwritten = |error: &dyn std::fmt::Display| Error::Unsendable(format!("the file cannot be written: {error}"));
    let mut file = file.ok_or_else(|| unwritten(&"there is none"))?;
    let line = serde_json::to_string(&kept.envelope).map_err(|error| unwritten(&error))?;
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(|error| unwritten(&error))
}
