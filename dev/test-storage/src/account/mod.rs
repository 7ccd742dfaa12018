//! A storage account as a test or the local host needs it: a few REST calls on queues, tables and blobs.
//!
//! Written straight from the REST reference rather than on a client library: the handler under test uses such a
//! library, and what the two disagree about is exactly what a test should notice. Every request is a plain URL with
//! one account SAS appended, so there is nothing to sign per request.
//! <https://learn.microsoft.com/rest/api/storageservices/>

mod blobs;
pub(crate) mod queues;
pub(crate) mod tables;
mod sas;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, RequestBuilder, Response};

/// The account every storage emulator has.
pub const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
/// Its published key: no secret. <https://learn.microsoft.com/azure/storage/common/storage-connect-azurite>
pub const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The longest that a connection to the emulator may be idle and still be used. The emulator closes it after five seconds,
/// and a request sent at that moment is lost.
pub(crate) const IDLE: Duration = Duration::from_secs(2);

/// One of the three services of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// Blob storage.
    Blob,
    /// Queue storage.
    Queue,
    /// Table storage.
    Table,
}

/// The failure of a storage request.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The service answered, but with an error.
    #[error("{operation}: {status} {code}")]
    Answered {
        /// The operation that failed.
        operation: String,
        /// The HTTP status.
        status: u16,
        /// The storage error code, or the start of the body's first line when there is none.
        code: String,
    },
    /// No complete answer came.
    #[error("{operation}: {cause}")]
    Unreachable {
        /// The operation that failed.
        operation: String,
        /// The innermost cause, such as a refused connection.
        cause: String,
    },
    /// The answer is not what the REST reference promises.
    #[error("{operation}: unexpected answer: {detail}")]
    Unexpected {
        /// The operation that failed.
        operation: String,
        /// The difference.
        detail: String,
    },
}

impl StorageError {
    /// Returns the status the service answered with, if it answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }

    fn unexpected(operation: &str, detail: impl Into<String>) -> Self {
        Self::Unexpected { operation: operation.to_owned(), detail: detail.into() }
    }
}

// reqwest prints the URL, which carries the SAS; the innermost cause is what a reader needs ("Connection refused").
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Name, key and endpoints of a storage account, ready to use.
#[derive(Clone)]
pub struct Account {
    name: String,
    key: String,
    endpoints: [String; 3],
    sas: String,
    client: Client,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Account").field("name", &self.name).field("endpoints", &self.endpoints).finish()
    }
}

impl Account {
    /// Makes an account with the endpoints of blob, queue and table, without a slash at the end.
    ///
    /// # Errors
    /// When the key is not base64.
    pub fn new(name: &str, key: &str, endpoints: [String; 3]) -> Result<Self> {
        let sas = sas::account_sas(name, key).with_context(|| format!("key of storage account {name}"))?;
        // Environment proxies are for the outer world; all of this is on loopback.
        let client = Client::builder().no_proxy().pool_idle_timeout(IDLE).build();
        let client = client.context("cannot build the storage client")?;
        Ok(Self { name: name.to_owned(), key: key.to_owned(), endpoints, sas, client })
    }

    /// Makes the account of an emulator on loopback with these blob, queue and table ports.
    ///
    /// # Errors
    /// When the key is not base64.
    pub fn on_loopback(name: &str, key: &str, ports: [u16; 3]) -> Result<Self> {
        Self::new(name, key, ports.map(|port| format!("http://127.0.0.1:{port}/{name}")))
    }

    /// Reads `UseDevelopmentStorage=true` or a connection string with an account key and explicit endpoints.
    ///
    /// # Errors
    /// When a part is missing or malformed; the text names the part, never its value.
    pub fn from_connection_string(text: &str) -> Result<Self> {
        let mut parts = BTreeMap::new();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=').context("connection string: a part has no '='")?;
            parts.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        if parts.get("usedevelopmentstorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let host =
                parts.get("developmentstorageproxyuri").map_or("http://127.0.0.1", |proxy| proxy.trim_end_matches('/'));
            let endpoints = [10_000, 10_001, 10_002].map(|port| format!("{host}:{port}/{EMULATOR_ACCOUNT}"));
            return Self::new(EMULATOR_ACCOUNT, EMULATOR_KEY, endpoints);
        }
        let part = |name: &str| {
            let value = parts.get(&name.to_ascii_lowercase());
            value.cloned().with_context(|| format!("connection string: {name} is missing"))
        };
        let mut endpoints = [part("BlobEndpoint")?, part("QueueEndpoint")?, part("TableEndpoint")?];
        for endpoint in &mut endpoints {
            if !endpoint.starts_with("http://") {
                bail!("connection string: only plain http endpoints on this machine are supported");
            }
            endpoint.truncate(endpoint.trim_end_matches('/').len());
        }
        Self::new(&part("AccountName")?, &part("AccountKey")?, endpoints)
    }

    /// Returns the connection string that the handler and other tools understand.
    pub fn connection_string(&self) -> String {
        let Self { name, key, endpoints: [blob, queue, table], .. } = self;
        format!(
            "DefaultEndpointsProtocol=http;AccountName={name};AccountKey={key};\
             BlobEndpoint={blob};QueueEndpoint={queue};TableEndpoint={table};"
        )
    }

    /// Returns the same account with one service reached through another address, such as a proxy's.
    #[must_use]
    pub fn with_endpoint(&self, service: Service, endpoint: &str) -> Self {
        let mut account = self.clone();
        endpoint.clone_into(&mut account.endpoints[service as usize]);
        account
    }

    /// Returns the account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the account's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the address of a service, without a slash at the end.
    pub fn endpoint(&self, service: Service) -> &str {
        &self.endpoints[service as usize]
    }

    /// Returns the query string that opens the account: a signature over none of the rest of a request.
    pub fn sas(&self) -> &str {
        &self.sas
    }

    fn request(&self, method: Method, service: Service, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/{path}?{}", self.endpoint(service), self.sas))
    }
}

/// Sends a request and turns every answer that is not 2xx into an error.
async fn send(operation: &str, request: RequestBuilder) -> Result<Response, StorageError> {
    let response = request.send().await.map_err(|error| unreachable_service(operation, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let header = response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
    let code = match header {
        Some(code) => code,
        None => response.text().await.unwrap_or_default().chars().take_while(|each| *each != '\n').take(300).collect(),
    };
    Err(StorageError::Answered { operation: operation.to_owned(), status: status.as_u16(), code })
}

async fn text(operation: &str, response: Response) -> Result<String, StorageError> {
    response.text().await.map_err(|error| unreachable_service(operation, &error))
}

fn unreachable_service(operation: &str, error: &reqwest::Error) -> StorageError {
    StorageError::Unreachable { operation: operation.to_owned(), cause: root_cause(error) }
}

/// Forgives a status: the thing to create was there already, or the thing to delete was gone.
fn unless(status: u16, result: Result<Response, StorageError>) -> Result<(), StorageError> {
    match result {
        Err(error) if error.status() == Some(status) => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_survives_the_round_trip() {
        let account = Account::on_loopback("test001", EMULATOR_KEY, [1, 2, 3]).unwrap();
        let text = account.connection_string();
        let again = Account::from_connection_string(&text).unwrap();
        assert_eq!(again.connection_string(), text);
        assert_eq!(again.endpoint(Service::Table), "http://127.0.0.1:3/test001");
    }

    #[test]
    fn development_storage_is_the_emulator_on_its_standard_ports() {
        let account = Account::from_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(account.endpoint(Service::Queue), "http://127.0.0.1:10001/devstoreaccount1");
        let elsewhere = "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://data-storage";
        let account = Account::from_connection_string(elsewhere).unwrap();
        assert_eq!(account.endpoint(Service::Table), "http://data-storage:10002/devstoreaccount1");
    }

    #[test]
    fn a_broken_connection_string_names_the_part_but_not_its_value() {
        let error = Account::from_connection_string("AccountName=a;AccountKey=c2VjcmV0").unwrap_err().to_string();
        assert!(error.contains("BlobEndpoint") && !error.contains("c2Vj"), "{error}");
    }
}
