//! The settings under `AzureWebJobsStorage`, by the names under which the host reads them.
//!
//! A [section](https://learn.microsoft.com/azure/azure-functions/functions-reference#connections) of the host's
//! configuration has a value of its own, here a connection string, or members. A member is an environment variable
//! `AzureWebJobsStorage__accountName`, or `AzureWebJobsStorage:accountName` when it comes from `local.settings.json`.
//! Letter case does not matter, as in .NET. No fault repeats a value.

use std::collections::BTreeMap;

/// A setting that leads to no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct Fault {
    /// Name of the setting.
    pub setting: String,
    /// The rule that it breaks.
    pub problem: String,
}

impl Fault {
    pub(super) fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }

    pub(super) fn missing(setting: impl Into<String>) -> Self {
        Self::new(setting, "is not set, which is needed too")
    }
}

/// A setting that is there and not blank.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl Setting<'_> {
    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::new(self.name, problem)
    }
}

/// Returns the value of a setting that is there and not blank.
pub(crate) fn value<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    settings.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// The connection `AzureWebJobsStorage`: its settings, and the member that each of them is.
pub(super) struct Section<'a>(Vec<(String, Setting<'a>)>);

impl<'a> Section<'a> {
    pub(super) fn new(settings: &'a BTreeMap<String, String>) -> Self {
        let set = settings.keys().filter_map(|name| Some(Setting { name, value: value(settings, name)? }));
        Self(set.filter_map(|setting| Some((member(setting.name)?, setting))).collect())
    }

    pub(super) fn connection_string(&self) -> Option<Setting<'a>> {
        self.get("")
    }

    pub(super) fn get(&self, member: &str) -> Option<Setting<'a>> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(member)).map(|(_, setting)| *setting)
    }

    pub(super) fn require(&self, member: &str) -> Result<Setting<'a>, Fault> {
        self.get(member).ok_or_else(|| Fault::missing(format!("AzureWebJobsStorage__{member}")))
    }

    /// Finds what host and handler could understand differently: orders must not be remembered in one account while
    /// they are queued in another.
    pub(super) fn contradictions(&self) -> Vec<Fault> {
        let twice = self.0.iter().filter_map(|(member, other)| {
            let setting = self.get(member).filter(|setting| setting.value != other.value)?;
            Some(setting.fault(format!("and {} are one setting to the host, but have different values", other.name)))
        });
        let members = self.0.iter().filter(|(member, _)| !member.is_empty()).map(|(_, setting)| setting.name);
        let members = members.collect::<Vec<_>>().join(" and ");
        let ignored = self.connection_string().filter(|_| !members.is_empty()).map(|setting| {
            let problem = "is a connection string, beside which the host ignores";
            setting.fault(format!("{problem} {members}: remove one or the other"))
        });
        twice.chain(ignored).collect()
    }
}

/// Returns the member that a setting is, in lower case; the connection string has an empty name.
///
/// The host looks for a connection string, and for members, under [other
/// names](https://learn.microsoft.com/aspnet/core/fundamentals/configuration/#connection-string-prefixes) too: a Function
/// App hands over its connection strings as `CUSTOMCONNSTR_…`, `SQLAZURECONNSTR_…` and so on.
fn member(setting: &str) -> Option<String> {
    let key = setting.replace("__", ":").to_ascii_lowercase();
    let (prefix, member) = key.split_once("azurewebjobsstorage")?;
    let is_known = ["", "azurewebjobs", "connectionstrings:"].contains(&prefix) || prefix.ends_with("connstr_");
    let member = if member.is_empty() { member } else { member.strip_prefix(':')? };
    let member = if member == "managedidentityclientid" { "clientid" } else { member };
    is_known.then(|| member.to_owned())
}
