//! The account of the app, opened as the handler opens it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use anyhow::{Context, Result};
use azure_core::{HttpClient, Method, Request, headers::DATE};
use handler::{
    attempt::{Attempt, time_of_day},
    backoff::{Backoff, retry},
    config::Config,
    functions::App,
    storage::{self, PooledClient, Table},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{order::DOMAIN, output::tell};

/// The files of the app that are read, as they were when this was built: name and content.
pub(crate) const HOST_JSON: (&str, &str) = ("host.json", include_str!("../../../host.json"));
const FUNCTION_JSON: (&str, &str) =
    ("queue_with_idempotency/function.json", include_str!("../../../queue_with_idempotency/function.json"));

/// Time in which a request is repeated.
const PATIENCE: Duration = Duration::from_secs(60);

/// The account, and how its answers are printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Connection string of the storage account. Others on this machine can see it: better set `AzureWebJobsStorage`
    #[arg(long, global = true, conflicts_with = "account")]
    connection: Option<String>,
    /// Storage account in Azure, opened as whoever is signed in with `az login` or `azd auth login`
    #[arg(long, global = true)]
    account: Option<String>,
    /// Folder of the app, with `host.json` [default: this one if it has one, or else the files of this version]
    #[arg(long, global = true)]
    app: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// An account that was opened.
#[derive(Debug)]
pub(crate) struct Account {
    /// Everything the handler works with.
    pub(crate) app: App,
    /// Its table, for reading: only the ledger writes.
    pub(crate) table: Table,
    /// The client through which both go.
    pub(crate) client: Arc<dyn HttpClient>,
    pub(crate) config: Config,
    /// Folder of the app, unless its files are those of this version.
    pub(crate) folder: Option<PathBuf>,
    /// Time at which the command began.
    pub(crate) began: OffsetDateTime,
    pub(crate) json: bool,
}

impl Account {
    /// Opens the account. Nothing is connected yet.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let mut settings = settings(place)?;
        let folder = folder(place, &settings);
        let config = read(&mut settings, folder.as_deref())?;
        let client = Arc::new(PooledClient::new(config.connection.endpoints.are_of_the_emulator()));
        let account = config.connection.account(client.clone(), time_of_day)?;
        let client: Arc<dyn HttpClient> = client;
        let app = App::new(DOMAIN, &account, &client, &config.app);
        let table = Table::new(&account, &config.app.table, client.clone());
        Ok(Self { app, table, client, config, folder, began: time_of_day(), json: place.json })
    }

    /// Asks for the time of the service, which it tells to anybody, in whole seconds.
    pub(crate) async fn service_time(&self) -> Result<Option<OffsetDateTime>, storage::Error> {
        let request = Request::new(self.config.connection.endpoints.queues.clone(), Method::Get);
        let answer = self.client.execute_request(&request).await?;
        let date = answer.headers().get_optional_str(&DATE);
        Ok(date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok()))
    }

    /// Begins what the handler would do in an invocation.
    pub(crate) fn attempt(&self) -> Attempt {
        let entropy = Uuid::new_v4().as_u128() ^ Uuid::new_v4().as_u128().rotate_left(32);
        Attempt::new("ops".to_owned(), time_of_day(), Instant::now() + PATIENCE, entropy)
    }
}

/// Makes a request, and repeats it while it fails for the moment. The first time it says so: it may take a minute.
pub(crate) async fn patiently<T>(request: impl AsyncFnMut() -> Result<T, storage::Error>) -> Result<T, storage::Error> {
    static SAID: Once = Once::new();
    let backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(10), retries: 8 };
    let wait = |error: &storage::Error| {
        let wait = error.wait_before_retry();
        if wait.is_some() {
            SAID.call_once(|| tell(&format!("trying again: {error}")));
        }
        wait
    };
    retry(Instant::now() + PATIENCE, backoff.delays(fastrand::Rng::new()), wait, request).await
}

/// Makes a request, and repeats it twice: enough for a service that is only slow.
pub(crate) async fn briefly<T>(request: impl AsyncFnMut() -> Result<T, storage::Error>) -> Result<T, storage::Error> {
    let delays = Backoff::IMPATIENT.delays(fastrand::Rng::new());
    retry(Instant::now() + PATIENCE, delays, storage::Error::wait_before_retry, request).await
}

/// Collects the settings of the handler: the environment, with the connection of the arguments, or else the emulator.
fn settings(place: &Place) -> Result<BTreeMap<String, String>> {
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let mut settings: BTreeMap<_, _> =
        env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    let is_connection = |name: &str| name.to_ascii_lowercase().contains("azurewebjobsstorage");
    let chosen = match (&place.connection, &place.account) {
        (Some(connection), _) => Some(("AzureWebJobsStorage", connection.as_str())),
        (None, Some(account)) => Some(("AzureWebJobsStorage__accountName", account.as_str())),
        (None, None) if settings.keys().any(|name| is_connection(name)) => None,
        (None, None) => Some(("AzureWebJobsStorage", "UseDevelopmentStorage=true")),
    };
    if let Some((name, value)) = chosen {
        settings.retain(|name, _| !is_connection(name));
        settings.insert(name.to_owned(), value.to_owned());
    }
    // Nothing listens here.
    settings.insert("FUNCTIONS_CUSTOMHANDLER_PORT".to_owned(), "0".to_owned());
    Ok(settings)
}

fn folder(place: &Place, settings: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = || settings.get("FUNCTIONS_APP_ROOT_PATH").map(PathBuf::from);
    let here = || Path::new(HOST_JSON.0).is_file().then(|| PathBuf::from("."));
    place.app.clone().or_else(set).or_else(here)
}

/// Reads the settings, and the files in `folder` or those of this version.
fn read(settings: &mut BTreeMap<String, String>, folder: Option<&Path>) -> Result<Config> {
    let own = tempfile::tempdir().context("no temporary folder can be made, see TMPDIR")?;
    if folder.is_none() {
        for (name, content) in [HOST_JSON, FUNCTION_JSON] {
            let path = own.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(own.path()))?;
            fs::write(path, content)?;
        }
    }
    let folder = folder.unwrap_or(own.path());
    let text = folder.to_str().with_context(|| format!("the name of the folder {} is no text", folder.display()))?;
    settings.insert("FUNCTIONS_APP_ROOT_PATH".to_owned(), text.to_owned());
    Ok(Config::from_settings(settings)?)
}
