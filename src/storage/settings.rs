//! The connection `AzureWebJobsStorage`, read as the host reads it, so that there is one thing to configure.
//!
//! It is a [section](https://learn.microsoft.com/azure/azure-functions/functions-reference#connections) of the host's
//! configuration. Its own value is a connection string; without one its members name the endpoints, and the
//! [identity](super::identity) that has access to them:
//!
//! | member | meaning |
//! |---|---|
//! | `accountName` | the account, in the public cloud |
//! | `tableServiceUri`, `queueServiceUri` | its endpoints, in any cloud |
//!
//! A member is an environment variable `AzureWebJobsStorage__accountName`, or `AzureWebJobsStorage:accountName` when it
//! comes from `local.settings.json`; the host takes either, and so does this module. Letter case does not matter, as
//! in .NET.
//!
//! What the parts of the host would understand differently, or skip in silence, is a fault here: orders must not be
//! remembered in one account while they are queued in another. No fault repeats a value.

use super::{
    Account, Error,
    account::{InvalidConnection, is_safe},
    credential::{Clock, Tokens},
    identity::Identity,
};
use azure_core::{HttpClient, Url};
use azure_storage::StorageCredentials;
use std::{collections::BTreeMap, sync::Arc};

/// The connection of the host, and of both functions.
pub const CONNECTION: &str = "AzureWebJobsStorage";

/// The members that say where and who. They mean nothing beside a connection string.
pub const MEMBERS: [&str; 8] = [
    "accountName",
    "tableServiceUri",
    "queueServiceUri",
    "credential",
    "clientId",
    "managedIdentityClientId",
    "tenantId",
    "clientSecret",
];

/// Why the settings lead to no account.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing.
    #[error(
        "AzureWebJobsStorage is not set: needed is a connection string, or AzureWebJobsStorage__accountName, or both \
         AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri"
    )]
    NotSet,
    /// There is something, but not enough.
    #[error("{0} is not set, which is needed too")]
    Missing(String),
    /// The connection string cannot be read.
    #[error("AzureWebJobsStorage is not a connection string: {0}")]
    ConnectionString(InvalidConnection),
    /// The host skips these.
    #[error(
        "AzureWebJobsStorage is a connection string, beside which the host ignores {}: remove one or the other",
        .0.join(" and ")
    )]
    Ignored(Vec<String>),
    /// The host looks there first.
    #[error("{0} is set, which the host would use in place of AzureWebJobsStorage: remove it")]
    Preferred(String),
    /// One setting in two spellings.
    #[error("{0} and {1} are one setting to the host, but have different values")]
    Twice(String, String),
    /// Two ways to say where a service is.
    #[error(
        "{0} is not an endpoint of the account in {1}, and the parts of the host disagree on which of the two counts"
    )]
    Disagree(String, String),
    /// No name of an account.
    #[error("{0} is not the name of a storage account: 3 to 24 letters and digits")]
    InvalidName(String),
    /// No endpoint.
    #[error("{0} is not an https URL of a server, with nothing after its path")]
    InvalidUri(String),
    /// A token or an order would be readable on its way.
    #[error("{0} is plain http, which is allowed on this machine only")]
    PlainHttp(String),
    /// Something that this program cannot do, though the host can.
    #[error("{0} is not supported here: {1}")]
    Unsupported(String, &'static str),
}

/// A storage account and how it is opened. Nothing is connected yet.
#[derive(Debug)]
pub enum AccountSettings {
    /// With what the connection string holds.
    Keyed(Account),
    /// As somebody.
    Keyless(Endpoints, Identity),
}

/// Where the services of an account are.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Of the Table service.
    pub tables: Url,
    /// Of the Queue service.
    pub queues: Url,
}

impl Endpoints {
    /// Plain http is allowed to the emulator only, wherever it runs.
    pub(super) fn are_of_the_emulator(&self) -> bool {
        [&self.tables, &self.queues].into_iter().all(|endpoint| endpoint.scheme() == "http")
    }
}

impl AccountSettings {
    /// Reads the connection from `settings`, which are all of the environment.
    ///
    /// # Errors
    ///
    /// Every fault.
    pub fn from_settings(settings: &BTreeMap<String, String>) -> Result<Self, Vec<Fault>> {
        let section = Section::new(settings);
        let mut faults = section.faults();
        let read = match section.value() {
            Some(text) => Account::from_connection_string(text)
                .map(Self::Keyed)
                .map_err(|error| vec![Fault::ConnectionString(error)]),
            None => keyless(&section, settings),
        };
        match read {
            Ok(account) if faults.is_empty() => Ok(account),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// Whether the account is the emulator's.
    #[must_use]
    pub fn is_emulator(&self) -> bool {
        match self {
            Self::Keyed(account) => account.is_emulator(),
            Self::Keyless(endpoints, _) => endpoints.are_of_the_emulator(),
        }
    }

    /// The account, whose tokens come through `connection` and are as old as `clock` says. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No token can ever be had for an identity like this.
    pub fn account(&self, connection: Arc<dyn HttpClient>, clock: Clock) -> Result<Account, Error> {
        match self {
            Self::Keyed(account) => Ok(account.clone()),
            Self::Keyless(endpoints, identity) => {
                let tokens = Tokens::new(identity, connection, clock)?;
                let credential = StorageCredentials::token_credential(Arc::new(tokens));
                Ok(Account::new(String::new(), endpoints.clone(), credential))
            }
        }
    }
}

fn keyless(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Result<AccountSettings, Vec<Fault>> {
    let places = ["accountName", "tableServiceUri", "queueServiceUri", "blobServiceUri"];
    if !places.iter().any(|member| section.get(member).is_some()) {
        return Err(vec![Fault::NotSet]);
    }
    let mut faults = Vec::new();
    let mut keep = |fault| faults.push(fault);
    let tables = endpoint(section, "table").map_err(&mut keep).ok();
    let queues = endpoint(section, "queue").map_err(&mut keep).ok();
    let identity = Identity::from_section(section, settings).map_err(&mut keep).ok();
    let complete = || Some(AccountSettings::Keyless(Endpoints { tables: tables?, queues: queues? }, identity?));
    complete().ok_or_else(|| {
        // A name that is none is a fault of both endpoints.
        faults.dedup();
        faults
    })
}

/// The endpoint of a service, by its own setting or by the name of the account.
fn endpoint(section: &Section<'_>, service: &str) -> Result<Url, Fault> {
    let member = format!("{service}ServiceUri");
    let named = section.get("accountName").map(|(setting, name)| named_endpoint(setting, name, service)).transpose()?;
    let given = section.get(&member).map(|(setting, uri)| given_endpoint(setting, uri)).transpose()?;
    match (given, named) {
        (Some(given), Some(named)) if given != named => {
            Err(Fault::Disagree(section.name(&member), section.name("accountName")))
        }
        (Some(endpoint), _) | (None, Some(endpoint)) => Ok(endpoint),
        (None, None) => Err(Fault::Missing(section.name(&member))),
    }
}

/// The host knows no other cloud by name.
fn named_endpoint(setting: &str, name: &str, service: &str) -> Result<Url, Fault> {
    let invalid = || Fault::InvalidName(setting.to_owned());
    if !(3..=24).contains(&name.len()) || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    Url::parse(&format!("https://{name}.{service}.core.windows.net")).map_err(|_| invalid())
}

fn given_endpoint(setting: &str, uri: &str) -> Result<Url, Fault> {
    let is_endpoint = |url: &Url| {
        let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.password().is_none() && is_bare
    };
    let url = Url::parse(uri).ok().filter(is_endpoint).ok_or_else(|| Fault::InvalidUri(setting.to_owned()))?;
    if is_safe(&url) { Ok(url) } else { Err(Fault::PlainHttp(setting.to_owned())) }
}

/// A section of the host's configuration.
pub(super) struct Section<'a> {
    /// The name as it is set, the name of the member in lower case, the value. Blank ones are left out.
    settings: Vec<(&'a str, String, &'a str)>,
    /// What the host would use instead.
    preferred: Option<&'a str>,
}

/// Whether the host takes what is under `key` before what is under `section`: its connection strings, which a Function
/// App hands over as `CUSTOMCONNSTR_…`, `SQLAZURECONNSTR_…` and so on, and what has its own prefix before the name.
/// <https://learn.microsoft.com/aspnet/core/fundamentals/configuration/#connection-string-prefixes>
fn is_preferred(key: &str, section: &str) -> bool {
    let name = key.split_once("connstr_").map(|(_, name)| name).or_else(|| key.strip_prefix("connectionstrings:"));
    let rest = match name {
        Some(name) => name.strip_prefix(section),
        None => key.strip_prefix("azurewebjobs").and_then(|name| name.strip_prefix(section)),
    };
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

impl<'a> Section<'a> {
    pub(super) fn new(settings: &'a BTreeMap<String, String>) -> Self {
        let set = || settings.iter().filter(|(_, value)| !value.trim().is_empty());
        let key = |name: &str| name.replace("__", ":").to_ascii_lowercase();
        let section = CONNECTION.to_ascii_lowercase();
        let member = |name: &str| match key(name).strip_prefix(&section)? {
            "" => Some(String::new()),
            rest => rest.strip_prefix(':').map(str::to_owned),
        };
        Self {
            settings: set().filter_map(|(name, value)| Some((name.as_str(), member(name)?, value.trim()))).collect(),
            preferred: set().map(|(name, _)| name.as_str()).find(|name| is_preferred(&key(name), &section)),
        }
    }

    /// The connection string.
    fn value(&self) -> Option<&'a str> {
        self.get("").map(|(_, value)| value)
    }

    /// A member: the setting that it stands in, and its value.
    pub(super) fn get(&self, member: &str) -> Option<(&'a str, &'a str)> {
        let found = self.settings.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(member));
        found.map(|&(setting, _, value)| (setting, value))
    }

    /// How a member is called where it is set, or should be.
    pub(super) fn name(&self, member: &str) -> String {
        self.get(member).map_or_else(|| format!("{CONNECTION}__{member}"), |(setting, _)| setting.to_owned())
    }

    fn faults(&self) -> Vec<Fault> {
        let preferred = self.preferred.map(|name| Fault::Preferred(name.to_owned()));
        let twice = self.settings.iter().enumerate().filter_map(|(index, (setting, member, value))| {
            let (other, ..) =
                self.settings[..index].iter().find(|(_, name, other)| name == member && other != value)?;
            Some(Fault::Twice((*other).to_owned(), (*setting).to_owned()))
        });
        let ignored: Vec<_> = match self.value() {
            Some(_) => MEMBERS.iter().filter_map(|member| Some(self.get(member)?.0.to_owned())).collect(),
            None => Vec::new(),
        };
        let ignored = (!ignored.is_empty()).then_some(Fault::Ignored(ignored));
        preferred.into_iter().chain(twice).chain(ignored).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::auth::Secret;

    const KEY: &str = "AccountName=shop;AccountKey=a2V5";

    fn read(settings: &[(&str, &str)]) -> Result<AccountSettings, Vec<Fault>> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AccountSettings::from_settings(&settings.collect())
    }

    /// As they stand in a Function App.
    fn in_azure<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let platform = [("IDENTITY_ENDPOINT", "http://localhost:8081/msi/token"), ("IDENTITY_HEADER", "853b9a84")];
        [&platform[..], settings].concat()
    }

    #[track_caller]
    fn check_endpoints(settings: &[(&str, &str)], tables: &str, queues: &str) {
        match read(settings).unwrap() {
            AccountSettings::Keyless(endpoints, _) => {
                assert_eq!((endpoints.tables.as_str(), endpoints.queues.as_str()), (tables, queues), "{settings:?}");
            }
            AccountSettings::Keyed(account) => panic!("{settings:?}: {account:?}"),
        }
    }

    #[track_caller]
    fn check_identity(settings: &[(&str, &str)], expected: &Identity) {
        let settings = [&[("AzureWebJobsStorage__accountName", "shop")], settings].concat();
        match read(&settings).unwrap() {
            AccountSettings::Keyless(_, identity) => assert_eq!(&identity, expected, "{settings:?}"),
            AccountSettings::Keyed(account) => panic!("{settings:?}: {account:?}"),
        }
    }

    #[track_caller]
    fn check_faults(settings: &[(&str, &str)], expected: &[&str]) {
        let faults: Vec<_> = read(settings).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), expected.len(), "{settings:?}: {faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{settings:?}: {fault}");
            assert!(!fault.contains("s3cret") && !fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn the_account_is_named_or_its_endpoints_are() {
        let public = ("https://shop.table.core.windows.net/", "https://shop.queue.core.windows.net/");
        let tables = "AzureWebJobsStorage__tableServiceUri";
        let queues = "AzureWebJobsStorage__queueServiceUri";
        let name = ("AzureWebJobsStorage__accountName", "shop");
        for settings in [
            vec![name],
            vec![("AzureWebJobsStorage__accountName", " Shop ")],
            vec![("AzureWebJobsStorage:accountName", "shop")],
            vec![("azurewebjobsstorage__ACCOUNTNAME", "shop")],
            vec![("AzureWebJobsStorage", " "), name],
            vec![name, ("AzureWebJobsStorage:accountName", "shop")],
            vec![(tables, public.0), (queues, public.1)],
            vec![(tables, public.0), ("AzureWebJobsStorage:queueServiceUri", public.1)],
            vec![name, (tables, public.0)],
            vec![name, (tables, "https://SHOP.table.core.windows.net:443"), (queues, public.1)],
            vec![name, ("AzureWebJobsStorage__blobServiceUri", "https://shop.blob.core.windows.net/")],
            vec![name, ("AzureWebJobsStorage__unknown", "1"), ("AzureWebJobsStorageOther", KEY)],
            vec![name, ("CUSTOMCONNSTR_Database", "s3cret"), ("AzureWebJobsFeatureFlags", "1")],
            vec![name, ("ConnectionStrings:AzureWebJobsStorageOther", KEY)],
        ] {
            check_endpoints(&settings, public.0, public.1);
        }
        let china = ("https://shop.table.core.chinacloudapi.cn/", "https://shop.queue.core.chinacloudapi.cn/");
        check_endpoints(&[(tables, china.0), (queues, china.1)], china.0, china.1);
        let local = ("http://127.0.0.1:10002/devstoreaccount1", "http://localhost:10001/devstoreaccount1");
        check_endpoints(&[(tables, local.0), (queues, local.1)], local.0, local.1);
        assert!(read(&[(tables, local.0), (queues, local.1)]).unwrap().is_emulator());
        assert!(!read(&[(tables, local.0), (queues, public.1)]).unwrap().is_emulator());
    }

    #[test]
    fn a_connection_string_needs_nothing_else() {
        for connection in [KEY, "UseDevelopmentStorage=true", "AccountName=shop;SharedAccessSignature=sig=c2ln"] {
            for name in ["AzureWebJobsStorage", "AZUREWEBJOBSSTORAGE"] {
                let account =
                    read(&in_azure(&[(name, connection), ("AzureWebJobsStorage__accountName", " ")])).unwrap();
                assert!(matches!(account, AccountSettings::Keyed(_)), "{account:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = "AzureWebJobsStorage is not set: needed is a connection string, or AzureWebJobsStorage__accountName, or \
                   both AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri";
        check_faults(&[], &[all]);
        check_faults(&[("AzureWebJobsStorage", " ")], &[all]);
        check_faults(&[("AzureWebJobsStorage__credential", "managedidentity")], &[all]);
        let [tables, queues] = ["https://shop.table.example", "https://shop.queue.example"];
        check_faults(
            &[("AzureWebJobsStorage__tableServiceUri", tables)],
            &["AzureWebJobsStorage__queueServiceUri is not set"],
        );
        check_faults(
            &[("AzureWebJobsStorage__queueServiceUri", queues)],
            &["AzureWebJobsStorage__tableServiceUri is not set"],
        );
        check_faults(
            &[("AzureWebJobsStorage__blobServiceUri", "https://shop.blob.example")],
            &["AzureWebJobsStorage__tableServiceUri is not set", "AzureWebJobsStorage__queueServiceUri is not set"],
        );
    }

    #[test]
    fn what_is_contradictory_is_named() {
        let name = ("AzureWebJobsStorage__accountName", "shop");
        check_faults(
            &[("AzureWebJobsStorage", KEY), name, ("AzureWebJobsStorage:credential", "managedidentity")],
            &["ignores AzureWebJobsStorage__accountName and AzureWebJobsStorage:credential"],
        );
        check_faults(
            &[name, ("AzureWebJobsStorage:accountName", "s3cret")],
            &["AzureWebJobsStorage:accountName and AzureWebJobsStorage__accountName are one setting"],
        );
        check_faults(
            &[name, ("AzureWebJobsStorage__tableServiceUri", "https://s3cret.table.core.windows.net")],
            &[
                "AzureWebJobsStorage__tableServiceUri is not an endpoint of the account in AzureWebJobsStorage__accountName",
            ],
        );
        for preferred in [
            "ConnectionStrings:AzureWebJobsStorage",
            "ConnectionStrings__azurewebjobsstorage",
            "ConnectionStrings__AzureWebJobsStorage__accountName",
            "CUSTOMCONNSTR_AzureWebJobsStorage",
            "SQLAZURECONNSTR_AzureWebJobsStorage",
            "AzureWebJobsAzureWebJobsStorage",
            "AzureWebJobsAzureWebJobsStorage__accountName",
        ] {
            check_faults(&[name, (preferred, "s3cret")], &[&format!("{preferred} is set, which the host would use")]);
        }
        check_faults(
            &[name, ("AzureWebJobsStorage__clientId", "a"), ("AzureWebJobsStorage__managedIdentityClientId", "b")],
            &["AzureWebJobsStorage__clientId and AzureWebJobsStorage__managedIdentityClientId are one setting"],
        );
    }

    #[test]
    fn what_is_malformed_is_named_and_not_repeated() {
        for bad in ["ab", "s3cret.table.core.windows.net", "s3cret/", "shop-s3cret", &"a".repeat(25), "s3crét"] {
            check_faults(
                &[("AzureWebJobsStorage__accountName", bad)],
                &["AzureWebJobsStorage__accountName is not the name of a storage account"],
            );
        }
        let queues = ("AzureWebJobsStorage__queueServiceUri", "https://shop.queue.example");
        for (bad, expected) in [
            ("shop", "is not an https URL"),
            ("ftp://shop.example", "is not an https URL"),
            ("https://shop.example/?sig=s3cret", "is not an https URL"),
            ("https://s3cret:s3cret@shop.example", "is not an https URL"),
            ("https://shop.example/#s3cret", "is not an https URL"),
            ("http://shop.table.core.windows.net", "is plain http"),
            ("http://azurite:10002/devstoreaccount1", "is plain http"),
            ("http://127.0.0.1.example.com", "is plain http"),
        ] {
            let expected = format!("AzureWebJobsStorage__tableServiceUri {expected}");
            check_faults(&[queues, ("AzureWebJobsStorage__tableServiceUri", bad)], &[&expected]);
        }
        check_faults(
            &[("AzureWebJobsStorage", "AccountName=shop;AccountKey=s3cret!")],
            &["AzureWebJobsStorage is not a connection string: AccountKey is not base64"],
        );
    }

    #[test]
    fn the_identity_is_the_one_that_the_host_has() {
        let managed = |id: Option<&str>| Identity::Managed { client_id: id.map(str::to_owned) };
        let credential = ("AzureWebJobsStorage__credential", "managedidentity");
        let client_id = ("AzureWebJobsStorage__clientId", "id-1");
        for credential in [credential, ("AzureWebJobsStorage:Credential", "ManagedIdentity")] {
            check_identity(&[credential], &managed(None));
            check_identity(&in_azure(&[credential]), &managed(None));
            check_identity(&in_azure(&[credential, client_id]), &managed(Some("id-1")));
            let other = ("AzureWebJobsStorage__managedIdentityClientId", "id-1");
            check_identity(&in_azure(&[credential, other]), &managed(Some("id-1")));
            check_identity(&in_azure(&[credential, client_id, other]), &managed(Some("id-1")));
            let environment = ("AZURE_CLIENT_ID", "id-2");
            check_identity(&in_azure(&[credential, environment]), &managed(None));
        }
        // Without `credential`, the default chain of the host.
        check_identity(&in_azure(&[]), &managed(None));
        check_identity(&in_azure(&[client_id]), &managed(Some("id-1")));
        check_identity(&in_azure(&[("AZURE_CLIENT_ID", "id-2")]), &managed(Some("id-2")));
        check_identity(&in_azure(&[client_id, ("AZURE_CLIENT_ID", "id-2")]), &managed(Some("id-1")));
        let developer = |tenant: Option<&str>| Identity::Developer { tenant_id: tenant.map(str::to_owned) };
        check_identity(&[], &developer(None));
        check_identity(&[client_id], &developer(None));
        check_identity(&[("AzureWebJobsStorage__tenantId", "t-1")], &developer(Some("t-1")));
        check_identity(&[("AZURE_TENANT_ID", "t-2")], &developer(Some("t-2")));
        check_identity(&[("AZURE_CLIENT_ID", "id-2"), ("AZURE_CLIENT_SECRET", "s3cret")], &developer(None));
    }

    #[test]
    fn a_service_principal_needs_all_three_of_its_settings() {
        let [tenant, client, secret] = [
            ("AzureWebJobsStorage__tenantId", "t-1"),
            ("AzureWebJobsStorage__clientId", "id-1"),
            ("AzureWebJobsStorage__clientSecret", "s3cret"),
        ];
        let principal = |tenant: &str, client: &str| Identity::ServicePrincipal {
            tenant_id: tenant.to_owned(),
            client_id: client.to_owned(),
            secret: Secret::new("s3cret"),
        };
        let environment = [("AZURE_TENANT_ID", "t-2"), ("AZURE_CLIENT_ID", "id-2"), ("AZURE_CLIENT_SECRET", "s3cret")];
        check_identity(&[tenant, client, secret], &principal("t-1", "id-1"));
        check_identity(&in_azure(&[tenant, client, secret]), &principal("t-1", "id-1"));
        check_identity(&environment, &principal("t-2", "id-2"));
        check_identity(&in_azure(&environment), &principal("t-2", "id-2"));
        check_identity(&[&environment[..], &[tenant, client, secret]].concat(), &principal("t-1", "id-1"));
        let name = ("AzureWebJobsStorage__accountName", "shop");
        check_faults(&[name, client, secret], &["AzureWebJobsStorage__tenantId is not set"]);
        check_faults(&[name, tenant, secret], &["AzureWebJobsStorage__clientId is not set"]);
        let managed = ("AzureWebJobsStorage__credential", "managedidentity");
        check_faults(&[name, managed, secret], &["AzureWebJobsStorage__clientSecret is not supported here"]);
    }

    #[test]
    fn what_only_the_host_can_do_is_named() {
        let name = ("AzureWebJobsStorage__accountName", "shop");
        for credential in ["workloadidentity", "managedidentityasfederatedidentity", "azurepipelines", "managedidentiy"]
        {
            check_faults(
                &[name, ("AzureWebJobsStorage__credential", credential)],
                &["AzureWebJobsStorage__credential is not supported here: the one value known is managedidentity"],
            );
        }
        for member in ["managedIdentityResourceId", "managedIdentityObjectId", "clientCertificate", "tokenFilePath"] {
            let setting = format!("AzureWebJobsStorage__{member}");
            check_faults(&[name, (&setting, "s3cret")], &[&format!("{setting} is not supported here")]);
        }
        for credential in ["managedidentity", " "] {
            let credential = ("AzureWebJobsStorage__credential", credential);
            check_faults(
                &[name, credential, ("IDENTITY_ENDPOINT", "http://localhost:1/")],
                &["IDENTITY_HEADER is not set"],
            );
            check_faults(&[name, credential, ("IDENTITY_HEADER", "s3cret")], &["IDENTITY_ENDPOINT is not set"]);
        }
    }

    #[test]
    fn every_fault_is_reported() {
        check_faults(
            &[
                ("AzureWebJobsStorage__tableServiceUri", "shop"),
                ("AzureWebJobsStorage__queueServiceUri", "http://shop.example"),
                ("AzureWebJobsStorage__credential", "password"),
                ("ConnectionStrings:AzureWebJobsStorage", KEY),
            ],
            &[
                "ConnectionStrings:AzureWebJobsStorage",
                "AzureWebJobsStorage__tableServiceUri",
                "AzureWebJobsStorage__queueServiceUri",
                "AzureWebJobsStorage__credential",
            ],
        );
    }
}
