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
}

impl<'a> AppFiles<'a> {
    pub(super) fn read(settings: &'a Settings) -> Result<Self, String> {
        let folder = Path::new(app_folder(settings));
        let [host_json, function_json] = ["host.json", FUNCTION_JSON].map(|file| read_json(&folder.join(file)));
        Ok(Self { settings, host_json: host_json?, function_json: function_json? })
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
        let bindings = member(&self.function_json, "bindings").and_then(Value::as_array).into_iter().flatten();
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
        let path = key.split(':').skip(1);
        let found = path.clone().try_fold(&self.host_json, member);
        let text = found.and_then(|value| value.as_str().map(str::to_owned).or_else(|| Some(value.to_string())));
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty() && text != "null");
        (format!("{} in host.json", path.collect::<Vec<_>>().join(".")), text)
    }

    /// Puts settings in the place of their names between percent signs.
    fn resolve(&self, text: &str) -> Result<String, String> {
        let parts = text.split('%').enumerate().map(|(index, part)| match index % 2 {
            0 => Ok(part),
            _ => self
                .setting(part)
                .map(|(_, value)| value)
                .ok_or_else(|| format!("{text} in {FUNCTION_JSON} is made of the setting {part:?}, which is not set")),
        });
        parts.collect()
    }

    fn setting(&self, key: &str) -> Option<(&'a str, &'a str)> {
        let key = key.replace("__", ":");
        let mut settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.trim()));
        settings.find(|(name, value)| name.replace("__", ":").eq_ignore_ascii_case(&key) && !value.is_empty())
    }
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = value.as_object()?.iter();
    members.find_map(|(other, value)| other.eq_ignore_ascii_case(name).then_some(value))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).and_then(Value::as_str).unwrap_or_default()
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let parse = |text: String| parse_to_serde_value(&text, &ParseOptions::default()).map_err(|error| error.to_string());
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

/// A [.NET time span](https://learn.microsoft.com/dotnet/api/system.timespan.parse) longer than nothing: `days`,
/// `[days.]hours:minutes` or `[days.]hours:minutes:seconds[.fraction]`.
fn time_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (days, clock) = match (text.split_once('.'), text.contains(':')) {
        (_, false) => (text, "0:0"),
        (Some((days, clock)), true) if !days.contains(':') => (days, clock),
        (_, true) => ("0", text),
    };
    let mut fields = clock.split(':');
    let hours: u64 = fields.next()?.parse().ok().filter(|hours| *hours < 24)?;
    let minutes: u64 = fields.next()?.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds: f64 = fields.next().unwrap_or("0").parse().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    let days: u32 = days.parse().ok().filter(|days| *days <= 10_675_198)?;
    let whole = ((u64::from(days) * 24 + hours) * 60 + minutes) * 60;
    let span = Duration::from_secs(whole) + Duration::from_secs_f64(seconds);
    (fields.next().is_none() && !span.is_zero()).then_some(span)
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

    const ORDERS: &[u8] = br#"{"bindings":[{"type":"queueTrigger","queueName":"orders"}]}"#;

    #[test]
    fn the_trigger_is_read_as_the_host_reads_it() {
        let none = br#"{"extensions":{"queues":{"messageEncoding":"none"}}}"#;
        let (base64, none_as_number) = (
            br#"{"Extensions":{"Queues":{"MessageEncoding":"BASE64"}}}"#,
            br#"{"extensions":{"queues":{"messageEncoding":0}}}"#,
        );
        let renamed = br#"{"Bindings":[{"type":"timerTrigger"},{"Type":"QueueTrigger","QueueName":"Shop-Orders","connection":"Storage"}]}"#;
        let by_setting = br#"{"bindings":[{"type":"queueTrigger","queueName":"%SHOP__Queue%-in","connection":""}]}"#;
        let environment = ("azurefunctionsjobhost__extensions__queues__MESSAGEENCODING", "None");
        for (host_json, function_json, changes, queue, encoding) in [
            (&none[..], ORDERS, vec![], "orders", MessageEncoding::None),
            (none_as_number, ORDERS, vec![], "orders", MessageEncoding::None),
            (base64, renamed, vec![], "shop-orders", MessageEncoding::Base64),
            (b"{}", ORDERS, vec![], "orders", MessageEncoding::Base64),
            (base64, ORDERS, vec![environment], "orders", MessageEncoding::None),
            (none, by_setting, vec![("shop:QUEUE", "new")], "new-in", MessageEncoding::None),
        ] {
            assert_eq!(App::new(host_json, function_json).trigger(&changes), Ok((queue.to_owned(), encoding)));
        }
    }

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

    #[test]
    fn files_may_be_written_by_any_editor() {
        let text = "{ // ours\r\n \"version\": \"2.0\", \"functionTimeout\": \"00:10:00\", }";
        let utf_16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            [mark, &text.encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat()
        };
        for host_json in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            utf_16(b"\xff\xfe", u16::to_le_bytes),
            utf_16(b"\xfe\xff", u16::to_be_bytes),
        ] {
            assert_eq!(App::new(&host_json, ORDERS).limit(&[]), Ok(590.0));
        }
        assert_eq!(App::new(b"{}", ORDERS).limit(&[]), Ok(290.0), "the default of the host");
    }

    #[test]
    fn the_time_limit_of_the_host_is_read_as_the_host_reads_it() {
        let app = App::new(b"{}", ORDERS);
        for (text, seconds) in [
            ("00:05:00", 290.0),
            ("00:00:01", 0.9),
            (" 00:01:00 ", 54.0),
            ("1.00:00:00", 1790.0),
            ("-1", 1790.0),
            ("00:05", 290.0),
            ("00:00:02.5", 2.25),
            ("1", 1790.0),
            (" ", 290.0),
        ] {
            for name in ["azurefunctionsjobhost__FUNCTIONTIMEOUT", "AzureFunctionsJobHost:functionTimeout"] {
                assert_eq!(app.limit(&[(name, text)]), Ok(seconds), "{text}");
            }
        }
        assert_eq!(time_span("1.02:03:04.5"), Some(Duration::from_secs_f64(93_784.5)));
        for bad in ["", "five", "-00:05:00", "24:00:00", "00:60:00", "00:00:60", "00:00:00", "00:00:00:01", "1.2.3"] {
            assert_eq!(time_span(bad), None, "{bad}");
        }
    }
}
