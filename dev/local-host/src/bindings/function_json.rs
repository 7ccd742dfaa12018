//! `function.json`: one trigger, its outputs and a retry policy.
//! <https://github.com/Azure/azure-functions-host/blob/dev/schemas/json/function.json>

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{
    DataType, Delay, Function, Output, Retry, Schedule, Trigger,
    files::{from_value, must_resolve, read_json, resolve},
    time_span,
};

type Settings = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    bindings: Vec<Value>,
    retry: Option<RetryPolicy>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetryPolicy {
    strategy: Option<String>,
    max_retry_count: Value,
    #[serde(default, deserialize_with = "time_span::deserialize_some")]
    delay_interval: Option<Duration>,
    #[serde(default, deserialize_with = "time_span::deserialize_some")]
    minimum_interval: Option<Duration>,
    #[serde(default, deserialize_with = "time_span::deserialize_some")]
    maximum_interval: Option<Duration>,
}

/// `queueTrigger` and `queue` have the same fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QueueBinding {
    name: String,
    #[serde(rename = "type")]
    _type: String,
    direction: String,
    queue_name: String,
    connection: Option<String>,
    data_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimerBinding {
    name: String,
    #[serde(rename = "type")]
    _type: String,
    direction: String,
    schedule: String,
    #[serde(default)]
    run_on_startup: bool,
    use_monitor: Option<bool>,
}

pub(super) fn load(file: &Path, settings: &Settings) -> Result<Function> {
    only_file(file)?;
    let name = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let document = from_value::<Document>(&read_json(file)?);
    document.and_then(|document| check(name, &document, settings)).with_context(|| format!("{}", file.display()))
}

/// Refuses any other file: the host would take it for a script, and guess at a language.
fn only_file(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    for entry in folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))? {
        let name = entry?.file_name();
        ensure!(Some(name.as_os_str()) == file.file_name(), "{}: unexpected file {}", folder.display(), name.display());
    }
    Ok(())
}

fn check(name: &str, document: &Document, settings: &Settings) -> Result<Function> {
    let tail = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let valid =
        name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.len() <= 128 && name.chars().all(tail);
    ensure!(valid && !name.eq_ignore_ascii_case("host"), "'{name}' is not a valid name for a function");
    let mut triggers = Vec::new();
    let mut outputs = Vec::new();
    for (index, binding) in document.bindings.iter().enumerate() {
        let field = || format!("bindings[{index}]");
        match binding["type"].as_str() {
            Some("queueTrigger") => triggers.push(queue_trigger(binding, settings).with_context(field)?),
            Some("timerTrigger") => triggers.push(timer_trigger(binding, settings).with_context(field)?),
            Some("queue") => outputs.push(queue_output(binding, settings).with_context(field)?),
            Some(other) => bail!("bindings[{index}].type: the local host does not know '{other}'"),
            None => bail!("bindings[{index}].type is missing"),
        }
    }
    ensure!(triggers.len() == 1, "bindings: {} triggers where there must be one", triggers.len());
    let (binding, trigger) = triggers.remove(0);
    let disabled = settings.get(&format!("AzureWebJobs.{name}.Disabled"));
    let disabled =
        document.disabled || disabled.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    let retry = document.retry.as_ref().map(retry).transpose().context("retry")?;
    // The host warns, and then multiplies the attempts with the deliveries.
    let is_queue = matches!(trigger, Trigger::Queue { .. });
    ensure!(retry.is_none() || !is_queue, "retry: for a queue trigger, use extensions.queues of host.json");
    Ok(Function { name: name.to_owned(), binding, trigger, outputs, retry, disabled })
}

fn queue_trigger(binding: &Value, settings: &Settings) -> Result<(String, Trigger)> {
    let binding: QueueBinding = from_value(binding)?;
    check_common(&binding.name, &binding.direction, "in")?;
    let trigger = Trigger::Queue {
        queue: queue_name(&binding.queue_name, settings)?,
        data_type: data_type(binding.data_type.as_deref())?,
        connection: connection(binding.connection),
    };
    Ok((binding.name, trigger))
}

fn timer_trigger(binding: &Value, settings: &Settings) -> Result<(String, Trigger)> {
    let binding: TimerBinding = from_value(binding)?;
    check_common(&binding.name, &binding.direction, "in")?;
    let schedule = resolve(&binding.schedule, settings, must_resolve).and_then(|text| Schedule::parse(&text));
    let trigger = Trigger::Timer {
        schedule: schedule.context("schedule")?,
        run_on_startup: binding.run_on_startup,
        use_monitor: binding.use_monitor.unwrap_or(true),
    };
    Ok((binding.name, trigger))
}

fn queue_output(binding: &Value, settings: &Settings) -> Result<Output> {
    let binding: QueueBinding = from_value(binding)?;
    check_common(&binding.name, &binding.direction, "out")?;
    Ok(Output {
        queue: queue_name(&binding.queue_name, settings)?,
        data_type: data_type(binding.data_type.as_deref())?,
        connection: connection(binding.connection),
        name: binding.name,
    })
}

fn check_common(name: &str, direction: &str, expected: &str) -> Result<()> {
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.len() <= 128
        && name.chars().all(|character| character.is_ascii_alphanumeric());
    ensure!(valid || (name == "$return" && expected == "out"), "name: '{name}' may only have letters and digits");
    ensure!(direction == expected, "direction: '{direction}' where '{expected}' is needed");
    Ok(())
}

fn connection(setting: Option<String>) -> String {
    setting.filter(|name| !name.is_empty()).unwrap_or_else(|| "AzureWebJobsStorage".to_owned())
}

fn data_type(text: Option<&str>) -> Result<DataType> {
    match text {
        None | Some("string") => Ok(DataType::Text),
        Some("binary") => Ok(DataType::Binary),
        Some(other) => bail!("dataType: '{other}' is neither string nor binary"),
    }
}

/// Checks a [name of a queue](https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata).
fn queue_name(text: &str, settings: &Settings) -> Result<String> {
    let name = resolve(text, settings, must_resolve).context("queueName")?.to_lowercase();
    let characters = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
    let dashes = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    ensure!((3..=63).contains(&name.len()) && characters && !dashes, "queueName: '{name}' is not a valid queue name");
    Ok(name)
}

fn retry(policy: &RetryPolicy) -> Result<Retry> {
    let count = match &policy.max_retry_count {
        Value::String(text) => text.parse().ok(),
        number => number.as_i64(),
    };
    let count = count.with_context(|| format!("maxRetryCount: {} is not a number", policy.max_retry_count))?;
    let max = if count == -1 { None } else { Some(u32::try_from(count).context("maxRetryCount")?) };
    // A missing strategy is exponential, which then lacks its limits: a classic.
    let delay = match policy.strategy.as_deref().unwrap_or("exponentialBackoff").to_ascii_lowercase().as_str() {
        "fixeddelay" => Delay::Fixed(policy.delay_interval.context("delayInterval is missing")?),
        "exponentialbackoff" => Delay::Exponential(
            policy.minimum_interval.context("minimumInterval is missing")?,
            policy.maximum_interval.context("maximumInterval is missing")?,
        ),
        other => bail!("strategy: '{other}' is neither fixedDelay nor exponentialBackoff"),
    };
    Ok(Retry { max, delay })
}
