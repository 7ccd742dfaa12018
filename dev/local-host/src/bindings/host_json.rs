//! `host.json`, and the settings that override it.
//! <https://learn.microsoft.com/azure/azure-functions/functions-host-json>

use std::{collections::BTreeMap, fmt::Display, path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use super::{
    files::{from_value, read_json, resolve},
    time_span,
};

/// A setting `AzureFunctionsJobHost__a__b` stands for `a.b` of `host.json`.
const OVERRIDE: &str = "AzureFunctionsJobHost__";

/// Members of `host.json` that say nothing about timers, queues or a custom handler on one machine.
const UNREAD: [&str; 9] = [
    "$schema",
    "aggregator",
    "healthMonitor",
    "http",
    "logging",
    "singleton",
    "telemetryMode",
    "watchDirectories",
    "watchFiles",
];

/// The parts of `host.json` that concern a custom handler with queue and timer triggers.
#[derive(Clone, Debug)]
pub struct HostJson {
    /// The handler: absolute, or a name to look up in `PATH`.
    pub executable: String,
    /// Its arguments, joined with a space and split at white space, as the host's lack of quoting has it.
    pub arguments: Vec<String>,
    /// Its working directory, relative to the app.
    pub working_directory: String,
    /// False when stderr carries information as well.
    pub stderr_is_error: bool,
    /// The longest the handler may take until it answers `GET /`.
    pub initialization_timeout: Duration,
    /// The longest an invocation may take; none for ever.
    pub function_timeout: Option<Duration>,
    /// `extensions.queues`
    pub queues: Queues,
    /// Whether there is an extension bundle, which brings every binding but HTTP and timers.
    pub has_bundle: bool,
}

/// `extensions.queues` with its defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Queues {
    /// Messages per receive.
    #[serde(deserialize_with = "number")]
    pub batch_size: u32,
    /// The next batch is fetched when no more than this many messages are in hand.
    #[serde(deserialize_with = "some_number")]
    pub new_batch_threshold: Option<u32>,
    /// The longest pause between two looks at an empty queue.
    #[serde(deserialize_with = "time_span::deserialize_some")]
    pub max_polling_interval: Option<Duration>,
    /// The visibility timeout of a failed message.
    #[serde(deserialize_with = "time_span::deserialize")]
    pub visibility_timeout: Duration,
    /// A message received more often than this is poison.
    #[serde(deserialize_with = "number")]
    pub max_dequeue_count: u32,
    /// The encoding of text on the queue.
    #[serde(deserialize_with = "encoding")]
    pub message_encoding: MessageEncoding,
}

/// `messageEncoding`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageEncoding {
    /// The text as it is.
    None,
    /// Its base64.
    Base64,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            batch_size: 16,
            new_batch_threshold: None,
            max_polling_interval: None,
            visibility_timeout: Duration::ZERO,
            max_dequeue_count: 5,
            message_encoding: MessageEncoding::Base64,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: String,
    custom_handler: CustomHandler,
    function_timeout: Option<String>,
    #[serde(default)]
    extensions: Extensions,
    extension_bundle: Option<Bundle>,
    retry: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extensions {
    #[serde(default)]
    queues: Queues,
    // Only for HTTP triggers, which the local host has none of.
    #[serde(default, rename = "http")]
    _http: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    id: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CustomHandler {
    description: Description,
    #[serde(default, deserialize_with = "time_span::deserialize_some")]
    initialization_timeout: Option<Duration>,
    // Only for HTTP triggers, which the local host has none of.
    #[serde(default, rename = "enableForwardingHttpRequest")]
    _forwarding: Value,
    #[serde(default, rename = "type")]
    _type: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    default_executable_path: String,
    #[serde(default)]
    working_directory: String,
    #[serde(default)]
    worker_directory: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    use_std_error_stream_for_errors_only: Option<bool>,
}

pub(super) fn load(file: &Path, settings: &BTreeMap<String, String>) -> Result<HostJson> {
    let mut document = read_json(file)?;
    for (name, value) in settings {
        let path: Vec<&str> = name.strip_prefix(OVERRIDE).into_iter().flat_map(|path| path.split("__")).collect();
        if !path.is_empty() {
            set(&mut document, &path, value);
        }
    }
    if let Value::Object(members) = &mut document {
        members.retain(|name, _| !UNREAD.contains(&name.as_str()));
    }
    let root = file.parent().unwrap_or(Path::new("."));
    let parsed = from_value::<Document>(&document).and_then(|document| check(document, root, settings));
    parsed.with_context(|| format!("{}", file.display()))
}

/// Sets a value by its path. Names ignore case, as in the host's configuration; one that is not in the file yet must
/// have the case of the documentation.
fn set(document: &mut Value, path: &[&str], value: &str) {
    let Some((name, rest)) = path.split_first() else {
        // Lists can be given as JSON in a string.
        *document = serde_json::from_str(value).ok().filter(Value::is_array).unwrap_or_else(|| value.into());
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    if let Value::Object(members) = document {
        let known = members.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        set(members.entry(known.unwrap_or_else(|| (*name).to_owned())).or_insert(Value::Null), rest, value);
    }
}

fn check(document: Document, root: &Path, settings: &BTreeMap<String, String>) -> Result<HostJson> {
    ensure!(document.version == "2.0", "version must be \"2.0\"");
    // It would apply to queue functions too, and multiply with their deliveries.
    ensure!(document.retry.is_none(), "retry belongs into the function.json of a timer");
    let handler = document.custom_handler;
    let description = handler.description;
    let arguments = resolve(&description.arguments.join(" "), settings, |_| Ok(String::new()))?;
    Ok(HostJson {
        executable: executable(&description, root, settings)?,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        working_directory: description.working_directory,
        stderr_is_error: description.use_std_error_stream_for_errors_only.unwrap_or(true),
        initialization_timeout: handler.initialization_timeout.unwrap_or(Duration::from_secs(30)),
        function_timeout: function_timeout(document.function_timeout.as_deref())?,
        queues: check_queues(document.extensions.queues)?,
        has_bundle: document.extension_bundle.map(|bundle| check_bundle(&bundle)).transpose()?.is_some(),
    })
}

fn executable(description: &Description, root: &Path, settings: &BTreeMap<String, String>) -> Result<String> {
    let field = "customHandler.description.defaultExecutablePath";
    let path = resolve(&description.default_executable_path, settings, |name| Ok(format!("%{name}%")))?;
    ensure!(!path.is_empty(), "{field} is empty");
    let in_app = root.join(&description.worker_directory).join(&path);
    // Only an existing file is taken relative to the app; everything else is a name for `PATH`.
    if !in_app.is_file() {
        return Ok(path);
    }
    let in_app = in_app.canonicalize().with_context(|| field.to_owned())?;
    in_app.into_os_string().into_string().ok().with_context(|| format!("{field} is not UTF-8"))
}

fn function_timeout(text: Option<&str>) -> Result<Option<Duration>> {
    match text {
        None => Ok(Some(Duration::from_secs(30 * 60))),
        Some("-1") => Ok(None),
        Some(text) => {
            let timeout =
                time_span::parse(text).with_context(|| format!("functionTimeout: '{text}' is no time span"))?;
            ensure!(timeout >= Duration::from_secs(1), "functionTimeout is under a second");
            Ok(Some(timeout))
        }
    }
}

/// Checks the [extension bundle](https://learn.microsoft.com/azure/azure-functions/extension-bundles).
fn check_bundle(bundle: &Bundle) -> Result<()> {
    let known = bundle.id.starts_with("Microsoft.Azure.Functions.ExtensionBundle");
    ensure!(known, "extensionBundle.id: there is no bundle '{}'", bundle.id);
    let range = bundle.version.starts_with(['[', '(']) && bundle.version.ends_with([']', ')']);
    ensure!(range, "extensionBundle.version: '{}' is not a range of versions", bundle.version);
    Ok(())
}

fn check_queues(queues: Queues) -> Result<Queues> {
    let field = "extensions.queues";
    ensure!((1..=32).contains(&queues.batch_size), "{field}.batchSize is not between 1 and 32");
    ensure!(queues.max_dequeue_count >= 1, "{field}.maxDequeueCount is under 1");
    if queues.max_polling_interval.is_some_and(|interval| interval < Duration::from_millis(100)) {
        bail!("{field}.maxPollingInterval is under 100 ms");
    }
    Ok(queues)
}

/// Reads a number that may come as a string, and does when a setting overrides it: configuration is text to the host.
fn number<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    text.parse().map_err(|error| D::Error::custom(format!("'{text}': {error}")))
}

fn some_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    number(deserializer).map(Some)
}

fn encoding<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MessageEncoding, D::Error> {
    match String::deserialize(deserializer)?.to_ascii_lowercase().as_str() {
        "none" => Ok(MessageEncoding::None),
        "base64" => Ok(MessageEncoding::Base64),
        other => Err(D::Error::custom(format!("'{other}' is neither none nor base64"))),
    }
}
