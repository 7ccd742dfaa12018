//! The workspace for the development commands: its folder, the build of its handler, and tables for people to read.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]

mod samples;

pub use samples::{Sample, samples};

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// The folder of the workspace, as seen from this crate.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The starts of the names of variables that Cargo sets about the package that it runs.
const OF_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Returns the folder with `host.json`.
///
/// # Errors
/// When the sources are not where they were compiled.
pub fn app_root() -> Result<PathBuf> {
    let root = Path::new(ROOT);
    root.canonicalize().with_context(|| format!("{} is gone: the commands run from the sources", root.display()))
}

/// Returns the folder that Cargo builds into.
pub fn target_folder() -> PathBuf {
    app_root().unwrap_or_else(|_| ROOT.into()).join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Builds the handler for development and returns its path. Without `--package`, so that Cargo takes the features of all
/// default members together and builds nothing that `cargo test` builds again.
///
/// # Errors
/// When it does not build.
pub async fn build_handler(root: &Path) -> Result<PathBuf> {
    build(root, "handler", &[], None).await
}

/// Builds a program as it is released, with its own features only, and returns its path. It is named as its package is.
/// `flags` for the compiler replace all others, wherever they are set.
///
/// # Errors
/// When it does not build.
pub async fn build_release(
    root: &Path,
    program: &str,
    arguments: &[&str],
    flags: Option<&[String]>,
) -> Result<PathBuf> {
    build(root, program, &[&["--release", "--package", program], arguments].concat(), flags).await
}

async fn build(root: &Path, program: &str, arguments: &[&str], flags: Option<&[String]>) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    if let Some(flags) = flags {
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    }
    // `cargo run` sets these, and a build script that reads them would run again, and half of the handler be built anew.
    let of_package =
        |name: &OsString| name.to_str().is_some_and(|name| OF_PACKAGE.iter().any(|start| name.starts_with(start)));
    for (name, _) in env::vars_os().filter(|(name, _)| of_package(name)) {
        command.env_remove(name);
    }
    command
        .args(["build", "--locked", "--bin", program])
        .arg("--message-format=json-render-diagnostics")
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // Not by `output`, which would take the compiler's words from the terminal.
    let cargo = command.spawn().context("cannot run cargo")?;
    let output = cargo.wait_with_output().await.context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{program} does not build");
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = lines.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.rev().find_map(|artifact| artifact.executable).context("cargo built no executable")
}

/// Prints rows under their titles.
pub fn print_table(titles: &[&str], rows: &[Vec<String>]) {
    table(titles, rows).iter().for_each(|line| println!("{line}"));
}

/// Writes rows under their titles, every column as wide as it needs.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    [&titles, &rules].into_iter().chain(rows).map(line).collect()
}

/// Prints the heading of a part of the output.
pub fn heading(title: &str) {
    println!("\n{title}");
}
