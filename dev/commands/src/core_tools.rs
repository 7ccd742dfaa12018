//! Core Tools, `func`: found, told apart from what has the same name, and run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

const EXECUTABLE: &str = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
/// They end within two seconds of Ctrl-C, and tell their version sooner.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the path of `func`, if it is Core Tools. It is an error that it is not if it is `wanted`.
pub(crate) async fn find(wanted: bool) -> Result<Option<PathBuf>> {
    let Some(func) = find_on_path("func") else {
        ensure!(!wanted, "there is no `func` on PATH: install Core Tools, or use --host local");
        return Ok(None);
    };
    let version = version(&func).await;
    let major = version.split_once('.').and_then(|(major, _)| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 4) {
        return Ok(Some(func));
    }
    let text = format!("{} is not Core Tools 4: `func --version` says '{version}'", func.display());
    ensure!(!wanted, "{text}; put Core Tools before it on PATH, or use --host local");
    println!("Host:      {text}");
    Ok(None)
}

async fn version(func: &Path) -> String {
    let mut command = Command::new(func);
    let output = command.arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(Ok(output)) = tokio::time::timeout(LIMIT, output).await else { return "nothing".to_owned() };
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned()
}

/// Starts the app in a folder, with this handler or the one that its settings name.
pub(crate) fn start(func: &Path, root: &Path, executable: Option<&Path>, port: u16) -> Result<Child> {
    println!("Host:      {}\n", func.display());
    Command::new(func)
        .args(["start", "--port", &port.to_string()])
        .current_dir(root)
        .envs(executable.map(|executable| (EXECUTABLE, executable)))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", func.display()))
}

/// Waits for the end after Ctrl-C, which reached it as well; a signal to us alone did not.
pub(crate) async fn stop(mut func: Child) -> Result<()> {
    if tokio::time::timeout(LIMIT, func.wait()).await.is_err() {
        func.kill().await?;
    }
    Ok(())
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
