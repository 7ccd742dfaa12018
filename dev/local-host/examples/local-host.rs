//! The local host as a command, which takes an app as `func start` does: its folder is the current one, its settings are
//! the environment, `--port` is that of `/admin/functions`. It shows that the end-to-end tests run under such a command.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]

use anyhow::{Context, Result, bail};
use local_host::{LocalHost, Options, console};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [option, port] = arguments.as_slice() else { bail!("--port is missing") };
    anyhow::ensure!(option == "--port", "unknown option {option}");
    let options = Options {
        app_root: std::env::current_dir()?,
        settings: std::env::vars().collect(),
        admin_port: Some(port.parse().context("--port")?),
        sink: Some(console::print),
        ..Options::default()
    };
    let host = LocalHost::start(options).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        reason = host.wait_until_stopped() => bail!("the host has stopped: {reason}"),
        _ = terminate.recv() => host.stop().await,
    }
    Ok(())
}
