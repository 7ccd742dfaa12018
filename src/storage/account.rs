//! From a setting to an endpoint and a credential.
//!
//! The handler reads the *same* connection as the host, so that there is one thing to configure:
//! [connection strings](https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string), with a key or a shared
//! access signature, and `UseDevelopmentStorage=true` for the emulator, which the host hands on unexpanded. Names are
//! matched without regard to case, as .NET does, and unknown ones are skipped. No error repeats any part of the setting but names.

use azure_core::Url;
use azure_storage::{CloudLocation, StorageCredentials};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::fmt;

/// The [well-known account](https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key)
/// of the emulator: public, and of no use anywhere else.
const EMULATOR: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

/// Where the tables of a storage account are, and what opens them.
#[derive(Clone)]
pub struct Account {
    name: String,
    table_endpoint: Url,
    credential: StorageCredentials,
}

/// Never prints the credential.
impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Account")
            .field("name", &self.name)
            .field("table_endpoint", &self.table_endpoint.as_str())
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
    /// The signature is no list of parameters.
    #[error("SharedAccessSignature has no sig parameter")]
    InvalidSignature,
}

impl Account {
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
        let table_endpoint = match settings.get("TableEndpoint") {
            Some(endpoint) => endpoint_url(endpoint, "TableEndpoint")?,
            None => default_endpoint(&settings, name.ok_or(InvalidConnection::Missing("AccountName"))?)?,
        };
        let credential = credential(&settings, name)?;
        Ok(Self { name: name.unwrap_or_default().to_owned(), table_endpoint, credential })
    }

    /// The emulator on this machine, or on the one that `proxy` names.
    fn emulator(proxy: Option<&str>) -> Result<Self, InvalidConnection> {
        let mut endpoint = endpoint_url(proxy.unwrap_or("http://127.0.0.1"), "DevelopmentStorageProxyUri")?;
        let (name, key) = EMULATOR;
        endpoint
            .set_port(Some(10_002))
            .map_err(|()| InvalidConnection::InvalidEndpoint("DevelopmentStorageProxyUri"))?;
        endpoint.set_path(name);
        let credential = StorageCredentials::access_key(name, key.to_owned());
        Ok(Self { name: name.to_owned(), table_endpoint: endpoint, credential })
    }

    /// Whether the account is on this machine, where no proxy may come between.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.table_endpoint.host_str().map(|host| host.trim_matches(['[', ']'])) {
            Some("localhost") => true,
            Some(host) => host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback()),
            None => false,
        }
    }

    pub(super) fn location(&self) -> CloudLocation {
        // A slash at the end would become an empty path segment in every request.
        let uri = self.table_endpoint.as_str().trim_end_matches('/').to_owned();
        CloudLocation::Custom { account: self.name.clone(), uri }
    }

    pub(super) fn credential(&self) -> StorageCredentials {
        self.credential.clone()
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

fn default_endpoint(settings: &Pairs<'_>, name: &str) -> Result<Url, InvalidConnection> {
    let protocol = settings.get("DefaultEndpointsProtocol").unwrap_or("https");
    let suffix = settings.get("EndpointSuffix").unwrap_or("core.windows.net");
    endpoint_url(&format!("{protocol}://{name}.table.{suffix}"), "the endpoint made of AccountName and EndpointSuffix")
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

    fn endpoint(connection: &str) -> Result<String, InvalidConnection> {
        let account = Account::from_connection_string(connection)?;
        let CloudLocation::Custom { account, uri } = account.location() else { panic!("always a custom location") };
        Ok(format!("{account} at {uri}"))
    }

    #[test]
    fn connection_strings_lead_to_their_table_endpoint() {
        for (connection, expected) in [
            ("UseDevelopmentStorage=true", "devstoreaccount1 at http://127.0.0.1:10002/devstoreaccount1"),
            ("usedevelopmentstorage=TRUE;", "devstoreaccount1 at http://127.0.0.1:10002/devstoreaccount1"),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite",
                "devstoreaccount1 at http://azurite:10002/devstoreaccount1",
            ),
            (
                &format!(
                    "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY};EndpointSuffix=core.windows.net"
                ),
                "shop at https://shop.table.core.windows.net",
            ),
            (&format!("AccountName=shop;AccountKey={KEY}"), "shop at https://shop.table.core.windows.net"),
            (
                &format!("accountname=shop;accountkey={KEY};EndpointSuffix=core.chinacloudapi.cn;Unknown=1"),
                "shop at https://shop.table.core.chinacloudapi.cn",
            ),
            (
                &format!("AccountName=test001;AccountKey={KEY};TableEndpoint=http://127.0.0.1:21002/test001/"),
                "test001 at http://127.0.0.1:21002/test001",
            ),
            (
                "TableEndpoint=https://shop.table.core.windows.net/;SharedAccessSignature=sv=2022-11-02&ss=t&sig=c2ln%3D",
                " at https://shop.table.core.windows.net",
            ),
        ] {
            assert_eq!(endpoint(connection).as_deref(), Ok(expected), "{connection}");
        }
    }

    #[test]
    fn a_bad_connection_string_is_refused_by_name_and_never_repeated() {
        for (connection, expected) in [
            ("", InvalidConnection::Missing("AccountName")),
            ("s3cret", InvalidConnection::NotAPair(1)),
            ("AccountName=shop;s3cret", InvalidConnection::NotAPair(2)),
            ("AccountName=shop", InvalidConnection::Missing("AccountKey or SharedAccessSignature")),
            ("AccountName=shop;AccountKey=s3cret!", InvalidConnection::KeyNotBase64),
            ("AccountKey=a2V5;TableEndpoint=https://shop.example", InvalidConnection::Missing("AccountName")),
            (
                "AccountName=shop;AccountKey=a2V5;TableEndpoint=s3cret",
                InvalidConnection::InvalidEndpoint("TableEndpoint"),
            ),
            ("TableEndpoint=https://shop.example;SharedAccessSignature=s3cret", InvalidConnection::InvalidSignature),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=file:///s3cret",
                InvalidConnection::InvalidEndpoint("DevelopmentStorageProxyUri"),
            ),
        ] {
            let error = Account::from_connection_string(connection).unwrap_err();
            assert_eq!(error, expected, "{connection}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn debug_output_holds_no_credential() {
        for connection in [
            &format!("AccountName=shop;AccountKey={KEY}"),
            "TableEndpoint=https://shop.example;SharedAccessSignature=sig=a2V5",
        ] {
            let printed = format!("{:?}", Account::from_connection_string(connection).unwrap());
            assert!(!printed.contains(KEY), "{printed}");
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
            let connection = format!("AccountName=a;AccountKey={KEY};TableEndpoint=http://{host}:10002/a");
            assert_eq!(Account::from_connection_string(&connection).unwrap().is_loopback(), expected, "{host}");
        }
    }
}
