//! The files of an app as the host reads them: JSON, in which `%NAME%` stands for a setting.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// Replaces each `%NAME%` by the setting of that name, or by what `missing` makes of it.
pub(super) fn resolve(
    text: &str,
    settings: &BTreeMap<String, String>,
    missing: fn(&str) -> Result<String>,
) -> Result<String> {
    let mut resolved = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let Some((name, after)) = after.split_once('%') else { break };
        resolved.push_str(before);
        match settings.get(name) {
            Some(value) => resolved.push_str(value),
            None => resolved.push_str(&missing(name)?),
        }
        rest = after;
    }
    Ok(resolved + rest)
}

/// Refuses a name that is no setting.
pub(super) fn must_resolve(name: &str) -> Result<String> {
    bail!("'%{name}%' does not resolve: there is no such setting")
}

/// Deserialises with an error that says where in the document it happened.
pub(super) fn from_value<T: DeserializeOwned>(value: &serde_json::Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if path == "." { anyhow::anyhow!("{error}") } else { anyhow::anyhow!("{path}: {error}") }
    })
}

/// Reads a file of JSON.
pub(super) fn read_json(file: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}
