//! `cargo start`: storage and host kept running on the ports that every tool expects.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use dev::{
    Account, Azurite, LocalHost, Options,
    azurite::{Persistence, Ports, STANDARD_PORTS, target_folder},
    bindings::local_settings,
    console,
};

use super::{QUEUES, app_root, build_handler};

/// Where `func start` listens too.
const ADMIN_PORT: u16 = 7071;
const EXECUTABLE: &str = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
/// Core Tools end within two seconds of Ctrl-C.
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> Result<()> {
    let root = app_root()?;
    let settings_file = settings_file(&root)?;
    let azurite = start_storage().await?;
    let account = Account::from_connection_string("UseDevelopmentStorage=true")?;
    for queue in QUEUES {
        account.create_queue(queue).await?;
    }
    println!("Building the handler …");
    let executable = build_handler(&root).await?;
    print_help();
    let ended = match find_on_path("func") {
        Some(func) => run_core_tools(&func, &root, &executable).await,
        None => run_local_host(root, &settings_file, executable).await,
    };
    if let Some(azurite) = azurite {
        azurite.stop().await?;
    }
    ended
}

/// The developer's settings, made from the example the first time.
fn settings_file(root: &Path) -> Result<PathBuf> {
    let file = root.join("local.settings.json");
    if !file.exists() {
        std::fs::copy(root.join("local.settings.json.example"), &file).context("cannot write local.settings.json")?;
        println!("Copied local.settings.json.example to local.settings.json: edit it as you like, git ignores it.");
    }
    Ok(file)
}

/// None when somebody else's emulator is there already.
async fn start_storage() -> Result<Option<Azurite>> {
    let taken = STANDARD_PORTS.map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    match taken {
        [true, true, true] => {
            println!("Storage:   an Azurite is running already on ports 10000, 10001 and 10002.");
            Ok(None)
        }
        [false, false, false] => {
            let folder = target_folder().join("azurite-data");
            println!("Storage:   starting Azurite on ports 10000, 10001 and 10002; data in {}", folder.display());
            Ok(Some(Azurite::start(Ports::Standard, Persistence::Folder(folder)).await?))
        }
        _ => bail!("some of the ports 10000, 10001 and 10002 are taken, but not all: stop what listens there"),
    }
}

fn print_help() {
    println!(
        r#"
Send an order:      cargo send '{{"id":"order-123","amount":42}}'
Fire the timer:     curl -X POST http://localhost:{ADMIN_PORT}/admin/functions/scheduled_with_retry \
                      -H 'Content-Type: application/json' -d '{{}}'
Storage Explorer:   Local & Attached > Storage Accounts > Emulator - Default Ports
                    or attach with the connection string UseDevelopmentStorage=true
Stop everything:    Ctrl-C
"#
    );
}

async fn run_local_host(app_root: PathBuf, settings_file: &Path, executable: PathBuf) -> Result<()> {
    println!("Host:      `func` is not on the PATH, so the local host stands in for it.\n");
    let mut settings = local_settings(settings_file)?;
    // As with Core Tools, the environment wins over the file.
    let environment: BTreeMap<String, String> = env::vars().filter(|(name, _)| settings.contains_key(name)).collect();
    settings.extend(environment);
    let host = LocalHost::start(Options {
        app_root,
        settings,
        executable: Some(executable),
        admin_port: Some(ADMIN_PORT),
        sink: Some(console::print),
        ..Options::default()
    })
    .await?;
    let stopped = tokio::select! {
        reason = host.wait_until_stopped() => Err(anyhow::anyhow!("the host has stopped: {reason}")),
        result = interrupted() => result,
    };
    println!("Stopping …");
    host.stop().await;
    stopped
}

async fn run_core_tools(func: &Path, root: &Path, executable: &Path) -> Result<()> {
    println!("Host:      {}\n", func.display());
    let mut child = Command::new(func)
        .args(["start", "--port", &ADMIN_PORT.to_string()])
        .current_dir(root)
        .env(EXECUTABLE, executable)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", func.display()))?;
    tokio::select! {
        status = child.wait() => bail!("func start has ended: {}", status?),
        result = interrupted() => result?,
    }
    // Ctrl-C reached it as well; a signal to us alone did not.
    if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Waits for Ctrl-C or a polite kill.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => Ok(result?),
        _ = terminate.recv() => Ok(()),
    }
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
