//! `cargo ops discard`: deletes messages from quarantine, after they were written to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    account::Account,
    kept::{Kept, Kind},
    selection::{Way, take},
};

/// The arguments of `cargo ops discard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    way: Way,
    /// Parts whose others are not there, such as a killed `requeue` leaves
    #[arg(long, group = "selected")]
    parts: bool,
    /// Messages that the handler did not write
    #[arg(long, group = "selected")]
    foreign: bool,
    /// The file to which each envelope is appended, one a line, before it is deleted
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
}

pub(crate) async fn run(account: &Account, arguments: &Arguments) -> Result<ExitCode> {
    let open = |path: &PathBuf| open(path).with_context(|| format!("cannot write {}", path.display()));
    let file = arguments.to.as_ref().map(open).transpose()?;
    let others = [(arguments.parts, Kind::Part), (arguments.foreign, Kind::Foreign)];
    let others: Vec<_> = others.into_iter().filter_map(|(is_meant, kind)| is_meant.then_some(kind)).collect();
    let save = async |kept: &Kept| write(file.as_ref().context("the file is missing: name it with --to")?, kept);
    take(account, (&arguments.way, &others), |_| false, save).await
}

/// Opens the file, and sees to it that its name is on the disk. The orders of customers are nobody else's business.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let folder = path.canonicalize()?;
    File::open(folder.parent().unwrap_or(&folder))?.sync_all()?;
    Ok(file)
}

/// Writes a message to the disk, all of it or nothing.
fn write(mut file: &File, kept: &Kept) -> Result<()> {
    let line = serde_json::to_string(&kept.envelope)? + "\n";
    let length = file.metadata()?.len();
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() && file.metadata()?.len() > length {
        file.set_len(length)
            .context("the file of --to ends in half a line, since it can neither be written nor cut")?;
    }
    written.context("the file of --to cannot be written: nothing that is not in it is deleted")
}
