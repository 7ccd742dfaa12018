//! Copies the source of the handler and builds every mutation into it, to be switched on at run time.
//!
//! The production code stays as it is, and one compilation carries all mutations. A mutation whose place is no longer
//! in the source fails the build, so that none is forgotten.

#![allow(clippy::disallowed_methods, reason = "a build script is told its folders by the environment")]

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

#[allow(dead_code, unreachable_pub, reason = "the tests use it too")]
#[path = "src/mutations.rs"]
mod mutations;

use mutations::Mutation;

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../src");
    let target = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=mutations.txt");
    println!("cargo::rerun-if-changed=build.rs");
    let library = fs::read_to_string(source.join("lib.rs"))?;
    let mut modules = String::new();
    for name in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        let file = [format!("{name}.rs"), format!("{name}/mod.rs")].into_iter().find(|file| source.join(file).exists());
        let path = target.join(file.ok_or("a module without a file")?);
        writeln!(modules, "#[allow(warnings, clippy::all)]\n#[path = {path:?}]\npub mod {name};")?;
    }
    fs::write(target.join("modules.rs"), modules)?;
    copy(&source, Path::new(""), &target)
}

fn copy(source: &Path, folder: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
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

/// Returns the text of one file, without its unit tests, with all its mutations switched off.
fn mutated(file: &str, text: &str) -> Result<String, String> {
    let source = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let mut mutated = source.to_owned();
    let all = mutations::all();
    for (index, mutation) in all.iter().enumerate().filter(|(_, mutation)| mutation.file == file) {
        let Mutation { name, original, mutant, .. } = mutation;
        if source.matches(original).count() != 1 {
            return Err(format!("mutation `{name}`: not once in src/{file}: {original}"));
        }
        let switched = format!("(if crate::mutation::is({index}) {{ {mutant} }} else {{ {original} }})");
        mutated = mutated.replace(original, &switched);
    }
    Ok(mutated)
}
