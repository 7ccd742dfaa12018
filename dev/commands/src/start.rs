//! `cargo start`: storage and host kept running on the ports that every tool expects.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env,
    future::pending,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use local_host::{
    LocalHost, Options,
    bindings::{local_http_port, local_settings},
    console::Sink,
};
use test_storage::Account;
use workspace::{app_root, build_handler, samples};

use crate::{
    core_tools,
    page::{self, Page, Storage},
    queues::QUEUES,
    storage,
};

/// The port of `func start` too.
const ADMIN_PORT: u16 = 7071;
const PAGE_PORT: u16 = 7070;
const STORAGE: &str = "AzureWebJobsStorage";

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
    /// None: storage and the page alone, for a `func start` of your own
    None,
}

/// The app that is started.
struct App {
    root: PathBuf,
    /// Only of this repository's app, since it shows what that stores.
    page: Option<Page>,
    account: Account,
    /// The port of the admin endpoint, 0 for any.
    port: u16,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let (root, page) = match &arguments.app {
        None => {
            let root = app_root()?;
            let samples = samples(&root).unwrap_or_default();
            let page = Page::open(if arguments.free_ports { 0 } else { PAGE_PORT }, &samples).await?;
            (root, Some(page))
        }
        Some(folder) => (folder.canonicalize().with_context(|| format!("--app {}", folder.display()))?, None),
    };
    ensure!(root.is_dir(), "--app {}: it is not a folder", root.display());
    let settings_file = settings_file(&root)?;
    local_settings(&settings_file).context("correct this file, or delete it to get the example again")?;
    let port = free_admin_port(&arguments, &settings_file)?;
    let func = core_tools(&arguments).await?;
    let azurite = storage::start(arguments.free_ports).await?;
    let account = match &azurite {
        Some(azurite) => azurite.development_account()?,
        None => Account::from_connection_string("UseDevelopmentStorage=true")?,
    };
    let ended = App { root, page, account, port }.run(&arguments, func, &settings_file).await;
    if let Some(azurite) = azurite {
        azurite.stop().await?;
    }
    ended
}

impl App {
    async fn run(self, arguments: &Arguments, func: Option<PathBuf>, settings_file: &Path) -> Result<()> {
        let is_ours = arguments.app.is_none();
        if is_ours {
            for queue in QUEUES {
                self.account.create_queue(queue).await?;
            }
        }
        if arguments.host == Some(Host::None) {
            println!("Host:      none; run `cargo build` and then `func start` in another terminal");
            return interrupted(self.watch_storage()).await;
        }
        let mut executable = None;
        if is_ours {
            println!("Building the handler …");
            executable = Some(build_handler(&self.root).await?);
        }
        if self.port != 0 && is_ours {
            print_help(self.port);
        }
        if let Some(func) = func {
            return self.run_core_tools(&func, executable.as_deref()).await;
        }
        let mut settings = settings(settings_file)?;
        if arguments.free_ports {
            settings.insert(STORAGE.to_owned(), self.account.connection_string());
        }
        self.run_local_host(executable, settings).await
    }

    async fn run_local_host(self, executable: Option<PathBuf>, mut settings: BTreeMap<String, String>) -> Result<()> {
        println!("Host:      the local host, which behaves as `func start` does");
        // Of an account that is not the emulator's the host tells better than we do.
        let account = settings.get(STORAGE).and_then(|text| Account::from_connection_string(text).ok());
        let page = match self.page.as_ref().zip(account) {
            Some((page, account)) => Some((page, page.proxied(account).await?)),
            None => None,
        };
        if let Some((_, storage)) = &page {
            settings.insert(STORAGE.to_owned(), storage.app_account().connection_string());
        }
        let (admin_port, sink) = (Some(self.port), Some::<Sink>(page::console_line));
        let options = Options { app_root: self.root, settings, executable, admin_port, sink, ..Options::default() };
        let host = LocalHost::start(options).await?;
        if let Some(port) = host.admin_port() {
            println!("Endpoint:  http://localhost:{port}/admin/functions");
        }
        print_functions(&host);
        let watch = async {
            match &page {
                Some((page, storage)) => page.watch(storage, Some(&host), host.admin_port()).await,
                None => pending().await,
            }
        };
        let stopped = tokio::select! {
            reason = host.wait_until_stopped() => Err(anyhow::anyhow!("the host has stopped: {reason}")),
            result = interrupted(watch) => result,
        };
        println!("Stopping …");
        host.stop().await;
        stopped
    }

    async fn run_core_tools(self, func: &Path, executable: Option<&Path>) -> Result<()> {
        let mut child = core_tools::start(func, &self.root, executable, self.port)?;
        tokio::select! {
            status = child.wait() => bail!("func start has ended: {}; --host local does without it", status?),
            result = interrupted(self.watch_storage()) => result?,
        }
        core_tools::stop(child).await
    }

    /// Shows the storage of an app that somebody else runs.
    async fn watch_storage(&self) -> Infallible {
        let port = (self.port != 0).then_some(self.port);
        match &self.page {
            Some(page) => page.watch(&Storage::alone(self.account.clone()), None, port).await,
            None => pending().await,
        }
    }
}

/// Returns the port of the admin endpoint, on which nobody may listen yet; 0 for any.
fn free_admin_port(arguments: &Arguments, settings_file: &Path) -> Result<u16> {
    if arguments.free_ports {
        return Ok(0);
    }
    let port = arguments.port.or(local_http_port(settings_file)?).unwrap_or(ADMIN_PORT);
    // With no host of ours it is where somebody else's is.
    ensure!(
        arguments.host == Some(Host::None) || !storage::is_taken(port),
        "port {port} is taken, perhaps by another host: end it, or choose another port with --port, Host.LocalHttpPort \
         in local.settings.json or --free-ports"
    );
    Ok(port)
}

/// Returns the path of `func`, if it is to be used.
async fn core_tools(arguments: &Arguments) -> Result<Option<PathBuf>> {
    let wanted = arguments.host == Some(Host::CoreTools);
    let alone = arguments.app.is_some() || arguments.free_ports;
    if matches!(arguments.host, Some(Host::Local | Host::None)) || (alone && !wanted) {
        return Ok(None);
    }
    ensure!(!arguments.free_ports, "--free-ports is for the local host: use --port with Core Tools");
    core_tools::find(wanted).await
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

/// Lists the functions as Core Tools do.
fn print_functions(host: &LocalHost) {
    println!("\nFunctions:\n");
    for (name, kind, disabled) in host.functions() {
        println!("\t{name}: {kind}{}\n", if disabled { " (disabled)" } else { "" });
    }
}

/// Does something until Ctrl-C or a polite kill.
async fn interrupted(meanwhile: impl Future<Output = Infallible>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => Ok(result?),
        _ = terminate.recv() => Ok(()),
        never = meanwhile => match never {},
    }
}
