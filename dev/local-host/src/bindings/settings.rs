//! `local.settings.json`: the app settings of a developer's machine.
//! <https://learn.microsoft.com/azure/azure-functions/functions-develop-local#local-settings-file>

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::json::Json;

use super::{
    configuration::{CONNECTION_STRINGS, join, number},
    files::read_object,
};

/// Reads the values and the connection strings of a local settings file.
///
/// # Errors
/// When the file is missing, malformed, or counts as encrypted.
pub fn local_settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let document = read_object(file)?;
    let encrypted = document.member_in_any_case("IsEncrypted").and_then(Json::scalar);
    ensure!(
        encrypted.is_some_and(|text| text.eq_ignore_ascii_case("false")),
        "{}: IsEncrypted must be false, and without it the values count as encrypted: add it, or run `func settings decrypt`",
        file.display()
    );
    let text = |section: &str, name: &str, value: &Json| {
        value
            .scalar()
            .with_context(|| format!("{}: {section}.{name} is no text, number, true or false", file.display()))
    };
    let mut settings = BTreeMap::new();
    for (name, value) in members(&document, "Values").with_context(|| file.display().to_string())? {
        settings.insert(name.clone(), text("Values", name, value)?);
    }
    for (name, value) in members(&document, CONNECTION_STRINGS).with_context(|| file.display().to_string())? {
        let value = value.member_in_any_case("ConnectionString").unwrap_or(value);
        settings.insert(join(CONNECTION_STRINGS, name), text(CONNECTION_STRINGS, name, value)?);
    }
    Ok(settings)
}

/// Returns the members of a section that are given.
fn members<'a>(document: &'a Json, section: &str) -> Result<impl Iterator<Item = &'a (String, Json)>> {
    let members = match document.member_in_any_case(section) {
        Some(Json::Object(members)) => members.as_slice(),
        None | Some(Json::Null) => &[],
        Some(_) => bail!("{section} is not a JSON object"),
    };
    Ok(members.iter().filter(|(_, value)| *value != Json::Null))
}

/// Reads the port that a local settings file chooses, `Host.LocalHttpPort`.
///
/// # Errors
/// When the file cannot be read, or that is no port.
pub fn local_http_port(file: &Path) -> Result<Option<u16>> {
    let document = read_object(file)?;
    let host = document.member_in_any_case("Host");
    let port = host.and_then(|host| host.member_in_any_case("LocalHttpPort")).and_then(Json::scalar);
    let port = port.map(|text| u16::try_from(number(&text)?).with_context(|| format!("'{text}' is no port")));
    port.transpose().with_context(|| format!("{}: Host.LocalHttpPort", file.display()))
}
