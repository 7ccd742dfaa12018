//! `local.settings.json`: the app settings of a developer's machine.
//! <https://learn.microsoft.com/azure/azure-functions/functions-develop-local#local-settings-file>

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::files::{from_value, read_json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LocalSettings {
    is_encrypted: Option<bool>,
    #[serde(default)]
    values: BTreeMap<String, Option<String>>,
}

/// Reads the values of a local settings file.
///
/// # Errors
/// When the file is missing, malformed, or counts as encrypted.
pub fn local_settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let settings: LocalSettings = from_value(&read_json(file)?).with_context(|| format!("{}", file.display()))?;
    if settings.is_encrypted != Some(false) {
        bail!("{}: IsEncrypted must be false; without it the values count as encrypted", file.display());
    }
    Ok(settings.values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}
