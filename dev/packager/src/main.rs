//! `cargo package-app`: builds what is deployed, looks at it, and says what it is. With `--ops` it builds the tool of the
//! operator, which is released beside the package and not in it.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sha2::{Digest, Sha256};

use packager::{Linkage, Package};
use workspace::{app_root, build_release, heading, print_table};

/// The C library of this machine is the one that there is to link against.
const TARGET: &str = if cfg!(target_env = "musl") { "x86_64-unknown-linux-musl" } else { "x86_64-unknown-linux-gnu" };
const IS_BUILT_HERE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Builds what is deployed, dist/handler.zip, or the tool of the operator, dist/ops
#[derive(Parser)]
#[command(bin_name = "cargo package-app")]
struct Arguments {
    /// The file to write [default: dist/handler.zip or dist/ops in the repository]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Build `cargo ops` as one static program, for machines without Rust and the sources
    #[arg(long, conflicts_with = "binary")]
    ops: bool,
    /// A handler that was built elsewhere or by other means, instead of building it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let root = app_root()?;
    let output =
        arguments.output.unwrap_or_else(|| root.join(if arguments.ops { "dist/ops" } else { "dist/handler.zip" }));
    let folder = output.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if arguments.ops {
        return build_ops(&root, &output).await;
    }
    let binary = match arguments.binary {
        Some(binary) => binary,
        None => build_static(&root, "handler").await?,
    };
    let package = Package::of(&root, &binary)?;
    let zip = package.to_zip()?;
    fs::write(&output, &zip).with_context(|| format!("cannot write {}", output.display()))?;
    heading(&format!("{}: {:.2} MB", output.display(), zip.len() as f64 / 1e6));
    let rows = package
        .entries()
        .iter()
        .map(|entry| vec![entry.name.clone(), format!("{:o}", entry.mode), entry.content.len().to_string()]);
    print_table(&["file", "mode", "bytes"], &rows.collect::<Vec<_>>());
    if let Some(linkage) = package.entries().iter().find_map(|entry| Linkage::of(&entry.content).ok()) {
        println!("\n  handler: x86-64 Linux, {linkage}");
    }
    println!("  SHA-256: {:x}", Sha256::digest(&zip));
    Ok(())
}

async fn build_ops(root: &Path, output: &Path) -> Result<()> {
    let binary = build_static(root, "ops").await?;
    let written = fs::copy(&binary, output).with_context(|| format!("cannot write {}", output.display()))?;
    let content = fs::read(output)?;
    heading(&format!("{}: {:.2} MB", output.display(), written as f64 / 1e6));
    println!("  ops: x86-64 Linux, {}", Linkage::of(&content)?);
    println!("  SHA-256: {:x}", Sha256::digest(&content));
    Ok(())
}

/// Builds a program as it is released, with all its libraries in it.
async fn build_static(root: &Path, program: &str) -> Result<PathBuf> {
    ensure!(
        IS_BUILT_HERE,
        "what is released is for x86-64 Linux, and this is {} on {}: build it in a container (docker run --rm \
         --platform linux/amd64 --volume \"$PWD\":/app --workdir /app --env CARGO_TARGET_DIR=/tmp/target rust:1 cargo \
         package-app), in the workflow .github/workflows/deploy.yml, or with a cross compiler, and then name the file \
         with --binary",
        env::consts::OS,
        env::consts::ARCH,
    );
    println!("Building {program} as it is released, for {TARGET} …");
    build_release(root, program, &["--target", TARGET], Some(&flags(root))).await
}

/// Paths of this machine would make every machine's package another one, and tell its user's name.
fn flags(root: &Path) -> Vec<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned(), remap(root, "/app")];
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    flags.extend(env::var_os("CARGO_HOME").map(PathBuf::from).or(home).map(|home| remap(&home, "/cargo")));
    flags
}
