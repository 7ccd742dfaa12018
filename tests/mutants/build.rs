//! Copies the source of the handler and builds every mutation into it, to be switched on at run time.
//!
//! The production code stays as it is, and one compilation carries all mutations. A mutation whose place is no longer
//! in the source fails the build, so that none is forgotten.

#![allow(clippy::disallowed_methods, reason = "a build script is told its folders by the environment")]

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

#[allow(dead_code, unreachable_pub, reason = "the tests use the rest")]
#[path = "src/mutations/mod.rs"]
mod mutations;

use mutations::Mutation;

/// What the simulation runs. The rest reaches the network, or speaks to the host.
const MODULES: [&str; 10] =
    ["functions", "outbox", "order", "quarantine", "idempotency", "json", "storage", "retry", "attempt", "connection"];

/// Lines that go, because what they name is not copied.
const REACHES_THE_NETWORK: [&str; 2] = ["pub mod http_client;", "pub use http_client::PooledClient;"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../src");
    let target = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=src/mutations");
    println!("cargo::rerun-if-changed=build.rs");
    let mut modules = String::new();
    for module in MODULES {
        let (file, folder) = (format!("{module}.rs"), format!("{module}/mod.rs"));
        let name = if source.join(&file).exists() { file } else { folder };
        writeln!(modules, "#[allow(warnings, clippy::all)]\n#[path = {:?}]\npub mod {module};", target.join(name))?;
    }
    fs::write(target.join("modules.rs"), modules)?;
    copy(&source, Path::new(""), &target)
}

fn copy(source: &Path, folder: &Path, target: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(target.join(folder))?;
    for entry in fs::read_dir(source.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(source, &name, target)?;
        } else {
            let text = fs::read_to_string(entry.path())?;
            fs::write(target.join(&name), mutated(&name.to_string_lossy(), &text)?)?;
        }
    }
    Ok(())
}

/// The text of one file with all its mutations, which are switched off.
fn mutated(file: &str, text: &str) -> Result<String, String> {
    let is_kept = |line: &&str| !REACHES_THE_NETWORK.contains(line);
    // What follows are unit tests.
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let mut text = text.lines().filter(is_kept).collect::<Vec<_>>().join("\n");
    for (index, mutation) in mutations::all().enumerate().filter(|(_, mutation)| mutation.file == file) {
        let Mutation { name, original, mutant, .. } = mutation;
        if text.matches(original).count() != 1 {
            return Err(format!("mutation `{name}`: not once in src/{file}: {original}"));
        }
        let switched = format!("(if crate::mutation::is({index}) {{ {mutant} }} else {{ {original} }})");
        text = text.replace(original, &switched);
    }
    Ok(text)
}
