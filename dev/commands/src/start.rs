//! `cargo start`: storage and host kept running on the ports that every tool expects.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use local_host::{
    LocalHost, Options,
    bindings::{local_http_port, local_settings},
    console,
};
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
/// Core Tools end within two seconds of Ctrl-C, and tell their version sooner.
const CORE_TOOLS_LIMIT: Duration = Duration::from_secs(10);

/// The arguments of `cargo start`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of another app, whose handler is built already; with local.settings.json
    #[arg(long, value_name = "FOLDER")]
    app: Option<PathBuf>,
    /// Uses ports that are free, and a storage in memory
    #[arg(long)]
    free_ports: bool,
    /// The port of /admin/functions [default: Host.LocalHttpPort in local.settings.json, or 7071]
    #[arg(long, conflicts_with = "free_ports")]
    port: Option<u16>,
    /// The host [default: Core Tools if they are installed; with --app or --free-ports the local host]
    #[arg(long)]
    host: Option<Host>,
}

/// A program that runs the handler.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Host {
    /// The local host of this repository
    Local,
    /// `func start`
    CoreTools,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = match &arguments.app {
        None => app_root()?,
        Some(folder) => folder.canonicalize().with_context(|| format!("--app {}", folder.display()))?,
    };
    let settings_file = settings_file(&root)?;
    let port = free_admin_port(&arguments, &settings_file)?;
    let func = core_tools(&arguments).await?;
    let azurite = start_storage(arguments.free_ports).await?;
    let account = match &azurite {
        Some(azurite) => azurite.development_account()?,
        None => Account::from_connection_string("UseDevelopmentStorage=true")?,
    };
    let ended = async {
        let executable = if arguments.app.is_none() { Some(prepare(&root, &account).await?) } else { None };
        if port != 0 && arguments.app.is_none() {
            print_help(port);
        }
        match func {
            Some(func) => run_core_tools(&func, &root, executable.as_deref(), port).await,
            None => {
                let mut settings = settings(&settings_file)?;
                if arguments.free_ports {
                    settings.insert(STORAGE.to_owned(), account.connection_string());
                }
                run_local_host(root, executable, settings, port).await
            }
        }
    };
    let ended = ended.await;
    if let Some(azurite) = azurite {
        azurite.stop().await?;
    }
    ended
}

/// Returns the port of the admin endpoint, on which nobody may listen yet; 0 for any.
fn free_admin_port(arguments: &Arguments, settings_file: &Path) -> Result<u16> {
    if arguments.free_ports {
        return Ok(0);
    }
    let port = arguments.port.or(local_http_port(settings_file)?).unwrap_or(ADMIN_PORT);
    ensure!(
        !is_taken(port),
        "port {port} is taken, perhaps by another host: end it, or choose another port with --port, Host.LocalHttpPort \
         in local.settings.json or --free-ports"
    );
    Ok(port)
}

fn is_taken(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Returns the path of `func`, if it is to be used and is Core Tools.
async fn core_tools(arguments: &Arguments) -> Result<Option<PathBuf>> {
    let wanted = arguments.host == Some(Host::CoreTools);
    let alone = arguments.app.is_some() || arguments.free_ports;
    if arguments.host == Some(Host::Local) || (alone && !wanted) {
        return Ok(None);
    }
    ensure!(!arguments.free_ports, "--free-ports is for the local host: use --port with Core Tools");
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
    let Ok(Ok(output)) = tokio::time::timeout(CORE_TOOLS_LIMIT, output).await else { return "nothing".to_owned() };
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned()
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
    let (file, example) = (root.join("local.settings.json"), root.join("local.settings.json.example"));
    if !file.exists() {
        std::fs::copy(&example, &file).with_context(|| {
            let sample =
                r#"{ "IsEncrypted": false, "Values": { "AzureWebJobsStorage": "UseDevelopmentStorage=true" } }"#;
            format!("{} is missing and cannot be copied from its .example: write {sample}", file.display())
        })?;
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
    let taken: Vec<u16> = STANDARD_PORTS.into_iter().filter(|port| is_taken(*port)).collect();
    if taken.is_empty() {
        let folder = target_folder().join("azurite-data");
        println!("Storage:   starting Azurite on ports 10000, 10001 and 10002; data in {}", folder.display());
        let azurite = Azurite::start(Ports::Standard, Persistence::Folder(folder.clone())).await;
        let cure = || format!("Azurite does not start: if its data is damaged, delete {}", folder.display());
        return azurite.map(Some).with_context(cure);
    }
    let cure = "stop what listens there, or use --free-ports";
    ensure!(
        taken.len() == STANDARD_PORTS.len(),
        "of the ports {STANDARD_PORTS:?} of Azurite {taken:?} are taken: {cure}"
    );
    match Account::from_connection_string("UseDevelopmentStorage=true")?.queue_length(QUEUES[0]).await {
        Err(error) if error.status() != Some(404) => {
            Err(error).with_context(|| format!("ports {STANDARD_PORTS:?} are taken, but not by Azurite: {cure}"))
        }
        _ => {
            println!("Storage:   an Azurite is running already on ports 10000, 10001 and 10002.");
            Ok(None)
        }
    }
}

fn print_help(port: u16) {
    println!(
        r#"
Send an order:      cargo send '{{"id":"order-123","amount":42}}'
Fire the timer:     curl -X POST http://localhost:{port}/admin/functions/scheduled_with_retry \
                      -H 'Content-Type: application/json' -d '{{}}'
Storage Explorer:   Emulator & Attached > Storage Accounts > Emulator - Default Ports
                    or attach with the connection string UseDevelopmentStorage=true
Stop everything:    Ctrl-C
"#
    );
}

/// Reads the settings. The whole environment wins over the file, as with Core Tools, whatever the letter case.
fn settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let mut settings = local_settings(file)?;
    let environment: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let is_set = |name: &String| environment.keys().any(|set| set.eq_ignore_ascii_case(name));
    settings.retain(|name, _| !is_set(name));
    settings.extend(environment);
    Ok(settings)
}

async fn run_local_host(
    app_root: PathBuf,
    executable: Option<PathBuf>,
    settings: BTreeMap<String, String>,
    port: u16,
) -> Result<()> {
    println!("Host:      the local host, which behaves as `func start` does");
    let (admin_port, sink) = (Some(port), Some::<console::Sink>(console::print));
    let host =
        LocalHost::start(Options { app_root, settings, executable, admin_port, sink, ..Options::default() }).await?;
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
    for (name, kind, disabled) in host.functions() {
        println!("\t{name}: {kind}{}\n", if disabled { " (disabled)" } else { "" });
    }
}

async fn run_core_tools(func: &Path, root: &Path, executable: Option<&Path>, port: u16) -> Result<()> {
    println!("Host:      {}\n", func.display());
    let mut child = Command::new(func)
        .args(["start", "--port", &port.to_string()])
        .current_dir(root)
        .envs(executable.map(|executable| (EXECUTABLE, executable)))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", func.display()))?;
    tokio::select! {
        status = child.wait() => bail!("func start has ended: {}; --host local does without it", status?),
        result = interrupted() => result?,
    }
    // Ctrl-C reached it as well; a signal to us alone did not.
    if tokio::time::timeout(CORE_TOOLS_LIMIT, child.wait()).await.is_err() {
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
