//! What the commands share: the workspace, its handler, and tables for people to read.

pub(crate) mod demo;
pub(crate) mod load;
mod outcome;
pub(crate) mod package;
pub(crate) mod send;
pub(crate) mod start;

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// Where orders come from.
const ORDERS: &str = "orders";
/// Where those go that cannot be committed, whatever happens.
const QUARANTINE: &str = "orders-quarantine";
/// Where those go that keep failing.
const POISON: &str = "orders-poison";
/// Where the others are announced.
const EVENTS: &str = "order-events";
const QUEUES: [&str; 4] = [ORDERS, QUARANTINE, POISON, EVENTS];

/// The folder with `host.json`.
fn app_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().with_context(|| format!("{} is gone: the commands run from the sources", root.display()))
}

/// A line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Builds the handler and returns its path.
async fn build_handler(root: &Path) -> Result<PathBuf> {
    build(root, &[], None).await
}

/// The same as it is released.
async fn build_release_handler(root: &Path) -> Result<PathBuf> {
    build(root, &["--release"], None).await
}

/// `flags` for the compiler replace all others, wherever they are set.
async fn build(root: &Path, arguments: &[&str], flags: Option<&[String]>) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    if let Some(flags) = flags {
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    }
    let output = command
        .args(["build", "--locked", "--package", "handler", "--bin", "handler"])
        .arg("--message-format=json-render-diagnostics")
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the handler does not build");
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = lines.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.rev().find_map(|artifact| artifact.executable).context("cargo built no executable")
}

/// Prints rows under their titles, every column as wide as it needs.
fn print_table(titles: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    for row in [&titles, &rules].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn heading(title: &str) {
    println!("\n{title}");
}
