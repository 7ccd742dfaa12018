//! The app as the host sees it: `host.json`, every `*/function.json` and the settings, read from the real files.
//!
//! A file that the host could not use ends the start, a function that it could not use is left out, and the others go
//! on. Each fault names the file and the field. What the local host does not imitate is said and left alone.
//! <https://learn.microsoft.com/azure/azure-functions/functions-triggers-bindings>

mod function_json;
mod host_json;
mod schedule;
mod settings;
mod time_span;
mod files;
mod configuration;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use configuration::{CONNECTION_STRINGS, Configuration, join};

pub use files::decode_text;
pub use host_json::{HostJson, MessageEncoding, Queues};
pub use schedule::Schedule;
pub use settings::{local_http_port, local_settings};

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
    /// Why functions are left out.
    pub faults: Vec<String>,
    /// What the local host does not imitate.
    pub warnings: Vec<String>,
    configuration: Configuration,
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
    /// The binding's name.
    pub name: String,
    /// The queue's name.
    pub queue: String,
    /// The name of the setting with the connection string.
    pub connection: String,
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
    /// When the host would not come up with it.
    pub fn load(root: &Path, settings: BTreeMap<String, String>) -> Result<Self> {
        let file = root.join("host.json");
        let mut configuration = Configuration::default();
        configuration.add(host_json::SECTION, &files::read_object(&file)?);
        configuration.add_environment(&settings);
        let host = host_json::read(&configuration, root).with_context(|| file.display().to_string())?;
        let warnings = host_json::not_imitated(&configuration);
        let (functions, faults) = (Vec::new(), Vec::new());
        let mut app = Self { root: root.to_owned(), host, functions, settings, faults, warnings, configuration };
        app.load_functions()?;
        let has_queues = app.functions.iter().any(|function| function.connections().next().is_some());
        ensure!(app.host.has_bundle || !has_queues, "{}: queue bindings need an extensionBundle", file.display());
        Ok(app)
    }

    fn load_functions(&mut self) -> Result<()> {
        let listed = self.root.read_dir().with_context(|| format!("cannot list {}", self.root.display()))?;
        let mut folders = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        folders.sort();
        for folder in folders {
            let (file, Some(name)) = (folder.join("function.json"), folder.file_name()) else { continue };
            if !file.is_file() {
                continue;
            }
            match function_json::load(&file, &name.to_string_lossy(), &self.configuration, &mut self.warnings) {
                Ok(function) => self.functions.push(function),
                Err(error) => self.faults.push(format!("{}: {error:#}", file.display())),
            }
        }
        Ok(())
    }

    /// Leaves out the functions without a connection.
    pub(crate) fn check_connections(&mut self) {
        for function in std::mem::take(&mut self.functions) {
            let missing = function.connections().find(|connection| !self.has_connection(connection));
            match missing.map(str::to_owned) {
                None => self.functions.push(function),
                Some(name) => {
                    let cure = format!("its connection, the setting {name} or AzureWebJobs{name}, is missing");
                    self.faults.push(format!("{}/function.json: {cure}", function.name));
                }
            }
        }
    }

    /// Makes sure that the host would run every function.
    ///
    /// # Errors
    /// When it would not, or there is none.
    pub fn whole(self) -> Result<Self> {
        ensure!(self.faults.is_empty(), self.faults.join("; "));
        self.usable()
    }

    /// Makes sure that the host would run some function.
    ///
    /// # Errors
    /// When it would not.
    pub(crate) fn usable(self) -> Result<Self> {
        let faults = if self.faults.is_empty() { "no folder has a function.json" } else { &self.faults.join("; ") };
        ensure!(!self.functions.is_empty(), "No job functions found in {}: {faults}", self.root.display());
        Ok(self)
    }

    /// Finds the function with this name, whatever the case, like the host.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// Returns the value of a connection: the setting with `AzureWebJobs` in front, or the setting itself. Of each name the
    /// one among the connection strings comes first.
    pub fn connection_string(&self, connection: &str) -> Option<&str> {
        let names = [&format!("AzureWebJobs{connection}"), connection];
        names.into_iter().find_map(|name| self.setting(&join(CONNECTION_STRINGS, name)).or(self.setting(name)))
    }

    /// Says whether there is a connection, be it one that only the real host can use.
    fn has_connection(&self, connection: &str) -> bool {
        self.connection_string(connection).is_some() || self.configuration.below(connection).next().is_some()
    }

    /// Returns a setting, or by its path in the section `AzureFunctionsJobHost` a member of `host.json`, whatever the case
    /// of its name.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.configuration.get(name)
    }
}

impl Function {
    /// Returns the settings with the connections of its bindings.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &str> {
        let trigger = match &self.trigger {
            Trigger::Queue { connection, .. } => Some(connection.as_str()),
            Trigger::Timer { .. } => None,
        };
        trigger.into_iter().chain(self.outputs.iter().map(|output| output.connection.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    /// Writes a small app after a change to one of its files.
    fn write_app(file: &str, change: impl Fn(&mut Value)) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
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
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, document.to_string()).unwrap();
        }
        folder
    }

    fn load(file: &str, change: impl Fn(&mut Value)) -> Result<App> {
        let settings = [
            ("QUEUE", "Orders"),
            ("AzureWebJobsStorage", "secret"),
            ("AzureFunctionsJobHost__extensions__queues__maxDequeueCount", "7"),
            ("AzureFunctionsJobHost__CUSTOMHANDLER__Description__arguments", r#"["a b", "c"]"#),
            ("azurewebjobs.T.disabled", "TRUE"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        App::load(write_app(file, change).path(), settings)
    }

    #[test]
    fn settings_resolve_and_override() {
        let app = load("", |_| ()).unwrap();
        assert_eq!((app.host.queues.batch_size, app.host.queues.max_dequeue_count), (4, 7));
        assert_eq!(app.host.arguments, ["a", "b", "c"]);
        let [queue, timer] = app.functions.as_slice() else { panic!("{:?}", app.functions) };
        assert!(matches!(&queue.trigger, Trigger::Queue { queue, .. } if queue == "orders"));
        assert_eq!(app.connection_string(queue.connections().next().unwrap()), Some("secret"));
        assert!(timer.disabled && !queue.disabled);
        let expected = Retry { max: Some(3), delay: Delay::Fixed(Duration::from_secs(5)) };
        assert_eq!(timer.retry, Some(expected));
        assert_eq!(app.warnings, [""; 0]);
    }

    #[test]
    fn a_fault_names_the_file_and_the_field() {
        let cases = [
            ("host.json", "/version", json!("1.0"), "version"),
            ("host.json", "/customHandler/description/defaultExecutablePath", json!(""), "defaultExecutablePath"),
            ("host.json", "/extensions/queues/visibilityTimeout", json!("30s"), "extensions.queues.visibilityTimeout"),
            ("host.json", "/extensions/queues/batchSize", json!(33), "extensions.queues.batchSize"),
            ("host.json", "/extensionBundle", Value::Null, "extensionBundle"),
            ("host.json", "/extensionBundle/id", json!("Microsoft.Azure.Functions"), "extensionBundle.id"),
            ("host.json", "/extensionBundle/version", json!("4"), "extensionBundle.version"),
            ("q/function.json", "/bindings/0/type", json!("queueTriger"), "bindings[0]: type"),
            ("q/function.json", "/bindings/0/name", json!("my_message"), "name"),
            ("q/function.json", "/bindings/0/direction", json!("out"), "direction"),
            ("q/function.json", "/bindings/0/dataType", json!("binary"), "dataType"),
            ("q/function.json", "/bindings/1/queueName", json!("%MISSING%"), "queueName"),
            ("t/function.json", "/bindings/0/schedule", json!("every day"), "schedule"),
            ("t/function.json", "/bindings/0/useMonitor", json!("perhaps"), "useMonitor"),
            ("t/function.json", "/retry/strategy", json!("linear"), "strategy"),
            ("t/function.json", "/retry/strategy", Value::Null, "minimumInterval"),
            ("t/function.json", "/retry/maxRetryCount", json!("%X%"), "maxRetryCount"),
            ("t/function.json", "/retry/delayInterval", json!("5s"), "delayInterval"),
        ];
        for (file, pointer, value, field) in cases {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let change = |document: &mut Value| document.pointer_mut(parent).unwrap()[name] = value.clone();
            let error = format!("{:#}", load(file, change).and_then(App::whole).unwrap_err());
            assert!(error.contains(file) && error.contains(field), "{file} {pointer}: {error}");
        }
    }

    #[test]
    fn what_is_not_imitated_is_said_and_goes_on() {
        let cases = [
            ("host.json", "/customHandler/port", json!("8080"), "customHandler.port"),
            ("host.json", "/concurrency", json!({ "dynamicConcurrencyEnabled": true }), "concurrency"),
            ("host.json", "/functions", json!(["q"]), "functions.0"),
            ("host.json", "/functionTimout", json!("00:05:00"), "functionTimout"),
            ("host.json", "/extensions/queue", json!({ "batchSize": 1 }), "extensions.queue.batchSize"),
            ("host.json", "/retry", json!({ "strategy": "fixedDelay" }), "retry.strategy"),
            ("q/function.json", "/bindings/0/queue", json!("x"), "bindings[0].queue"),
            (
                "q/function.json",
                "/retry",
                json!({ "maxRetryCount": 1, "strategy": "fixedDelay", "delayInterval": "1" }),
                "retry",
            ),
            ("q/function.json", "/disabled", json!(true), "AzureWebJobs.q.Disabled"),
        ];
        for (file, pointer, value, expected) in cases {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let change = |document: &mut Value| document.pointer_mut(parent).unwrap()[name] = value.clone();
            let app = load(file, change).and_then(App::whole).unwrap();
            assert!(app.warnings.len() == 1 && app.warnings[0].contains(expected), "{pointer}: {:?}", app.warnings);
        }
    }

    /// Writes a text in an encoding of the vectors.
    fn encode(text: &str, encoding: Option<&str>) -> Vec<u8> {
        let marked = format!("\u{feff}{text}");
        match encoding {
            None => text.into(),
            Some("utf-8 with a byte order mark") => marked.into(),
            Some("utf-16le with a byte order mark") => marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Some("utf-16be with a byte order mark") => marked.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Some(other) => panic!("{other}"),
        }
    }

    /// Says what comes of the files and settings of a case, in the terms of the vectors.
    fn read_vector(vectors: &Value, case: &Value) -> Result<Value> {
        let folder = tempfile::tempdir().unwrap();
        let or =
            |name: &str, default: &Value| case.get(name).unwrap_or(default).as_str().unwrap_or_default().to_owned();
        let text = |name: &str| case["files"].get(name).unwrap_or(&vectors[name]).as_str().unwrap();
        let host = text("host.json").replace("@HOST@", &or("host", &Value::Null));
        let function = text("function.json").replace("@BINDING@", &or("binding", &vectors["binding"]));
        fs::create_dir(folder.path().join("function")).unwrap();
        for (name, text) in [("host.json", host), ("function/function.json", function)] {
            fs::write(folder.path().join(name), encode(&text, case["encoding"].as_str())).unwrap();
        }
        let settings =
            [&vectors["environment"], &case["environment"]].into_iter().filter_map(Value::as_object).flatten();
        let settings = settings.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let mut app = App::load(folder.path(), settings)?;
        app.check_connections();
        let app = app.whole()?;
        let Trigger::Queue { queue, connection } = &app.functions[0].trigger else { panic!("{app:?}") };
        let HostJson { function_timeout, queues, .. } = &app.host;
        Ok(json!({
            "functionTimeout": function_timeout.map(|limit| limit.as_secs_f64()),
            "messageEncoding": format!("{:?}", queues.message_encoding).to_lowercase(),
            "queue": queue,
            "connection": app.connection_string(connection),
        }))
    }

    #[test]
    fn settings_are_read_as_the_vectors_have_it() {
        let text = include_str!("../../../../tests/configuration-vectors.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            let read = read_vector(&vectors, case);
            match (case["fault"].as_str(), read) {
                (Some(named), Err(error)) => assert!(format!("{error:#}").contains(named), "{case}: {error:#}"),
                (None, Ok(read)) => {
                    for (name, expected) in case["uses"].as_object().unwrap() {
                        // A number is a number, with a fraction or without.
                        let same = read[name] == *expected
                            || read[name].as_f64().is_some_and(|it| expected.as_f64() == Some(it));
                        assert!(same, "{case}: {read}");
                    }
                }
                (_, read) => panic!("{case}: {read:?}"),
            }
        }
    }

    #[test]
    fn local_settings_are_read_as_people_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("local.settings.json");
        let cases = [
            (r#"{"IsEncrypted":false,"Values":{"A":"1","B":null}}"#, "1"),
            ("{\r\n  // mine\r\n  'isEncrypted': false,\r\n  \"values\": { \"A\": true, },\r\n}", "true"),
            (r#"{"IsEncrypted":"false","Values":{"A":1.50}}"#, "1.50"),
            (r#"{"IsEncrypted":false,"ConnectionStrings":{"A":"5"},"Values":{"A":"1"}}"#, "1"),
            (r#"{"Values":{}}"#, "IsEncrypted"),
            (r#"{"IsEncrypted":true}"#, "or run `func settings decrypt`"),
            (r#"{"IsEncrypted":false,"Values":["A"]}"#, "local.settings.json: Values is not a JSON object"),
            ("", "local.settings.json is not JSON: there is nothing in it"),
            ("\0{\0}", "save it as UTF-8"),
            (r#"{"IsEncrypted":false,"Values":{"A":[1]}}"#, "Values.A"),
            ("[]", "local.settings.json is not a JSON object"),
            ("{", "local.settings.json is not JSON"),
        ];
        let encodings = [None, Some("utf-8 with a byte order mark"), Some("utf-16le with a byte order mark")];
        for ((text, expected), encoding) in cases.iter().flat_map(|case| encodings.map(|encoding| (case, encoding))) {
            fs::write(&file, encode(text, encoding)).unwrap();
            let result = local_settings(&file).map_or_else(|error| format!("{error:#}"), |values| values["A"].clone());
            assert!(result.contains(expected), "{text}: {result}");
        }
        fs::write(&file, r#"{"IsEncrypted":false,"ConnectionStrings":{"A":"5","B":{"ConnectionString":"6"}}}"#)
            .unwrap();
        let expected = [("ConnectionStrings:A", "5"), ("ConnectionStrings:B", "6")];
        let values = local_settings(&file).unwrap();
        assert!(values.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected), "{values:?}");
        fs::write(&file, r#"{"IsEncrypted":false,"Host":{"LocalHttpPort":"7072"}}"#).unwrap();
        assert_eq!(local_http_port(&file).unwrap(), Some(7072));
        fs::write(&file, r#"{"IsEncrypted":false,"Host":{"LocalHttpPort":70000}}"#).unwrap();
        let fault = format!("{:#}", local_http_port(&file).unwrap_err());
        assert!(fault.contains("local.settings.json: Host.LocalHttpPort: '70000' is no port"), "{fault}");
    }
}
