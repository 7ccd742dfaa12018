//! `host.json`, and the settings that override it: `AzureFunctionsJobHost__a__b` stands for `a.b`.
//! <https://learn.microsoft.com/azure/azure-functions/functions-host-json>

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::json::Json;

use super::{
    configuration::{Configuration, number},
    time_span,
};

/// The section of the configuration that is `host.json`.
pub(super) const SECTION: &str = "AzureFunctionsJobHost";

/// The members that are read, and those that say nothing about timers, queues or a custom handler on one machine.
const KNOWN: [&str; 26] = [
    "$schema",
    "version",
    "functionTimeout",
    "customHandler:description:defaultExecutablePath",
    "customHandler:description:arguments",
    "customHandler:description:workingDirectory",
    "customHandler:initializationTimeout",
    "customHandler:enableForwardingHttpRequest",
    "customHandler:type",
    "httpWorker",
    "extensionBundle",
    "extensions:http",
    "extensions:queues:batchSize",
    "extensions:queues:newBatchThreshold",
    "extensions:queues:maxPollingInterval",
    "extensions:queues:visibilityTimeout",
    "extensions:queues:maxDequeueCount",
    "extensions:queues:messageEncoding",
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
#[derive(Clone, Debug)]
pub struct Queues {
    /// Messages per receive.
    pub batch_size: u32,
    /// The next batch is fetched when no more than this many messages are in hand.
    pub new_batch_threshold: Option<u32>,
    /// The longest pause between two looks at an empty queue.
    pub max_polling_interval: Option<Duration>,
    /// The visibility timeout of a failed message.
    pub visibility_timeout: Duration,
    /// A message received more often than this is poison.
    pub max_dequeue_count: u32,
    /// The encoding of text on the queue.
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

pub(super) fn read(configuration: &Configuration, root: &Path) -> Result<HostJson> {
    let section = Section(configuration);
    ensure!(section.get("version") == Some("2.0"), "version must be \"2.0\"");
    let handler = if section.has("customHandler") { "customHandler" } else { "httpWorker" };
    let own = |name: &str| section.get(&format!("{handler}:description:{name}"));
    Ok(HostJson {
        executable: executable(own("defaultExecutablePath").unwrap_or_default(), root)?,
        arguments: section.arguments(handler)?,
        working_directory: own("workingDirectory").unwrap_or_default().to_owned(),
        initialization_timeout: section
            .field("customHandler:initializationTimeout", time_span::parse)?
            .unwrap_or(Duration::from_secs(30)),
        function_timeout: section
            .field("functionTimeout", function_timeout)?
            .unwrap_or(Some(Duration::from_secs(30 * 60))),
        queues: section.queues()?,
        has_bundle: section.bundle()?,
    })
}

/// Lists the members that the host knows and this one does not, or that nobody knows.
pub(super) fn not_imitated(configuration: &Configuration) -> Vec<String> {
    let is_known = |name: &str| {
        let below = |known: &&str| name.len() > known.len() && name.as_bytes()[known.len()] == b':';
        let same = |known: &&str| name.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
        KNOWN.iter().any(|known| same(known) && (name.len() == known.len() || below(known)))
    };
    let mut lines = Vec::new();
    for (name, _) in configuration.below(SECTION).filter(|(name, _)| !is_known(name)) {
        lines.push(format!("host.json: '{}' is not imitated by the local host", name.replace(':', ".")));
    }
    if Section(configuration).has("httpWorker") {
        lines.push("host.json: section httpWorker is deprecated; use customHandler".to_owned());
    }
    lines
}

/// The part of a configuration that is `host.json`.
#[derive(Clone, Copy)]
struct Section<'a>(&'a Configuration);

impl<'a> Section<'a> {
    fn get(self, path: &str) -> Option<&'a str> {
        self.0.get(&format!("{SECTION}:{path}"))
    }

    fn has(self, path: &str) -> bool {
        self.0.below(&format!("{SECTION}:{path}")).next().is_some()
    }

    /// Reads a member, with an error that names it.
    fn field<T>(self, path: &str, read: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
        self.get(path).map(read).transpose().with_context(|| path.replace(':', "."))
    }

    /// Returns the arguments: a list, or as a setting its JSON.
    fn arguments(self, handler: &str) -> Result<Vec<String>> {
        let path = format!("{handler}:description:arguments");
        let mut list = Configuration::default();
        if let Some(text) = self.get(&path) {
            list.add(SECTION, &Json::parse(text, 2).with_context(|| path.replace(':', "."))?);
            return Ok(words(&list, SECTION));
        }
        Ok(words(self.0, &format!("{SECTION}:{path}")))
    }

    fn queues(self) -> Result<Queues> {
        let path = |name: &str| format!("extensions:queues:{name}");
        let at_least = |name: &str, least: i64, most: i64| {
            self.field(&path(name), |text| {
                let value = number(text)?;
                ensure!((least..=most).contains(&value), "'{text}' is not between {least} and {most}");
                Ok(u32::try_from(value)?)
            })
        };
        Ok(Queues {
            batch_size: at_least("batchSize", 1, 32)?.unwrap_or(16),
            new_batch_threshold: at_least("newBatchThreshold", 0, i32::MAX.into())?,
            max_polling_interval: self.field(&path("maxPollingInterval"), |text| {
                let interval = time_span::parse(text)?;
                ensure!(interval >= Duration::from_millis(100), "'{text}' is under 100 ms");
                Ok(interval)
            })?,
            visibility_timeout: self.field(&path("visibilityTimeout"), time_span::parse)?.unwrap_or_default(),
            max_dequeue_count: at_least("maxDequeueCount", 1, i32::MAX.into())?.unwrap_or(5),
            message_encoding: self.field(&path("messageEncoding"), encoding)?.unwrap_or(MessageEncoding::Base64),
        })
    }

    /// Checks the [extension bundle](https://learn.microsoft.com/azure/azure-functions/extension-bundles).
    fn bundle(self) -> Result<bool> {
        let Some(id) = self.get("extensionBundle:id") else { return Ok(false) };
        ensure!(
            id.starts_with("Microsoft.Azure.Functions.ExtensionBundle"),
            "extensionBundle.id: there is no bundle '{id}'"
        );
        let version = self.get("extensionBundle:version").unwrap_or_default();
        let range = version.starts_with(['[', '(']) && version.ends_with([']', ')']);
        ensure!(range, "extensionBundle.version: '{version}' is not a range of versions like [4.*, 5.0.0)");
        Ok(true)
    }
}

fn words(configuration: &Configuration, path: &str) -> Vec<String> {
    let mut items: Vec<_> = configuration.below(path).collect();
    items.sort_by_key(|(index, _)| index.parse::<usize>().unwrap_or(usize::MAX));
    items.iter().flat_map(|(_, text)| text.split_whitespace()).map(str::to_owned).collect()
}

fn executable(path: &str, root: &Path) -> Result<String> {
    let field = "customHandler.description.defaultExecutablePath";
    ensure!(!path.is_empty(), "{field} is missing");
    // Only an existing file is taken relative to the app; everything else is a name for `PATH`.
    if !root.join(path).is_file() {
        return Ok(path.to_owned());
    }
    let in_app = root.join(path).canonicalize().with_context(|| field.to_owned())?;
    in_app.into_os_string().into_string().ok().with_context(|| format!("{field} is not UTF-8"))
}

fn function_timeout(text: &str) -> Result<Option<Duration>> {
    if text.trim() == "-1" {
        return Ok(None);
    }
    let timeout = time_span::parse(text)?;
    ensure!(timeout >= Duration::from_secs(1), "'{text}' is under a second");
    Ok(Some(timeout))
}

fn encoding(text: &str) -> Result<MessageEncoding> {
    // As .NET reads an enumeration: its names in any case, or their numbers.
    match text.trim().to_ascii_lowercase().as_str() {
        "none" | "0" => Ok(MessageEncoding::None),
        "base64" | "1" => Ok(MessageEncoding::Base64),
        _ => bail!("'{text}' is neither none nor base64"),
    }
}
