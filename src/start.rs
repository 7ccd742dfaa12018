//! Start of the process: settings, logging, socket, server, exit code.
//!
//! Nothing here reaches the network: the host waits for the port, and an order for both.

use crate::{
    app,
    attempt::time_of_day,
    config::{BadSettings, Config},
    crash_note::CrashNote,
    decision::Domain,
    functions::App,
    logging,
    stop::{self, Stop},
    storage::{self, PooledClient},
};
use azure_core::HttpClient;
use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::parent_id,
    process::ExitCode,
    sync::Arc,
};
use time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// Longest wait of a message, by default: seven days on `orders`, and two weeks in quarantine, until somebody puts it back.
pub const LONGEST_WAIT: Duration = Duration::days(21);

/// Time to notice that the table does not answer, to hold a message, and to put it back.
const SHORTEST_LIMIT: std::time::Duration = std::time::Duration::from_secs(80);

/// Time in which events on their way to the queue get there when the process is asked to end; then invocations in flight do.
const PUBLISHING_DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Settings(#[from] BadSettings),
    #[error("port {port} of 127.0.0.1 cannot be listened on: {source}")]
    Port { port: u16, source: io::Error },
    #[error(transparent)]
    Identity(#[from] storage::Error),
    #[error("the operating system refuses what the server needs: {0}")]
    Server(#[from] io::Error),
    #[error("the server ended by itself")]
    Ended,
}

/// Serves `domain` until the process is asked to end.
#[must_use]
pub fn run(domain: Domain) -> ExitCode {
    match start(domain) {
        Ok(stop) => stop.exit_code(),
        Err(error) => {
            eprintln!("The handler cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(domain: Domain) -> Result<Stop, StartError> {
    let parent = parent_id();
    let config = Config::from_environment()?;
    logging::start(config.log_levels.clone());
    let port = config.port;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| StartError::Port { port, source })?;
    if config.invocation_limit < SHORTEST_LIMIT {
        warn!("functionTimeout is shorter than 90 s: an outage in which storage does not answer uses up deliveries");
    }
    if config.app.retention < LONGEST_WAIT {
        warn!(
            "IDEMPOTENCY_TTL_HOURS is shorter than the 21 days a message can wait: a late copy would take effect again"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(domain, listener, &config, parent))
}

async fn serve(domain: Domain, listener: TcpListener, config: &Config, parent: u32) -> Result<Stop, StartError> {
    let app = Arc::new(app(domain, config)?);
    let server = app::server(listener, app.clone(), config.invocation_limit)?;
    let handle = server.handle();
    let mut server = tokio::spawn(server);
    info!("Listening on 127.0.0.1:{}", config.port);
    let stop = tokio::select! {
        stop = stop::requested(parent) => stop?,
        _ = &mut server => return Err(StartError::Ended),
    };
    // What is left then, the timer publishes.
    let _ = timeout(PUBLISHING_DRAIN, app.publisher.stop()).await;
    handle.stop(true).await;
    server.await.map_err(io::Error::from)??;
    Ok(stop)
}

fn app(domain: Domain, config: &Config) -> Result<App, storage::Error> {
    let client = Arc::new(PooledClient::new(config.connection.endpoints.are_of_the_emulator()));
    let account = config.connection.account(client.clone(), time_of_day)?;
    let client: Arc<dyn HttpClient> = client;
    // Another program may read what ended this one.
    let program = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified()).ok();
    let crash_note = CrashNote::open(&config.temporary_folder, &format!("{} {program:?}", config.app_folder));
    Ok(App { crash_note, ..App::new(domain, &account, &client, &config.app) })
}
