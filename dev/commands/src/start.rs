//! `cargo start`: storage and host kept running on the ports that every tool expects.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use local_host::{LocalHost, Options, bindings::local_settings, console};
use test_storage::{
    Account, Azurite,
    azurite::{Persistence, Ports, STANDARD_PORTS},
};
use workspace::{app_root, build_handler, target_folder};

use crate::queues::QUEUES;

/// The port of `func start` too.
const ADMIN_PORT: u16 = 7071;
const EXECUTABLE: &str = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
const STORAGE: &str = "AzureWebJobsStorage";
/// Core Tools end within two seconds of Ctrl-C.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The arguments of `cargo start`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of another app, whose handler is built already; with local.settings.json and always on the local
    /// host.
    #[arg(long)]
    app: Option<PathBuf>,
    /// Uses ports that are free, and a storage in memory; always on the local host.
    #[arg(long)]
    free_ports: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = arguments.app.as_ref().map_or_else(app_root, |app| Ok(app.canonicalize()?))?;
    let settings_file = settings_file(&root)?;
    let azurite = start_storage(arguments.free_ports).await?;
    let account = match &azurite {
        Some(azurite) => azurite.development_account()?,
        None => Account::from_connection_string("UseDevelopmentStorage=true")?,
    };
    let ended = run_app(&arguments, root, &settings_file, &account).await;
    if let Some(azurite) = azurite {
        azurite.stop().await?;
    }
    ended
}

async fn run_app(arguments: &Arguments, app_root: PathBuf, settings_file: &Path, account: &Account) -> Result<()> {
    let executable = if arguments.app.is_none() { Some(prepare(&app_root, account).await?) } else { None };
    let as_usual = arguments.app.is_none() && !arguments.free_ports;
    if as_usual {
        print_help();
    }
    if let (true, Some(func), Some(executable)) = (as_usual, find_on_path("func"), &executable) {
        return run_core_tools(&func, &app_root, executable).await;
    }
    println!("Host:      the local host, which behaves as `func start` does");
    let mut settings = settings(settings_file)?;
    if arguments.free_ports {
        settings.insert(STORAGE.to_owned(), account.connection_string());
    }
    let admin_port = Some(if arguments.free_ports { 0 } else { ADMIN_PORT });
    let sink = Some::<console::Sink>(console::print);
    run_local_host(Options { app_root, settings, executable, admin_port, sink, ..Options::default() }).await
}

/// Creates the queues and builds the handler of this repository's app.
async fn prepare(root: &Path, account: &Account) -> Result<PathBuf> {
    for queue in QUEUES {
        account.create_queue(queue).await?;
    }
    println!("Building the handler …");
    build_handler(root).await
}

/// Returns the file of the developer's settings, copied from the example the first time.
fn settings_file(root: &Path) -> Result<PathBuf> {
    let file = root.join("local.settings.json");
    if !file.exists() {
        std::fs::copy(root.join("local.settings.json.example"), &file).context("cannot write local.settings.json")?;
        println!("Copied local.settings.json.example to local.settings.json: edit it as you like, git ignores it.");
    }
    Ok(file)
}

/// Starts Azurite, unless another emulator is there already.
async fn start_storage(free_ports: bool) -> Result<Option<Azurite>> {
    if free_ports {
        let azurite = Azurite::start(Ports::Free, Persistence::Memory).await?;
        let [blob, queue, table] = azurite.ports();
        println!("Storage:   Azurite on ports {blob} (blobs), {queue} (queues) and {table} (tables); data in memory");
        println!("           {}", azurite.development_account()?.connection_string());
        return Ok(Some(azurite));
    }
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
Storage Explorer:   Emulator & Attached > Storage Accounts > Emulator - Default Ports
                    or attach with the connection string UseDevelopmentStorage=true
Stop everything:    Ctrl-C
"#
    );
}

/// Reads the settings. The environment wins over the file, as with Core Tools.
fn settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let mut settings = local_settings(file)?;
    let environment: BTreeMap<String, String> = env::vars().filter(|(name, _)| settings.contains_key(name)).collect();
    settings.extend(environment);
    Ok(settings)
}

async fn run_local_host(options: Options) -> Result<()> {
    let host = LocalHost::start(options).await?;
    if let Some(port) = host.admin_port() {
        println!("Endpoint:  http://localhost:{port}/admin/functions");
    }
    print_functions(&host);
    let stopped = tokio::select! {
        reason = host.wait_until_stopped() => Err(anyhow::anyhow!("the host has stopped: {reason}")),
        result = interrupted() => result,
    };
    println!("Stopping …");
    host.stop().await;
    stopped
}

/// Lists the functions as Core Tools do.
fn print_functions(host: &LocalHost) {
    println!("\nFunctions:\n");
    for (name, kind) in host.functions() {
        println!("\t{name}: {kind}\n");
    }
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
