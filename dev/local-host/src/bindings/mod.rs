//! The app as the host sees it: `host.json`, every `*/function.json` and the settings, read from the real files.
//!
//! The host accepts a good deal that is certainly a mistake: an unknown property, say. The local host does not, so that
//! a wrong binding fails here and not after a deployment. Each error names the file and the field.
//! <https://learn.microsoft.com/azure/azure-functions/functions-triggers-bindings>

mod function_json;
mod host_json;
mod schedule;
mod settings;
mod time_span;
mod files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

pub use host_json::{HostJson, MessageEncoding, Queues};
pub use schedule::Schedule;
pub use settings::local_settings;

/// Everything the host knows about an app before it starts it.
#[derive(Clone, Debug)]
pub struct App {
    /// The folder with `host.json`.
    pub root: PathBuf,
    /// The host's own settings.
    pub host: HostJson,
    /// The functions, by name.
    pub functions: Vec<Function>,
    /// The app settings: what the handler gets as environment.
    pub settings: BTreeMap<String, String>,
}

/// One function: a folder with a `function.json`.
#[derive(Clone, Debug)]
pub struct Function {
    /// The folder's name.
    pub name: String,
    /// The name of the trigger binding.
    pub binding: String,
    /// The trigger that starts the function.
    pub trigger: Trigger,
    /// The bindings of its outputs.
    pub outputs: Vec<Output>,
    /// The retry policy.
    pub retry: Option<Retry>,
    /// True when a setting disables the function: it has no listener then, but can be started by hand.
    pub disabled: bool,
}

/// The trigger of a function.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A message on a queue.
    Queue {
        /// The queue's name.
        queue: String,
        /// The name of the setting with the connection string.
        connection: String,
        /// The form of the message in the invocation.
        data_type: DataType,
    },
    /// A schedule.
    Timer {
        /// When.
        schedule: Schedule,
        /// Also each time the host starts.
        run_on_startup: bool,
        /// Whether ticks missed while the host was down are made up for.
        use_monitor: bool,
    },
}

/// A queue output binding.
#[derive(Clone, Debug)]
pub struct Output {
    /// The binding's name; `$return` for the return value.
    pub name: String,
    /// The queue's name.
    pub queue: String,
    /// The name of the setting with the connection string.
    pub connection: String,
    /// Whether strings may be decoded.
    pub data_type: DataType,
}

/// `dataType` of a binding.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DataType {
    /// Absent or `string`.
    #[default]
    Text,
    /// `binary`
    Binary,
}

/// The retry policy of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts after the first; none for endless.
    pub max: Option<u32>,
    /// The pause between two attempts.
    pub delay: Delay,
}

/// The pause before a retry.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Doubling between two limits.
    Exponential(Duration, Duration),
}

impl App {
    /// Reads the app in `root`. `settings` are all the app settings; see [`local_settings`].
    ///
    /// # Errors
    /// When a file is missing, malformed or would not work on the host.
    pub fn load(root: &Path, settings: BTreeMap<String, String>) -> Result<Self> {
        let host = host_json::load(&root.join("host.json"), &settings)?;
        let mut functions = Vec::new();
        for entry in root.read_dir().with_context(|| format!("cannot list {}", root.display()))? {
            let folder = entry?.path();
            let file = folder.join("function.json");
            if file.is_file() {
                functions.push(function_json::load(&file, &settings)?);
            }
        }
        if functions.is_empty() {
            bail!("{}: no folder with a function.json", root.display());
        }
        functions.sort_by_key(|function| function.name.to_lowercase());
        for pair in functions.windows(2) {
            let [one, other] = [&pair[0].name, &pair[1].name];
            ensure!(!one.eq_ignore_ascii_case(other), "'{one}' and '{other}' are the same function to the host");
        }
        let needs_bundle = functions.iter().any(Function::has_queue);
        ensure!(host.has_bundle || !needs_bundle, "host.json: queue bindings need an extensionBundle");
        Ok(Self { root: root.to_owned(), host, functions, settings })
    }

    /// Finds the function with this name, whatever the case, like the host.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// Returns the value of a connection: the setting itself, or with `AzureWebJobs` in front.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn connection_string(&self, connection: &str) -> Result<&str> {
        let candidates = [format!("AzureWebJobs{connection}"), connection.to_owned()];
        let value = candidates.iter().find_map(|name| self.settings.get(name));
        value.map(String::as_str).with_context(|| format!("setting '{connection}' is missing: a binding's connection"))
    }
}

impl Function {
    /// Returns the setting with the connection of a queue trigger.
    pub(crate) fn trigger_connection(&self) -> Option<&str> {
        match &self.trigger {
            Trigger::Queue { connection, .. } => Some(connection),
            Trigger::Timer { .. } => None,
        }
    }

    fn has_queue(&self) -> bool {
        self.trigger_connection().is_some() || !self.outputs.is_empty()
    }

    /// Says whether the return value has a binding of its own.
    pub(crate) fn binds_return_value(&self) -> bool {
        self.outputs.iter().any(|output| output.name == "$return")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Loads a small app after a change to one of its files.
    fn load(file: &str, change: impl Fn(&mut Value)) -> Result<App> {
        let folder = tempfile::tempdir().unwrap();
        write_app(folder.path(), file, change);
        load_from(folder.path())
    }

    fn write_app(folder: &Path, file: &str, change: impl Fn(&mut Value)) {
        let host = json!({
            "version": "2.0",
            "logging": { "logLevel": { "default": "Warning" } },
            "extensionBundle": { "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)" },
            "customHandler": { "description": { "defaultExecutablePath": "handler" } },
            "extensions": { "queues": { "batchSize": "4", "visibilityTimeout": "00:00:30", "messageEncoding": "none" } },
        });
        let queue = json!({ "bindings": [
            { "type": "queueTrigger", "direction": "in", "name": "msg", "queueName": "%QUEUE%", "connection": "Storage" },
            { "type": "queue", "direction": "out", "name": "out", "queueName": "out-queue", "connection": "Storage" },
        ] });
        let timer = json!({
            "bindings": [{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "0 */5 * * * *" }],
            "retry": { "strategy": "fixedDelay", "maxRetryCount": 3, "delayInterval": "00:00:05" },
        });
        for (name, mut document) in [("host.json", host), ("q/function.json", queue), ("t/function.json", timer)] {
            if name == file {
                change(&mut document);
            }
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, document.to_string()).unwrap();
        }
    }

    fn load_from(folder: &Path) -> Result<App> {
        let settings = [
            ("QUEUE", "Orders"),
            ("AzureWebJobsStorage", "secret"),
            ("AzureFunctionsJobHost__extensions__queues__maxDequeueCount", "7"),
            ("AzureFunctionsJobHost__CUSTOMHANDLER__Description__arguments", r#"["a", "%QUEUE%", "%NONE%"]"#),
            ("AzureWebJobs.t.Disabled", "true"),
        ];
        App::load(folder, settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn settings_resolve_and_override() {
        let app = load("", |_| ()).unwrap();
        assert_eq!((app.host.queues.batch_size, app.host.queues.max_dequeue_count), (4, 7));
        assert_eq!(app.host.arguments, ["a", "Orders"]);
        let [queue, timer] = app.functions.as_slice() else { panic!("{:?}", app.functions) };
        assert!(matches!(&queue.trigger, Trigger::Queue { queue, .. } if queue == "orders"));
        assert_eq!(app.connection_string(queue.trigger_connection().unwrap()).unwrap(), "secret");
        assert!(timer.disabled && !queue.disabled);
        let expected = Retry { max: Some(3), delay: Delay::Fixed(Duration::from_secs(5)) };
        assert_eq!(timer.retry, Some(expected));
    }

    #[test]
    fn an_error_names_the_file_and_the_field() {
        let cases = [
            ("host.json", "/version", json!("1.0"), "version"),
            ("host.json", "/customHandler/description/defaultExecutablePath", json!(""), "defaultExecutablePath"),
            ("host.json", "/extensions/queues/visibilityTimeout", json!("30s"), "extensions.queues.visibilityTimeout"),
            ("host.json", "/extensions/queues/batchSize", json!(33), "extensions.queues.batchSize"),
            ("host.json", "/extensions/queues/messageEncoding", json!("utf8"), "extensions.queues.messageEncoding"),
            ("host.json", "/extensions/queues/visibilityTimout", json!("00:00:30"), "visibilityTimout"),
            ("host.json", "/extensions/queue", json!({}), "queue"),
            ("host.json", "/functionTimout", json!("00:05:00"), "functionTimout"),
            ("host.json", "/extensionBundle", Value::Null, "extensionBundle"),
            ("host.json", "/extensionBundle/id", json!("Microsoft.Azure.Functions"), "extensionBundle.id"),
            ("host.json", "/extensionBundle/version", json!("4"), "extensionBundle.version"),
            ("q/function.json", "/bindings/0/type", json!("queueTriger"), "bindings[0].type"),
            ("q/function.json", "/bindings/0/name", json!("my_message"), "name"),
            ("q/function.json", "/bindings/0/direction", json!("out"), "direction"),
            ("q/function.json", "/bindings/1/queueName", json!("%MISSING%"), "queueName"),
            ("q/function.json", "/bindings/1/queuename", json!("x"), "queuename"),
            (
                "q/function.json",
                "/retry",
                json!({ "strategy": "fixedDelay", "maxRetryCount": 1, "delayInterval": "1" }),
                "retry",
            ),
            ("t/function.json", "/bindings/0/schedule", json!("every day"), "schedule"),
            ("t/function.json", "/retry/strategy", json!("linear"), "strategy"),
            ("t/function.json", "/retry/strategy", Value::Null, "minimumInterval"),
            ("t/function.json", "/retry/maxRetryCount", json!("%X%"), "maxRetryCount"),
            ("t/function.json", "/retry/delayInterval", json!("5s"), "delayInterval"),
        ];
        for (file, pointer, value, field) in cases {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let change = |document: &mut Value| document.pointer_mut(parent).unwrap()[name] = value.clone();
            let error = format!("{:#}", load(file, change).unwrap_err());
            assert!(error.contains(file) && error.contains(field), "{file} {pointer}: {error}");
        }
    }

    #[test]
    fn functions_differ_in_more_than_case() {
        let folder = tempfile::tempdir().unwrap();
        write_app(folder.path(), "", |_| ());
        std::fs::create_dir(folder.path().join("Q")).unwrap();
        std::fs::copy(folder.path().join("q/function.json"), folder.path().join("Q/function.json")).unwrap();
        let error = load_from(folder.path()).unwrap_err().to_string();
        assert!(error.contains("'Q'") && error.contains("'q'"), "{error}");
    }

    #[test]
    fn local_settings_must_not_count_as_encrypted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("local.settings.json");
        for (text, expected) in [
            (r#"{"IsEncrypted":false,"Values":{"A":"1","B":null}}"#, "ok"),
            (r#"{"Values":{}}"#, "IsEncrypted"),
            (r#"{"IsEncrypted":true}"#, "IsEncrypted"),
            (r#"{"IsEncrypted":false,"Values":{"A":1}}"#, "Values.A"),
        ] {
            std::fs::write(&file, text).unwrap();
            let result = local_settings(&file).map_or_else(|error| format!("{error:#}"), |_| "ok".to_owned());
            assert!(result.contains(expected), "{text}: {result}");
        }
    }
}
