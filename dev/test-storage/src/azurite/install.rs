//! Installs the pinned Azurite once per target folder.
//!
//! Into the target folder, because a package manager's tree does not belong among the sources; from the lock file,
//! because a test rig that changes by itself proves nothing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use workspace::target_folder;

const PACKAGE: &str = include_str!("../../azurite/package.json");
const LOCK: &str = include_str!("../../azurite/package-lock.json");
/// Azurite 3.37 is published for newer versions of Node.js but runs on this one.
const OLDEST_NODE: u32 = 20;

/// Makes sure Azurite is installed, and returns its start script. Blocks: the first time for the length of a download.
pub(super) fn install() -> Result<PathBuf> {
    check_node()?;
    let folder = target_folder().join("azurite");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let script = folder.join("node_modules/azurite/dist/src/azurite.js");
    // Several test processes may start at once; one installs, the others wait for it.
    let guard = File::create(folder.join("install.lock"))?;
    guard.lock().context("cannot lock the Azurite folder")?;
    let marker = folder.join("installed-lock.json");
    if script.is_file() && fs::read_to_string(&marker).is_ok_and(|installed| installed == LOCK) {
        return Ok(script);
    }
    fs::write(folder.join("package.json"), PACKAGE)?;
    fs::write(folder.join("package-lock.json"), LOCK)?;
    eprintln!("Installing Azurite, the storage emulator, into {} (once) …", folder.display());
    run_npm(&folder)?;
    ensure!(script.is_file(), "npm installed an Azurite without {}", script.display());
    fs::write(marker, LOCK)?;
    Ok(script)
}

fn check_node() -> Result<()> {
    let output = Command::new("node").arg("--version").output();
    let output = output.context("cannot run `node`: Azurite needs Node.js, see https://nodejs.org")?;
    let version = String::from_utf8_lossy(&output.stdout);
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    let major: u32 = major.with_context(|| format!("`node --version` says '{}'", version.trim()))?;
    ensure!(major >= OLDEST_NODE, "Node.js {} is too old for Azurite: it needs {OLDEST_NODE}", version.trim());
    Ok(())
}

fn run_npm(folder: &Path) -> Result<()> {
    let output = Command::new("npm")
        .args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run `npm`, which comes with Node.js")?;
    if !output.status.success() {
        bail!("npm cannot install Azurite ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
