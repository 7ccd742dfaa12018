//! `cargo package-app`: builds what is deployed, looks at it, and says what it is.

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
use workspace::{app_root, build_release_handler, heading, print_table};

/// The C library of this machine is the one that there is to link against.
const TARGET: &str = if cfg!(target_env = "musl") { "x86_64-unknown-linux-musl" } else { "x86_64-unknown-linux-gnu" };
const IS_BUILT_HERE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Builds what is deployed: dist/handler.zip
#[derive(Parser)]
#[command(bin_name = "cargo package-app")]
struct Arguments {
    /// The package to write [default: dist/handler.zip in the repository]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let binary = match arguments.binary {
        Some(binary) => binary,
        None => build_static(&root).await?,
    };
    let package = Package::of(&root, &binary)?;
    let zip = package.to_zip()?;
    let output = arguments.output.unwrap_or_else(|| root.join("dist/handler.zip"));
    let folder = output.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
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

/// Builds the handler as it is released, with all its libraries in it.
async fn build_static(root: &Path) -> Result<PathBuf> {
    ensure!(
        IS_BUILT_HERE,
        "the package needs a handler for x86-64 Linux, and this is {} on {}: build it in a container (docker run --rm \
         --platform linux/amd64 --volume \"$PWD\":/app --workdir /app --env CARGO_TARGET_DIR=/tmp/target rust:1 cargo \
         package-app), in the workflow .github/workflows/deploy.yml, or with a cross compiler, and then name the file \
         with --binary",
        env::consts::OS,
        env::consts::ARCH,
    );
    println!("Building the handler as it is released, for {TARGET} …");
    build_release_handler(root, &["--target", TARGET], Some(&flags(root))).await
}

/// Paths of this machine would make every machine's package another one, and tell its user's name.
fn flags(root: &Path) -> Vec<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned(), remap(root, "/app")];
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    flags.extend(env::var_os("CARGO_HOME").map(PathBuf::from).or(home).map(|home| remap(&home, "/cargo")));
    flags
}
