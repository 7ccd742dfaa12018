//! The settings: read once, checked all at once, and nowhere else.
//!
//! `docs/settings.md` lists them.

mod app_files;

pub use app_files::Trigger;

use crate::{
    connection::{Connection, section::value},
    storage::MessageEncoding,
};
use app_files::AppFiles;
use std::{collections::BTreeMap, env::temp_dir, path::PathBuf, time::Duration};
use tracing_subscriber::filter::Targets;

/// Prefix of our own settings: another name that begins so is a typing error.
const OWN_PREFIX: &str = "IDEMPOTENCY_";
const TABLE: &str = "IDEMPOTENCY_TABLE";
const TTL_HOURS: &str = "IDEMPOTENCY_TTL_HOURS";
const EVENTS_QUEUE: &str = "EVENTS_QUEUE";
const EVENTS_ENCODING: &str = "EVENTS_ENCODING";

/// By default a message lives seven days on its queue, and seven more on the poison queue: 30 days outlive both, and a
/// person's holiday.
const DEFAULT_TTL_HOURS: u32 = 30 * 24;

/// Ten years.
const MAX_TTL_HOURS: u32 = 10 * 365 * 24;

/// Everything the handler can be told from outside.
#[derive(Debug)]
pub struct Config {
    /// Port on the loopback interface.
    pub port: u16,
    /// The storage account.
    pub connection: Connection,
    /// What the functions have to know.
    pub app: AppConfig,
    /// Time limit of one invocation: inside the host's own, at which it kills the process.
    pub invocation_limit: Duration,
    /// Which lines are logged.
    pub log_levels: Targets,
    /// Folder of the app, which tells one app from another.
    pub app_folder: String,
    /// Folder for what outlives the process, though not the machine.
    pub temporary_folder: PathBuf,
}

/// What the functions have to know: where things are in the account, and for how long.
#[derive(Debug)]
pub struct AppConfig {
    /// Name of the table.
    pub table: String,
    /// Name of the queue of events.
    pub events_queue: String,
    /// Encoding of the events on it.
    pub events_encoding: MessageEncoding,
    /// The queue that triggers the function.
    pub trigger: Trigger,
    /// Time for which a record is kept.
    pub retention: time::Duration,
    /// Pause after which the host repeats a tick that has failed, if it is always the same.
    pub retry_delay: Option<Duration>,
}

/// Every fault of the settings, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{} bad setting{}: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("; "))]
pub struct BadSettings(Vec<String>);

impl Config {
    /// Reads the environment and `host.json`.
    ///
    /// # Errors
    ///
    /// All faults at once.
    #[expect(clippy::disallowed_methods, reason = "the only reader of the environment")]
    pub fn from_environment() -> Result<Self, BadSettings> {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let settings = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self::from_settings(&settings)
    }

    /// Checks `settings` and the `host.json` they lead to.
    ///
    /// # Errors
    ///
    /// All faults at once.
    pub fn from_settings(settings: &BTreeMap<String, String>) -> Result<Self, BadSettings> {
        let mut faults = unknown(settings);
        let mut keep = |fault| faults.push(fault);
        let port = port(settings).map_err(&mut keep).ok();
        let connection = Connection::from_settings(settings)
            .map_err(|faults| faults.iter().for_each(|fault| keep(fault.to_string())))
            .ok();
        let table = table(settings).map_err(&mut keep).ok();
        let events_queue = events_queue(settings).map_err(&mut keep).ok();
        let events_encoding = events_encoding(settings).map_err(&mut keep).ok();
        let retention = retention(settings).map_err(&mut keep).ok();
        let files = AppFiles::read(settings).map_err(&mut keep).ok();
        let trigger = files.as_ref().and_then(|files| files.trigger().map_err(&mut keep).ok());
        let invocation_limit = files.as_ref().and_then(|files| files.invocation_limit().map_err(&mut keep).ok());
        let log_levels = log_levels(settings).map_err(&mut keep).ok();
        let complete = || {
            Some(Self {
                port: port?,
                connection: connection?,
                app: AppConfig {
                    table: table?,
                    events_queue: events_queue?,
                    events_encoding: events_encoding?,
                    trigger: trigger?,
                    retention: retention?,
                    retry_delay: files.as_ref().and_then(AppFiles::retry_delay),
                },
                invocation_limit: invocation_limit?,
                log_levels: log_levels?,
                app_folder: app_folder(settings).to_owned(),
                temporary_folder: temp_dir(),
            })
        };
        complete().filter(|_| faults.is_empty()).ok_or(BadSettings(faults))
    }
}

type Settings = BTreeMap<String, String>;

fn unknown(settings: &Settings) -> Vec<String> {
    let known = [TABLE, TTL_HOURS, EVENTS_QUEUE, EVENTS_ENCODING];
    // Other programs have settings that begin with `EVENTS_`, so of those only other letters are a slip.
    let is_own = |name: &str| name.starts_with(OWN_PREFIX) || [EVENTS_QUEUE, EVENTS_ENCODING].contains(&name);
    let names = settings.keys().filter(|name| is_own(&name.to_ascii_uppercase()) && !known.contains(&name.as_str()));
    names.map(|name| format!("{name} is not a setting; there are {}", known.join(", "))).collect()
}

fn app_folder(settings: &Settings) -> &str {
    value(settings, "FUNCTIONS_APP_ROOT_PATH").unwrap_or(".")
}

fn port(settings: &Settings) -> Result<u16, String> {
    const NAME: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
    let text = value(settings, NAME).ok_or_else(|| {
        format!("{NAME} is not set: the Functions host sets it, so start the app with `func start` or `cargo start`")
    })?;
    text.parse().map_err(|_| format!("{NAME} is {text:?}, not a port number"))
}

/// [Table
/// names](https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#table-names).
fn table(settings: &Settings) -> Result<String, String> {
    let name = value(settings, TABLE).unwrap_or("idempotency");
    let is_valid = (3..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && !name.eq_ignore_ascii_case("tables");
    if is_valid {
        Ok(name.to_owned())
    } else {
        Err(format!("{TABLE} is {name:?}, but a table name has 3 to 63 letters and digits and begins with a letter"))
    }
}

/// [Queue names](https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata#queue-names).
fn events_queue(settings: &Settings) -> Result<String, String> {
    let name = value(settings, EVENTS_QUEUE).unwrap_or("order-events");
    if is_queue_name(name) { Ok(name.to_owned()) } else { Err(format!("{EVENTS_QUEUE} is {name:?}, but {QUEUE_NAME}")) }
}

const QUEUE_NAME: &str = "a queue name has 3 to 63 lower-case letters, digits and single hyphens between them";

fn is_queue_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// Letter case does not matter, as for the host.
fn events_encoding(settings: &Settings) -> Result<MessageEncoding, String> {
    match value(settings, EVENTS_ENCODING) {
        None => Ok(MessageEncoding::Base64),
        Some(name) if name.eq_ignore_ascii_case("base64") => Ok(MessageEncoding::Base64),
        Some(name) if name.eq_ignore_ascii_case("none") => Ok(MessageEncoding::None),
        Some(name) => Err(format!("{EVENTS_ENCODING} is {name:?}, neither `base64` nor `none`")),
    }
}

fn retention(settings: &Settings) -> Result<time::Duration, String> {
    let hours = match value(settings, TTL_HOURS) {
        None => Some(DEFAULT_TTL_HOURS),
        Some(text) => text.parse().ok().filter(|hours| (1..=MAX_TTL_HOURS).contains(hours)),
    };
    let hours = hours.ok_or_else(|| {
        format!("{TTL_HOURS} is {:?}, not a whole number of hours from 1 to {MAX_TTL_HOURS}", settings[TTL_HOURS])
    })?;
    Ok(time::Duration::hours(hours.into()))
}

fn log_levels(settings: &Settings) -> Result<Targets, String> {
    const NAME: &str = "RUST_LOG";
    let text = value(settings, NAME).unwrap_or("warn,handler=info");
    text.parse().map_err(|_| format!("{NAME} is {text:?}, not a list of `level` or `target=level`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let mut settings: Settings = [
            ("FUNCTIONS_CUSTOMHANDLER_PORT", "7072"),
            ("FUNCTIONS_APP_ROOT_PATH", env!("CARGO_MANIFEST_DIR")),
            ("AzureWebJobsStorage", "UseDevelopmentStorage=true"),
        ]
        .into_iter()
        .chain(changes.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        settings.retain(|_, value| value != "(unset)");
        settings
    }

    #[track_caller]
    fn check_fault(changes: &[(&str, &str)], expected: &str) {
        let error = Config::from_settings(&settings(changes)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn defaults_outlive_the_queue_and_stay_inside_the_time_limit_of_the_host() {
        let config = Config::from_settings(&settings(&[])).unwrap();
        assert_eq!((config.port, config.app.table.as_str()), (7072, "idempotency"));
        assert!(config.app.retention > time::Duration::days(2 * 7));
        assert_eq!(config.invocation_limit, Duration::from_secs(290), "host.json says 00:05:00");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let error = Config::from_settings(&settings(&[
            ("FUNCTIONS_CUSTOMHANDLER_PORT", "high"),
            ("AzureWebJobsStorage", "AccountName=shop"),
            ("IDEMPOTENCY_TABLE", "my-table"),
            ("IDEMPOTENCY_TTL_HOURS", "forever"),
            ("IDEMPOTENCY_TTL_HOUR", "12"),
            ("RUST_LOG", "handler=loud"),
            ("AzureFunctionsJobHost__functionTimeout", "five"),
        ]))
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("7 bad settings: "), "{error}");
        for name in [
            "FUNCTIONS_CUSTOMHANDLER_PORT",
            "AzureWebJobsStorage",
            "IDEMPOTENCY_TABLE",
            "IDEMPOTENCY_TTL_HOURS",
            "IDEMPOTENCY_TTL_HOUR is not a setting",
            "RUST_LOG",
            "AzureFunctionsJobHost__functionTimeout",
        ] {
            assert!(error.contains(name), "{name}: {error}");
        }
        assert!(!error.contains('\n'));
    }

    #[test]
    fn what_other_programs_are_told_is_no_fault_of_ours() {
        let others =
            [("EVENTS_SERVICE_HOST", "10.0.0.11"), ("WEBSITE_SITE_NAME", "shop"), ("AzureWebJobsDashboard", "x")];
        Config::from_settings(&settings(&others)).unwrap();
        for name in ["idempotency_ttl_hours", "Events_Queue", "Events_Encoding"] {
            check_fault(&[(name, "12")], &format!("{name} is not a setting"));
        }
    }

    #[test]
    fn what_is_needed_is_named_when_it_is_not_set() {
        check_fault(
            &[("FUNCTIONS_CUSTOMHANDLER_PORT", "(unset)")],
            "1 bad setting: FUNCTIONS_CUSTOMHANDLER_PORT is not set",
        );
        check_fault(&[("AzureWebJobsStorage", "(unset)")], "AzureWebJobsStorage is not set");
        check_fault(&[("AzureWebJobsStorage", " ")], "AzureWebJobsStorage is not set");
        check_fault(&[("FUNCTIONS_APP_ROOT_PATH", "/nowhere")], "/nowhere/host.json cannot be read");
    }

    #[test]
    fn values_are_checked_at_their_limits() {
        for bad in ["0", "-1", "87601", "1.5", "24h", "4294967296"] {
            check_fault(&[("IDEMPOTENCY_TTL_HOURS", bad)], "IDEMPOTENCY_TTL_HOURS");
        }
        for bad in ["ab", "1orders", "or-ders", "Tables", &"t".repeat(64), "ördërs"] {
            check_fault(&[("IDEMPOTENCY_TABLE", bad)], "IDEMPOTENCY_TABLE");
        }
        for bad in ["ab", "Events", "-events", "events-", "order--events", "order_events", &"q".repeat(64)] {
            check_fault(&[("EVENTS_QUEUE", bad)], "EVENTS_QUEUE");
        }
        for bad in ["utf-8", "base64url", "false", "0"] {
            check_fault(
                &[("EVENTS_ENCODING", bad)],
                &format!("EVENTS_ENCODING is {bad:?}, neither `base64` nor `none`"),
            );
        }
        let config =
            Config::from_settings(&settings(&[("IDEMPOTENCY_TTL_HOURS", "1"), ("IDEMPOTENCY_TABLE", "abc")])).unwrap();
        assert_eq!((config.app.retention, config.app.table.as_str()), (time::Duration::HOUR, "abc"));
        let config = Config::from_settings(&settings(&[("IDEMPOTENCY_TTL_HOURS", "87600")])).unwrap();
        assert_eq!(config.app.retention, time::Duration::days(3_650));
    }

    #[test]
    fn events_are_published_in_base64_unless_they_are_to_have_no_encoding() {
        use MessageEncoding::{Base64, None};
        for (text, expected) in [("(unset)", Base64), (" ", Base64), ("BASE64", Base64), ("none", None), ("None", None)]
        {
            let config = Config::from_settings(&settings(&[("EVENTS_ENCODING", text)])).unwrap();
            assert_eq!(config.app.events_encoding, expected, "{text}");
        }
    }

    #[test]
    fn a_secret_in_a_bad_connection_string_is_not_repeated() {
        let error = Config::from_settings(&settings(&[("AzureWebJobsStorage", "AccountName=a;AccountKey=s3cret!")]))
            .unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn every_setting_that_is_read_is_listed_in_the_documentation() {
        let rows = include_str!("../../docs/settings.md").lines().filter_map(|line| line.strip_prefix("| "));
        let listed: String = rows.filter_map(|row| row.split(" |").next()).collect();
        let sources = [
            include_str!("mod.rs"),
            include_str!("app_files.rs"),
            include_str!("../connection/mod.rs"),
            include_str!("../connection/section.rs"),
            include_str!("../connection/identity.rs"),
        ];
        let read: Vec<_> = sources.into_iter().flat_map(settings_in).collect();
        for name in ["IDEMPOTENCY_TABLE", "AzureWebJobsStorage__tableServiceUri", "AzureWebJobsStorage__clientSecret"] {
            assert!(read.iter().any(|found| found == name), "the search misses {name}: {read:?}");
        }
        for name in read.iter().map(String::as_str).chain(["AzureWebJobsStorage"]) {
            assert!(listed.contains(&format!("`{name}`")), "{name}");
        }
    }

    /// Finds the settings that a source reads: texts that look like an environment variable, and members of the
    /// connection.
    fn settings_in(source: &str) -> Vec<String> {
        let code = source.split("#[cfg(test)]").next().unwrap().lines().filter(|line| !line.trim().starts_with("//"));
        let parts: Vec<_> = code.map(|line| line.split('"').collect::<Vec<_>>()).collect();
        let texts = parts.iter().flat_map(|parts| parts.windows(2).step_by(2).map(|pair| (pair[0], pair[1])));
        let name = |(before, text): (&str, &str)| {
            let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
            let is_member =
                [".get(", ".require("].iter().any(|call| before.ends_with(call)) || text.ends_with("ServiceUri");
            let is_variable =
                text.contains('_') && text.len() > 2 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            match text {
                OWN_PREFIX => None,
                _ if text.starts_with("AzureFunctionsJobHost") => Some(text.replace(':', "__")),
                _ if is_variable => Some(text.to_owned()),
                _ if is_word && is_member && !text.is_empty() => Some(format!("AzureWebJobsStorage__{text}")),
                _ => None,
            }
        };
        texts.filter_map(name).collect()
    }
}
