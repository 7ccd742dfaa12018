//! Settings as .NET's configuration has them: what the files say, and the environment over it.
//!
//! Everything is text. Names ignore letter case, and `:` stands between two levels, for which the name of a variable
//! may have `__`. So a setting `Shop__Queue` is `%Shop:Queue%` in a file, and nothing else.
//! <https://learn.microsoft.com/dotnet/core/extensions/configuration-providers>

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::json::Json;

/// The section of connection strings.
pub(super) const CONNECTION_STRINGS: &str = "ConnectionStrings";
/// A variable that begins so is one of them.
const CONNECTION_STRING: &str = "CUSTOMCONNSTR_";

/// Names in lower case, and beside each value the name as it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration(BTreeMap<String, (String, String)>);

impl Configuration {
    /// Adds every scalar of a document under its path.
    pub(super) fn add(&mut self, path: &str, value: &Json) {
        match value {
            Json::Object(members) => members.iter().for_each(|(name, value)| self.add(&join(path, name), value)),
            Json::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.add(&join(path, &index.to_string()), item));
            }
            scalar => scalar.scalar().into_iter().for_each(|text| self.set(path.to_owned(), text)),
        }
    }

    pub(super) fn add_environment(&mut self, settings: &BTreeMap<String, String>) {
        for (name, value) in settings {
            let start = name.get(..CONNECTION_STRING.len()).unwrap_or_default();
            let among = start.eq_ignore_ascii_case(CONNECTION_STRING).then(|| &name[CONNECTION_STRING.len()..]);
            let name = among.map_or_else(|| name.clone(), |name| join(CONNECTION_STRINGS, name));
            self.set(name.replace("__", ":"), value.clone());
        }
    }

    fn set(&mut self, name: String, value: String) {
        self.0.insert(name.to_lowercase(), (name, value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(|(_, value)| value.as_str())
    }

    /// Returns the names below a path, without it, and their values.
    pub(super) fn below(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        let start = join(&path.to_lowercase(), "");
        let below = self.0.iter().filter(move |(key, _)| key.starts_with(&start));
        let length = path.len() + 1;
        below.filter_map(move |(_, (name, value))| Some((name.get(length..)?, value.as_str())))
    }

    /// Replaces each `%NAME%` by the setting of that name.
    pub(super) fn resolve(&self, text: &str) -> Result<String> {
        let (mut resolved, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            let Some((name, after)) = after.split_once('%') else { break };
            resolved.push_str(before);
            resolved.push_str(self.get(name).with_context(|| self.unresolved(name))?);
            rest = after;
        }
        Ok(resolved + rest)
    }

    fn unresolved(&self, name: &str) -> String {
        let levels = name.replace("__", ":");
        if self.get(&levels).is_some() {
            return format!("'%{name}%' does not resolve: to the host the setting {name} is '%{levels}%'");
        }
        format!("'%{name}%' does not resolve: there is no setting {levels}")
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    format!("{path}:{name}")
}

/// Reads a number, which is text in a configuration.
pub(super) fn number(text: &str) -> Result<i64> {
    text.trim().parse().with_context(|| format!("'{text}' is not a whole number"))
}

/// Reads `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => bail!("'{text}' is neither true nor false"),
    }
}
