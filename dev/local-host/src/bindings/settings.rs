//! `local.settings.json`: the app settings of a developer's machine.
//! <https://learn.microsoft.com/azure/azure-functions/functions-develop-local#local-settings-file>

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};

use crate::json::Json;

use super::{configuration::number, files::read_object};

/// Reads the values of a local settings file.
///
/// # Errors
/// When the file is missing, malformed, or counts as encrypted.
pub fn local_settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let document = read_object(file)?;
    let encrypted = document.member_in_any_case("IsEncrypted").and_then(Json::scalar);
    ensure!(
        encrypted.is_some_and(|text| text.eq_ignore_ascii_case("false")),
        "{}: IsEncrypted must be false; without it the values count as encrypted",
        file.display()
    );
    let Some(Json::Object(values)) = document.member_in_any_case("Values") else { return Ok(BTreeMap::new()) };
    let given = values.iter().filter(|(_, value)| *value != Json::Null);
    let text = |(name, value): &(String, Json)| {
        let text = value.scalar().with_context(|| format!("{}: Values.{name} is no text", file.display()))?;
        Ok((name.clone(), text))
    };
    given.map(text).collect()
}

/// Reads the port that a local settings file chooses, `Host.LocalHttpPort`.
///
/// # Errors
/// When the file cannot be read, or that is no port.
pub fn local_http_port(file: &Path) -> Result<Option<u16>> {
    let document = read_object(file)?;
    let host = document.member_in_any_case("Host");
    let port = host.and_then(|host| host.member_in_any_case("LocalHttpPort")).and_then(Json::scalar);
    let port = port.map(|text| Ok(u16::try_from(number(&text)?)?)).transpose();
    port.map_err(|error: anyhow::Error| error.context(format!("{}: Host.LocalHttpPort", file.display())))
}
