//! The files of the app that the host reads too: `host.json`, and the trigger in `function.json`.
//!
//! The handler puts messages back on the queue from which the host takes them, so it has to read these files as the host
//! does: comments, a comma too many and a byte order mark pass, letter case does not matter, and an [application
//! setting](https://learn.microsoft.com/azure/azure-functions/functions-host-json#override-hostjson-values) overrides
//! `host.json`.

use super::{QUEUE_NAME, Settings, app_folder, is_queue_name};
use crate::storage::MessageEncoding;
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

const FUNCTION_JSON: &str = "queue_with_idempotency/function.json";
const TIMER_JSON: &str = "scheduled_with_retry/function.json";

/// Used when the host sets no limit: an invocation that takes longer is stuck.
const LONGEST_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The longest of the names that are made of the name of the queue.
const LONGEST_SUFFIX: &str = "-quarantine";

/// The queue that triggers the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Name of the queue.
    pub queue: String,
    /// Encoding of the messages on it.
    pub encoding: MessageEncoding,
}

impl Trigger {
    /// Name of the queue to which the host moves what it has delivered too often.
    #[must_use]
    pub fn poison_queue(&self) -> String {
        format!("{}-poison", self.queue)
    }

    /// Name of the queue on which rejected messages are kept.
    #[must_use]
    pub fn quarantine_queue(&self) -> String {
        format!("{}{LONGEST_SUFFIX}", self.queue)
    }
}

/// The files of the app, and the settings that override them.
pub(super) struct AppFiles<'a> {
    settings: &'a Settings,
    host_json: Value,
    function_json: Value,
    timer_json: Value,
}

impl<'a> AppFiles<'a> {
    pub(super) fn read(settings: &'a Settings) -> Result<Self, String> {
        let folder = Path::new(app_folder(settings));
        let [host_json, function_json] = ["host.json", FUNCTION_JSON].map(|file| read_json(&folder.join(file)));
        // Nothing but a line of the log depends on it.
        let timer_json = read_json(&folder.join(TIMER_JSON)).unwrap_or_default();
        Ok(Self { settings, host_json: host_json?, function_json: function_json?, timer_json })
    }

    /// Reads the time limit of one invocation: the limit of the host less a tenth of it, but at most 10 s less.
    pub(super) fn invocation_limit(&self) -> Result<Duration, String> {
        let (name, text) = self.host_setting("AzureFunctionsJobHost:functionTimeout");
        let limit = match text.as_deref() {
            // The shortest default of all hosting plans.
            None => Duration::from_secs(5 * 60),
            Some("-1") => LONGEST_LIMIT,
            Some(text) => {
                time_span(text).ok_or_else(|| format!("{name} is {text:?}, not a time span like 00:05:00"))?
            }
        };
        let limit = limit.min(LONGEST_LIMIT);
        Ok(limit - (limit / 10).min(Duration::from_secs(10)))
    }

    /// Reads which queue triggers the function.
    pub(super) fn trigger(&self) -> Result<Trigger, String> {
        let bindings = self.function_json["bindings"].as_array().into_iter().flatten();
        let is_trigger = |binding: &&Value| text(binding, "type").eq_ignore_ascii_case("queueTrigger");
        let binding = bindings.into_iter().find(is_trigger);
        let binding = binding.ok_or_else(|| format!("{FUNCTION_JSON} has no binding of type queueTrigger"))?;
        let connection = text(binding, "connection");
        if !["", "Storage", "AzureWebJobsStorage"].iter().any(|name| connection.eq_ignore_ascii_case(name)) {
            return Err(format!(
                "the connection in {FUNCTION_JSON} is {connection:?}, but messages are put back through AzureWebJobsStorage: let it be that"
            ));
        }
        let queue = self.resolve(text(binding, "queueName"))?.to_lowercase();
        if is_queue_name(&queue) && is_queue_name(&format!("{queue}{LONGEST_SUFFIX}")) {
            Ok(Trigger { queue, encoding: self.message_encoding()? })
        } else {
            let room = format!("and {LONGEST_SUFFIX:?} is added to this one");
            Err(format!("queueName in {FUNCTION_JSON} is {queue:?}, but {QUEUE_NAME}, {room}"))
        }
    }

    /// Reads the fixed pause after which the host repeats a tick that has failed.
    pub(super) fn retry_delay(&self) -> Option<Duration> {
        time_span(text(member(&self.timer_json, "retry")?, "delayInterval"))
    }

    fn message_encoding(&self) -> Result<MessageEncoding, String> {
        let (name, text) = self.host_setting("AzureFunctionsJobHost:extensions:queues:messageEncoding");
        match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("base64" | "1") => Ok(MessageEncoding::Base64),
            Some("none" | "0") => Ok(MessageEncoding::None),
            Some(other) => Err(format!("{name} is {other:?}, neither base64 nor none")),
        }
    }

    /// Returns a setting of the host, and where it stands: in `host.json`, or in the environment, which may have `__` for
    /// a colon.
    fn host_setting(&self, key: &str) -> (String, Option<String>) {
        if let Some((name, value)) = self.setting(key) {
            return (name.to_owned(), Some(value.to_owned()));
        }
        let (_, path) = key.split_once(':').unwrap_or_default();
        let found = at(&self.host_json, path).filter(|value| !value.is_null());
        let text = found.map(|value| value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned()));
        (format!("{} in host.json", path.replace(':', ".")), text.filter(|text| !text.is_empty()))
    }

    /// Puts settings in the place of their names between percent signs.
    fn resolve(&self, text: &str) -> Result<String, String> {
        if text.matches('%').count() % 2 == 1 {
            return Err(format!("queueName in {FUNCTION_JSON} is {text:?}, in which a percent sign has no other"));
        }
        let parts = text.split('%').enumerate().map(|(index, part)| match index % 2 {
            0 => Ok(part),
            _ => self
                .setting(part)
                .map(|(_, value)| value)
                .ok_or_else(|| format!("{text} in {FUNCTION_JSON} is made of the setting {part:?}, which is not set")),
        });
        parts.collect()
    }

    /// Finds a setting by its key, in which only colons separate, whereas the environment may have `__` for them.
    fn setting(&self, key: &str) -> Option<(&'a str, &'a str)> {
        let mut settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.trim()));
        settings.find(|(name, value)| name.replace("__", ":").eq_ignore_ascii_case(key) && !value.is_empty())
    }
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = value.as_object()?.iter();
    members.find_map(|(other, value)| other.eq_ignore_ascii_case(name).then_some(value))
}

/// Finds a value by its path, whose parts colons separate, in the names too.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let deeper = || path.rmatch_indices(':').find_map(|(end, _)| at(member(value, &path[..end])?, &path[end + 1..]));
    member(value, path).or_else(deeper)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).and_then(Value::as_str).unwrap_or_default()
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let parse = |text: String| parse_to_serde_value(&text, &ParseOptions::default()).map_err(|error| error.to_string());
    let parse = |text| match parse(text)? {
        value @ Value::Object(_) => Ok(value),
        _ => Err("it is no object".to_owned()),
    };
    let value = decode(&bytes).ok_or_else(|| "it is neither UTF-8 nor UTF-16".to_owned()).and_then(parse);
    value.map_err(|error| format!("{} is not JSON: {error}", path.display()))
}

/// Decodes a file by its byte order mark, which some editors write.
fn decode(bytes: &[u8]) -> Option<String> {
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks().0.iter().map(|pair| unit(*pair));
        char::decode_utf16(units).collect::<Result<_, _>>().ok()
    };
    match bytes {
        [0xff, 0xfe, text @ ..] => utf_16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf_16(text, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] | text => String::from_utf8(text.to_vec()).ok(),
    }
}

/// A [.NET time span](https://learn.microsoft.com/dotnet/api/system.timespan.parse) of a second or more: `days`,
/// `[days.]hours:minutes`, `[days.]hours:minutes:seconds[.fraction]`, or the last with `days:` in front.
fn time_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (days, clock) = match (text.split_once('.'), text.split_once(':'), text.matches(':').count()) {
        (_, None, _) => (text, "0:0"),
        (_, Some(parts), 3) => parts,
        (Some((days, clock)), ..) if !days.contains(':') => (days, clock),
        _ => ("0", text),
    };
    let mut fields = clock.split(':');
    let hours: u64 = fields.next()?.parse().ok().filter(|hours| *hours < 24)?;
    let minutes: u64 = fields.next()?.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds: f64 = fields.next().unwrap_or("0").parse().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    let days: u32 = days.parse().ok().filter(|days| *days <= 10_675_198)?;
    let whole = ((u64::from(days) * 24 + hours) * 60 + minutes) * 60;
    let span = Duration::from_secs(whole) + Duration::from_secs_f64(seconds);
    (fields.next().is_none() && span >= Duration::from_secs(1)).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct App(tempfile::TempDir);

    impl App {
        fn new(host_json: &[u8], function_json: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("queue_with_idempotency")).unwrap();
            fs::write(folder.path().join("host.json"), host_json).unwrap();
            fs::write(folder.path().join(FUNCTION_JSON), function_json).unwrap();
            Self(folder)
        }

        fn settings(&self, changes: &[(&str, &str)]) -> Settings {
            let root = ("FUNCTIONS_APP_ROOT_PATH", self.0.path().to_str().unwrap());
            changes.iter().chain([&root]).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        }

        fn trigger(&self, changes: &[(&str, &str)]) -> Result<(String, MessageEncoding), String> {
            AppFiles::read(&self.settings(changes))?.trigger().map(|Trigger { queue, encoding }| (queue, encoding))
        }

        fn limit(&self, changes: &[(&str, &str)]) -> Result<f64, String> {
            AppFiles::read(&self.settings(changes))?.invocation_limit().map(|limit| limit.as_secs_f64())
        }
    }

    #[test]
    fn the_pause_between_two_attempts_of_a_tick_is_that_of_its_file() {
        let app = App::new(b"{}", b"{}");
        let delay = || AppFiles::read(&app.settings(&[])).unwrap().retry_delay();
        assert_eq!(delay(), None);
        fs::create_dir(app.0.path().join("scheduled_with_retry")).unwrap();
        for (retry, expected) in [
            (r#"{"retry":{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:01:00"}}"#, Some(60)),
            (r#"{"retry":{"strategy":"exponentialBackoff","maxRetryCount":3,"minimumInterval":"00:00:01"}}"#, None),
            (r#"{"retry":"#, None),
        ] {
            fs::write(app.0.path().join(TIMER_JSON), retry).unwrap();
            assert_eq!(delay(), expected.map(Duration::from_secs), "{retry}");
        }
    }

    /// The other reader of the vectors is the local host's.
    #[test]
    fn the_files_are_read_as_the_vectors_have_it() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/configuration-vectors.json")).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            let part = |name: &str| case[name].as_str().or(vectors[name].as_str()).unwrap_or_default();
            let file = |name: &str, place: &str, part: &str| {
                let text = case["files"][name].as_str().map(str::to_owned);
                let text = text.unwrap_or_else(|| vectors[name].as_str().unwrap().replace(place, part));
                encode(&text, case["encoding"].as_str())
            };
            let app = App::new(
                &file("host.json", "@HOST@", part("host")),
                &file("function.json", "@BINDING@", part("binding")),
            );
            let environment = case["environment"].as_object().into_iter().flatten();
            let changes: Vec<_> = environment.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
            let read = app.trigger(&changes).and_then(|trigger| Ok((trigger, app.limit(&changes)?)));
            match (&case["fault"], &case["uses"], read) {
                (Value::String(named), _, Err(fault)) => assert!(fault.contains(named.as_str()), "{case}: {fault}"),
                // Messages are put back through the account in which they are remembered.
                (_, _, Err(fault)) => assert!(fault.starts_with("the connection in "), "{case}: {fault}"),
                (Value::Null, uses, Ok(((queue, encoding), limit))) => {
                    let encoding = format!("{encoding:?}").to_lowercase();
                    for (name, read) in [("queue", queue), ("messageEncoding", encoding)] {
                        assert!(uses.get(name).is_none_or(|expected| *expected == read), "{case}: {read}");
                    }
                    let expected =
                        uses.get("functionTimeout").map(|limit| limit.as_f64().unwrap_or(1_800.0).min(1_800.0));
                    let expected = expected.map(|limit| limit - (limit / 10.0).min(10.0));
                    assert!(expected.is_none_or(|expected| expected == limit), "{case}: {limit}");
                }
                (_, _, Ok(read)) => panic!("{case}: {read:?}"),
            }
        }
    }

    fn encode(text: &str, encoding: Option<&str>) -> Vec<u8> {
        let units = |unit: fn(u16) -> [u8; 2]| format!("\u{feff}{text}").encode_utf16().flat_map(unit).collect();
        match encoding {
            None => text.into(),
            Some("utf-16le with a byte order mark") => units(u16::to_le_bytes),
            Some("utf-16be with a byte order mark") => units(u16::to_be_bytes),
            Some(_) => format!("\u{feff}{text}").into(),
        }
    }

    const ORDERS: &[u8] = br#"{"bindings":[{"type":"queueTrigger","queueName":"orders"}]}"#;

    #[test]
    fn a_trigger_that_cannot_be_understood_is_a_fault() {
        let other = br#"{"bindings":[{"type":"queueTrigger","queueName":"orders","connection":"Shop"}]}"#;
        let unset = br#"{"bindings":[{"type":"queueTrigger","queueName":"%SHOP%"}]}"#;
        let long = format!(r#"{{"bindings":[{{"type":"queueTrigger","queueName":"{}"}}]}}"#, "q".repeat(53));
        for (host_json, function_json, fault) in [
            ("{}", &other[..], r#"the connection in queue_with_idempotency/function.json is "Shop""#),
            ("{}", unset, r#"is made of the setting "SHOP", which is not set"#),
            ("{}", br#"{"bindings":[{"type":"timerTrigger"}]}"#, "has no binding of type queueTrigger"),
            (
                "{}",
                br#"{"bindings":[{"type":"queueTrigger"}]}"#,
                r#"queueName in queue_with_idempotency/function.json is """#,
            ),
            ("{}", long.as_bytes(), r#"and "-quarantine" is added to this one"#),
            (
                r#"{"extensions":{"queues":{"messageEncoding":"utf-8"}}}"#,
                ORDERS,
                "extensions.queues.messageEncoding in host.json",
            ),
            ("{", ORDERS, "host.json is not JSON"),
            ("{}", b"\xff", "function.json is not JSON: it is neither UTF-8 nor UTF-16"),
        ] {
            let error = App::new(host_json.as_bytes(), function_json).trigger(&[]).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }
}
