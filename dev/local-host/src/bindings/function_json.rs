//! `function.json`: one trigger, its outputs and a retry policy.
//! <https://github.com/Azure/azure-functions-host/blob/dev/schemas/json/function.json>

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::json::Json;

use super::{
    Delay, Function, Output, Retry, Schedule, Trigger,
    configuration::{Configuration, boolean, number},
    files::read_object,
    time_span,
};

/// Reads the function of a folder. `warnings` gets what the local host does not imitate.
pub(super) fn load(
    file: &Path,
    name: &str,
    configuration: &Configuration,
    warnings: &mut Vec<String>,
) -> Result<Function> {
    let tail = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let valid =
        name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.len() <= 128 && name.chars().all(tail);
    ensure!(valid && !name.eq_ignore_ascii_case("host"), "'{name}' is not a valid name for a function");
    let document = read_object(file)?;
    let mut triggers = Vec::new();
    let mut outputs = Vec::new();
    for (index, members) in bindings(&document)?.iter().enumerate() {
        let binding = Binding { members, configuration };
        binding.add(&mut triggers, &mut outputs).with_context(|| format!("bindings[{index}]"))?;
        warnings
            .extend(binding.not_imitated().map(|member| not_imitated(name, &format!("bindings[{index}].{member}"))));
    }
    ensure!(triggers.len() == 1, "bindings: {} triggers where there must be one", triggers.len());
    let (binding, trigger) = triggers.remove(0);
    let retry = document.member("retry").map(retry).transpose().context("retry")?;
    if retry.is_some() && matches!(trigger, Trigger::Queue { .. }) {
        warnings.push(not_imitated(name, "retry of a queue function") + ": its messages are delivered again");
    }
    if document.member("disabled").is_some() {
        warnings.push(format!("{name}: 'disabled' is ignored, as by the host: set AzureWebJobs.{name}.Disabled"));
    }
    Ok(Function { name: name.to_owned(), binding, trigger, outputs, retry, disabled: disabled(name, configuration) })
}

fn not_imitated(function: &str, member: &str) -> String {
    format!("{function}/function.json: '{member}' is not imitated by the local host")
}

fn bindings(document: &Json) -> Result<&[Json]> {
    match document.member("bindings") {
        Some(Json::Array(bindings)) if !bindings.is_empty() => Ok(bindings),
        _ => bail!("bindings: there must be at least one"),
    }
}

fn disabled(name: &str, configuration: &Configuration) -> bool {
    let settings = [format!("AzureWebJobs.{name}.Disabled"), format!("AzureWebJobs_{name}_Disabled")];
    let value = settings.iter().find_map(|setting| configuration.get(setting));
    value.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

/// One binding. Its members ignore letter case.
struct Binding<'a> {
    members: &'a Json,
    configuration: &'a Configuration,
}

impl Binding<'_> {
    fn add(&self, triggers: &mut Vec<(String, Trigger)>, outputs: &mut Vec<Output>) -> Result<()> {
        let kind = self.text("type").context("type is missing")?;
        match kind.to_ascii_lowercase().as_str() {
            "queuetrigger" => {
                let trigger = Trigger::Queue { queue: self.queue_name()?, connection: self.connection() };
                triggers.push((self.name("in")?, trigger));
            }
            "timertrigger" => triggers.push((self.name("in")?, self.timer()?)),
            "queue" => outputs.push(Output {
                queue: self.queue_name()?,
                connection: self.connection(),
                name: self.name("out")?,
            }),
            _ => bail!("type: the local host does not know '{kind}'"),
        }
        let data_type = self.text("dataType").unwrap_or_else(|| "string".to_owned());
        ensure!(data_type.eq_ignore_ascii_case("string"), "dataType: '{data_type}' is not imitated by the local host");
        Ok(())
    }

    fn timer(&self) -> Result<Trigger> {
        let schedule = self.text("schedule").context("schedule is missing")?;
        let schedule = self.configuration.resolve(&schedule).and_then(|text| Schedule::parse(&text));
        let flag = |name: &str| self.text(name).as_deref().map(boolean).transpose().with_context(|| name.to_owned());
        Ok(Trigger::Timer {
            schedule: schedule.context("schedule")?,
            run_on_startup: flag("runOnStartup")?.unwrap_or(false),
            use_monitor: flag("useMonitor")?.unwrap_or(true),
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.members.member_in_any_case(name).and_then(Json::scalar)
    }

    /// Lists the members that are not read.
    fn not_imitated(&self) -> impl Iterator<Item = &str> {
        const READ: [&str; 9] = [
            "type",
            "direction",
            "name",
            "queueName",
            "connection",
            "dataType",
            "schedule",
            "runOnStartup",
            "useMonitor",
        ];
        let is_read = |name: &str| READ.iter().any(|read| read.eq_ignore_ascii_case(name));
        let members = if let Json::Object(members) = self.members { members.as_slice() } else { &[] };
        members.iter().map(|(name, _)| name.as_str()).filter(move |name| !is_read(name))
    }

    fn name(&self, expected: &str) -> Result<String> {
        let name = self.text("name").unwrap_or_default();
        let valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.len() <= 128
            && name.chars().all(|character| character.is_ascii_alphanumeric());
        ensure!(valid, "name: '{name}' may only have letters and digits, and begin with a letter");
        let direction = self.text("direction").unwrap_or_else(|| "in".to_owned());
        ensure!(direction.eq_ignore_ascii_case(expected), "direction: '{direction}' where '{expected}' is needed");
        Ok(name)
    }

    fn connection(&self) -> String {
        self.text("connection").filter(|name| !name.is_empty()).unwrap_or_else(|| "AzureWebJobsStorage".to_owned())
    }

    /// Returns the [name of a queue](https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata).
    fn queue_name(&self) -> Result<String> {
        let text = self.text("queueName").context("queueName is missing")?;
        let name = self.configuration.resolve(&text).context("queueName")?.to_lowercase();
        let characters = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        let dashes = name.starts_with('-') || name.ends_with('-') || name.contains("--");
        ensure!(
            (3..=63).contains(&name.len()) && characters && !dashes,
            "queueName: '{name}' is not a valid queue name"
        );
        Ok(name)
    }
}

fn retry(policy: &Json) -> Result<Retry> {
    let text = |name: &str| policy.member_in_any_case(name).and_then(Json::scalar);
    let span = |name: &str| -> Result<Duration> {
        time_span::parse(&text(name).with_context(|| format!("{name} is missing"))?).with_context(|| name.to_owned())
    };
    let count = text("maxRetryCount").context("maxRetryCount is missing")?;
    let count = number(&count).context("maxRetryCount")?;
    let max = if count == -1 { None } else { Some(u32::try_from(count).context("maxRetryCount")?) };
    // A missing strategy is exponential, which then lacks its limits: a classic.
    let delay = match text("strategy").as_deref().unwrap_or("exponentialBackoff").to_ascii_lowercase().as_str() {
        "fixeddelay" => Delay::Fixed(span("delayInterval")?),
        "exponentialbackoff" => Delay::Exponential(span("minimumInterval")?, span("maximumInterval")?),
        other => bail!("strategy: '{other}' is neither fixedDelay nor exponentialBackoff"),
    };
    Ok(Retry { max, delay })
}
