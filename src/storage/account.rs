//! From a connection string to an endpoint and a credential.
//!
//! [Connection strings](https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string) have a
//! key or a shared access signature, or say `UseDevelopmentStorage=true` for the emulator, which the host hands on
//! unexpanded. Names are matched without regard to case, as .NET does, and unknown ones are skipped. No error repeats
//! any part of the setting but names.
//!
//! Plain http is for this machine, and for the account of the emulator wherever that runs, in a container of its own
//! for example: its key is public. Everything else that is sent would be readable on its way, a signature included.

use super::settings::Endpoints;
use azure_core::Url;
use azure_storage::{CloudLocation, StorageCredentials};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::fmt;

/// The [well-known
/// account](https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key) of
/// the emulator: public, and of no use anywhere else.
const EMULATOR: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

const PROTOCOL: &str = "DefaultEndpointsProtocol";

/// Where the services of a storage account are, and what opens them.
#[derive(Clone)]
pub struct Account {
    name: String,
    endpoints: Endpoints,
    credential: StorageCredentials,
}

/// Never prints the credential.
impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Account")
            .field("name", &self.name)
            .field("table_endpoint", &self.endpoints.tables.as_str())
            .field("queue_endpoint", &self.endpoints.queues.as_str())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a connection string.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidConnection {
    /// A part of it has no `=`.
    #[error("part {0} is not Name=Value")]
    NotAPair(usize),
    /// Something needed is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The account key is not a key.
    #[error("AccountKey is not base64")]
    KeyNotBase64,
    /// An endpoint is no URL of a server.
    #[error("{0} is not an http or https URL")]
    InvalidEndpoint(&'static str),
    /// An endpoint to which nothing is sent in the clear.
    #[error("{0} is plain http, which is allowed on this machine and for the account of the emulator only")]
    PlainHttp(&'static str),
    /// The signature is no list of parameters.
    #[error("SharedAccessSignature has no sig parameter")]
    InvalidSignature,
}

impl Account {
    /// The account `name`, which only a key needs, opened by `credential`.
    pub(super) const fn new(name: String, endpoints: Endpoints, credential: StorageCredentials) -> Self {
        Self { name, endpoints, credential }
    }

    /// Reads a connection string.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without its values.
    pub fn from_connection_string(text: &str) -> Result<Self, InvalidConnection> {
        let settings = Pairs::parse(text)?;
        if settings.get("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::emulator(settings.get("DevelopmentStorageProxyUri"));
        }
        let name = settings.get("AccountName");
        let credential = credential(&settings, name)?;
        let tables = endpoint(&settings, ("TableEndpoint", "table"), name)?;
        let queues = endpoint(&settings, ("QueueEndpoint", "queue"), name)?;
        Ok(Self::new(name.unwrap_or_default().to_owned(), Endpoints { tables, queues }, credential))
    }

    /// The emulator on this machine, or on the one that `proxy` names.
    fn emulator(proxy: Option<&str>) -> Result<Self, InvalidConnection> {
        const PROXY: &str = "DevelopmentStorageProxyUri";
        let (name, key) = EMULATOR;
        let base = endpoint_url(proxy.unwrap_or("http://127.0.0.1"), PROXY)?;
        let at = |port| {
            let mut endpoint = base.clone();
            endpoint.set_path(name);
            endpoint.set_port(Some(port)).map_err(|()| InvalidConnection::InvalidEndpoint(PROXY))?;
            Ok(endpoint)
        };
        let credential = StorageCredentials::access_key(name, key.to_owned());
        Ok(Self::new(name.to_owned(), Endpoints { tables: at(10_002)?, queues: at(10_001)? }, credential))
    }

    /// Whether it is the emulator's.
    #[must_use]
    pub fn is_emulator(&self) -> bool {
        self.endpoints.are_of_the_emulator()
    }

    pub(super) fn tables(&self) -> CloudLocation {
        // A slash at the end would become an empty path segment in every request.
        let uri = self.endpoints.tables.as_str().trim_end_matches('/').to_owned();
        CloudLocation::Custom { account: self.name.clone(), uri }
    }

    pub(super) const fn queues(&self) -> &Url {
        &self.endpoints.queues
    }

    pub(super) fn credential(&self) -> StorageCredentials {
        self.credential.clone()
    }
}

/// Whether what is sent there stays secret: encrypted, or on this machine.
pub(super) fn is_safe(endpoint: &Url) -> bool {
    endpoint.scheme() == "https" || is_loopback(endpoint)
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback()),
        None => false,
    }
}

fn credential(settings: &Pairs<'_>, name: Option<&str>) -> Result<StorageCredentials, InvalidConnection> {
    if let Some(key) = settings.get("AccountKey") {
        let name = name.ok_or(InvalidConnection::Missing("AccountName"))?;
        BASE64_STANDARD.decode(key).map_err(|_| InvalidConnection::KeyNotBase64)?;
        return Ok(StorageCredentials::access_key(name, key.to_owned()));
    }
    let signature = settings.get("SharedAccessSignature");
    let signature = signature.ok_or(InvalidConnection::Missing("AccountKey or SharedAccessSignature"))?;
    if !signature.trim_start_matches('?').split('&').any(|pair| pair.starts_with("sig=")) {
        return Err(InvalidConnection::InvalidSignature);
    }
    StorageCredentials::sas_token(signature).map_err(|_| InvalidConnection::InvalidSignature)
}

/// The endpoint of a service, given by its setting or made of the account's name and the suffix of its cloud.
fn endpoint(
    settings: &Pairs<'_>,
    (setting, service): (&'static str, &str),
    name: Option<&str>,
) -> Result<Url, InvalidConnection> {
    let (url, setting) = match settings.get(setting) {
        Some(endpoint) => (endpoint_url(endpoint, setting)?, setting),
        None => (made_endpoint(settings, name.ok_or(InvalidConnection::Missing(setting))?, service)?, PROTOCOL),
    };
    let is_emulator = (name, settings.get("AccountKey")) == (Some(EMULATOR.0), Some(EMULATOR.1));
    if is_emulator || is_safe(&url) { Ok(url) } else { Err(InvalidConnection::PlainHttp(setting)) }
}

fn made_endpoint(settings: &Pairs<'_>, name: &str, service: &str) -> Result<Url, InvalidConnection> {
    let protocol = settings.get(PROTOCOL).unwrap_or("https");
    let suffix = settings.get("EndpointSuffix").unwrap_or("core.windows.net");
    let endpoint = format!("{protocol}://{name}.{service}.{suffix}");
    endpoint_url(&endpoint, "the endpoint made of AccountName and EndpointSuffix")
}

fn endpoint_url(text: &str, name: &'static str) -> Result<Url, InvalidConnection> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or(InvalidConnection::InvalidEndpoint(name))
}

/// The `Name=Value;…` pairs of a connection string.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn parse(text: &'a str) -> Result<Self, InvalidConnection> {
        let parts = text.split(';').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
        parts
            .map(|(index, part)| part.split_once('=').ok_or(InvalidConnection::NotAPair(index + 1)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a2V5";

    fn endpoints(connection: &str) -> Result<(String, String), InvalidConnection> {
        let account = Account::from_connection_string(connection)?;
        let CloudLocation::Custom { account: name, uri } = account.tables() else { panic!("always a custom location") };
        assert_eq!(name, account.name);
        Ok((uri, account.queues().as_str().trim_end_matches('/').to_owned()))
    }

    #[test]
    fn connection_strings_lead_to_their_endpoints() {
        let china = format!("accountname=shop;accountkey={KEY};EndpointSuffix=core.chinacloudapi.cn;Unknown=1");
        let emulated = format!(
            "AccountName=test001;AccountKey={KEY};TableEndpoint=http://127.0.0.1:1/test001/;QueueEndpoint=http://127.0.0.1:2/test001"
        );
        for (connection, tables, queues) in [
            (
                "UseDevelopmentStorage=true",
                "http://127.0.0.1:10002/devstoreaccount1",
                "http://127.0.0.1:10001/devstoreaccount1",
            ),
            (
                &format!(
                    "AccountName={};AccountKey={};TableEndpoint=http://azurite:10002/devstoreaccount1;QueueEndpoint=http://azurite:10001/devstoreaccount1",
                    EMULATOR.0, EMULATOR.1
                ),
                "http://azurite:10002/devstoreaccount1",
                "http://azurite:10001/devstoreaccount1",
            ),
            (
                "usedevelopmentstorage=TRUE;DevelopmentStorageProxyUri=http://azurite",
                "http://azurite:10002/devstoreaccount1",
                "http://azurite:10001/devstoreaccount1",
            ),
            (
                &format!(
                    "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY};EndpointSuffix=core.windows.net"
                ),
                "https://shop.table.core.windows.net",
                "https://shop.queue.core.windows.net",
            ),
            (&china, "https://shop.table.core.chinacloudapi.cn", "https://shop.queue.core.chinacloudapi.cn"),
            (&emulated, "http://127.0.0.1:1/test001", "http://127.0.0.1:2/test001"),
            (
                "TableEndpoint=https://t.example/;QueueEndpoint=https://q.example/;SharedAccessSignature=sv=2022-11-02&sig=c2ln%3D",
                "https://t.example",
                "https://q.example",
            ),
        ] {
            assert_eq!(endpoints(connection), Ok((tables.to_owned(), queues.to_owned())), "{connection}");
        }
    }

    #[test]
    fn a_bad_connection_string_is_refused_by_name_and_never_repeated() {
        for (connection, expected) in [
            ("", InvalidConnection::Missing("AccountKey or SharedAccessSignature")),
            ("SharedAccessSignature=sig=a", InvalidConnection::Missing("TableEndpoint")),
            ("s3cret", InvalidConnection::NotAPair(1)),
            ("AccountName=shop;s3cret", InvalidConnection::NotAPair(2)),
            ("AccountName=shop", InvalidConnection::Missing("AccountKey or SharedAccessSignature")),
            ("AccountName=shop;AccountKey=s3cret!", InvalidConnection::KeyNotBase64),
            ("AccountKey=a2V5;TableEndpoint=https://shop.example", InvalidConnection::Missing("AccountName")),
            (
                "AccountName=shop;AccountKey=a2V5;TableEndpoint=s3cret",
                InvalidConnection::InvalidEndpoint("TableEndpoint"),
            ),
            (
                "AccountName=shop;AccountKey=a2V5;QueueEndpoint=ftp://shop.example",
                InvalidConnection::InvalidEndpoint("QueueEndpoint"),
            ),
            ("TableEndpoint=https://shop.example;SharedAccessSignature=s3cret", InvalidConnection::InvalidSignature),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=file:///s3cret",
                InvalidConnection::InvalidEndpoint("DevelopmentStorageProxyUri"),
            ),
            (
                "DefaultEndpointsProtocol=http;AccountName=shop;AccountKey=a2V5",
                InvalidConnection::PlainHttp("DefaultEndpointsProtocol"),
            ),
            (
                "AccountName=devstoreaccount1;AccountKey=a2V5;TableEndpoint=http://shop.example",
                InvalidConnection::PlainHttp("TableEndpoint"),
            ),
            (
                "SharedAccessSignature=sig=s3cret;TableEndpoint=https://shop.example;QueueEndpoint=http://10.0.0.4",
                InvalidConnection::PlainHttp("QueueEndpoint"),
            ),
        ] {
            let error = Account::from_connection_string(connection).unwrap_err();
            assert_eq!(error, expected, "{connection}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn debug_output_holds_no_credential() {
        for connection in
            [&format!("AccountName=shop;AccountKey={KEY}"), "AccountName=shop;SharedAccessSignature=sig=a2V5"]
        {
            let printed = format!("{:?}", Account::from_connection_string(connection).unwrap());
            assert!(printed.contains("https://shop.table.core.windows.net") && !printed.contains(KEY), "{printed}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("localhost", true),
            ("[::1]", true),
            ("azurite", false),
            ("10.0.0.4", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(&format!("http://{host}:10002/a")).unwrap()), expected, "{host}");
        }
    }

    #[test]
    fn the_emulator_is_known_wherever_it_runs() {
        let (name, key) = EMULATOR;
        for (connection, expected) in [
            ("UseDevelopmentStorage=true".to_owned(), true),
            ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite".to_owned(), true),
            (
                format!(
                    "AccountName={name};AccountKey={key};TableEndpoint=http://azurite:10002/{name};QueueEndpoint=http://azurite:10001/{name}"
                ),
                true,
            ),
            (format!("AccountName=shop;AccountKey={KEY}"), false),
        ] {
            assert_eq!(Account::from_connection_string(&connection).unwrap().is_emulator(), expected, "{connection}");
        }
    }
}
