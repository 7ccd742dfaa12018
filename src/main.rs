//! The process: settings, logging, socket, server, exit code.

use anyhow::Context;
use handler::{
    app::{self, App},
    config::Config,
    idempotency::Ledger,
    logging,
    stop::{self, Stop},
    storage::{Connection, Queue, Table},
};
use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::process::parent_id,
    process::ExitCode,
    sync::Arc,
};
use time::OffsetDateTime;
use tracing::{info, warn};

/// By default a message lives seven days on `orders`, and seven more on the poison queue, from which it is put back.
const LONGEST_WAIT: time::Duration = time::Duration::days(14);

fn main() -> ExitCode {
    match run() {
        Ok(stop) => stop.exit_code(),
        Err(error) => {
            eprintln!("The handler cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Stop> {
    let parent = parent_id();
    let config = Config::from_environment()?;
    logging::start(config.log_levels.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))
        .with_context(|| format!("port {} of 127.0.0.1 cannot be listened on", config.port))?;
    if config.retention < LONGEST_WAIT {
        warn!(
            "IDEMPOTENCY_TTL_HOURS is shorter than the 14 days a message can wait: a late copy would take effect again"
        );
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(listener, &config, parent))
}

async fn serve(listener: TcpListener, config: &Config, parent: u32) -> anyhow::Result<Stop> {
    let connection = Arc::new(Connection::new(config.account.is_emulator()));
    let account = config.account.account(connection.clone(), clock)?;
    let table = Table::new(&account, &config.table, connection.clone());
    let app = App {
        ledger: Ledger::new(table, config.retention),
        events: Queue::new(&account, &config.events_queue, connection),
        invocation_limit: config.invocation_limit,
    };
    let server = app::server(listener, app)?;
    let handle = server.handle();
    let server = tokio::spawn(server);
    info!("Listening on 127.0.0.1:{}", config.port);
    tokio::pin!(server);
    let stop = tokio::select! {
        stop = stop::requested(parent) => stop?,
        ended = &mut server => anyhow::bail!("the server ended by itself: {ended:?}"),
    };
    handle.stop(true).await;
    server.await??;
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the time of day, whichever invocation asks for one")]
fn clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
