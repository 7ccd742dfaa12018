//! The deployment package: the zip that a Function App runs, with nothing in it but the app and its licences.
//!
//! Its unpackers rely on details that a general archiver does not promise: the name of the handler's entry has
//! to be `defaultExecutablePath` to the letter, its execute bit counts only from an archiver that says it is Unix, and
//! the same app should give the same bytes, so that a digest tells whether anything changed.
//! <https://learn.microsoft.com/azure/azure-functions/deployment-zip-push>

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]

mod archive;
mod executable;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use local_host::bindings::App;

pub use executable::{ExecutableError, Linkage, NEWEST_GLIBC, Version};

/// For the handler: everybody may run it.
const EXECUTABLE_MODE: u32 = 0o755;
/// For the rest: the host may run as another user than the one who unpacked it.
const FILE_MODE: u32 = 0o644;

/// A file of the package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its path, with `/` on every system.
    pub name: String,
    /// Its Unix permissions.
    pub mode: u32,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The files of a package, ordered by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Package {
    entries: Vec<Entry>,
}

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The host would not load it.
    #[error("the host would not load the app")]
    App(#[source] anyhow::Error),
    /// The handler's entry could not be made executable.
    #[error(
        "defaultExecutablePath in host.json is {0:?}: only a plain path inside the app, without `./`, `..`, `\\` or \
         `%`, is the name of an entry, and only the entry of this very name is made executable"
    )]
    EntryName(String),
    /// The handler would not run there.
    #[error("{} cannot run in Azure", path.display())]
    Executable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: ExecutableError,
    },
    /// The zip cannot be written, or is none.
    #[error("the archive is broken")]
    Archive(#[from] zip::result::ZipError),
    /// Unpacking it would write outside the folder.
    #[error("the archive has an entry {0:?}, which is no path inside a folder")]
    Outside(String),
}

impl Package {
    /// Puts the app in `root` together with `executable` as its handler, after a look at both.
    ///
    /// # Errors
    /// When a file is missing, the host would not load the app, or the handler would not run on its machine.
    pub fn of(root: &Path, executable: &Path) -> Result<Self, PackageError> {
        let app = App::load(root, BTreeMap::new()).and_then(App::whole).map_err(PackageError::App)?;
        let content = read(executable)?;
        Linkage::of(&content).map_err(|source| PackageError::Executable { path: executable.to_owned(), source })?;
        let mut entries = vec![Entry { name: entry_name(&app)?, mode: EXECUTABLE_MODE, content }];
        let functions = app.functions.iter().map(|function| format!("{}/function.json", function.name));
        for name in functions.chain([HOST_JSON, LICENSE, NOTICES].map(str::to_owned)) {
            entries.push(Entry { content: read(&root.join(&name))?, name, mode: FILE_MODE });
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { entries })
    }

    /// Its files.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes the files into `folder`, with their permissions.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn unpack(&self, folder: &Path) -> Result<(), PackageError> {
        for entry in &self.entries {
            let path = folder.join(&entry.name);
            write(&path, entry).map_err(|source| PackageError::File { path, source })?;
        }
        Ok(())
    }
}

const HOST_JSON: &str = "host.json";
/// The licence of the app, which has to go with every copy.
const LICENSE: &str = "LICENSE";
/// The licences of the crates that are linked into the handler.
const NOTICES: &str = "THIRD-PARTY-NOTICES.txt";

fn read(path: &Path) -> Result<Vec<u8>, PackageError> {
    fs::read(path).map_err(|source| PackageError::File { path: path.to_owned(), source })
}

fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, &entry.content)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(entry.mode))
}

/// The path of the handler, as `host.json` has it: [`App`] resolves it into another.
const EXECUTABLE: &str = "AzureFunctionsJobHost:customHandler:description:defaultExecutablePath";

fn entry_name(app: &App) -> Result<String, PackageError> {
    let name = app.setting(EXECUTABLE).unwrap_or_default().to_owned();
    if is_plain_path(&name) && !name.contains('%') { Ok(name) } else { Err(PackageError::EntryName(name)) }
}

/// Says whether `name` is the path of a file inside a folder, on every system.
fn is_plain_path(name: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_inside_the_app_names_an_entry() {
        for name in ["handler", "bin/handler", "handler.x86"] {
            assert!(is_plain_path(name), "{name}");
        }
        for name in ["", "./handler", "../handler", "/handler", "bin//handler", "bin\\handler", "C:handler", "bin/"] {
            assert!(!is_plain_path(name), "{name}");
        }
    }
}
