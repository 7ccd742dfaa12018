//! Small text blobs, in which the host keeps the status of a timer, and leases on blobs, which are its locks.
//! <https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>

use std::time::Duration;

use reqwest::{Method, RequestBuilder};

use super::{Account, Service, StorageError, send, text, unless};

impl Account {
    /// Reads the text of a blob, if it is there.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached.
    pub async fn read_blob(&self, container: &str, name: &str) -> Result<Option<String>, StorageError> {
        let operation = format!("read blob {container}/{name}");
        match send(&operation, self.request(Method::GET, Service::Blob, &format!("{container}/{name}"))).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            other => text(&operation, other?).await.map(Some),
        }
    }

    /// Writes a blob, creating its container when it is missing.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached.
    pub async fn write_blob(&self, container: &str, name: &str, content: &str) -> Result<(), StorageError> {
        match self.write_blob_once(container, name, content).await {
            Err(error) if error.status() == Some(404) => {
                let create = self.request(Method::PUT, Service::Blob, container).query(&[("restype", "container")]);
                unless(409, send(&format!("create container {container}"), create).await)?;
                self.write_blob_once(container, name, content).await
            }
            other => other,
        }
    }

    async fn write_blob_once(&self, container: &str, name: &str, content: &str) -> Result<(), StorageError> {
        let request = self
            .request(Method::PUT, Service::Blob, &format!("{container}/{name}"))
            .header("x-ms-blob-type", "BlockBlob")
            // The client leaves it out when there is nothing to send.
            .header("content-length", content.len().to_string())
            .body(content.to_owned());
        send(&format!("write blob {container}/{name}"), request).await.map(drop)
    }

    /// Leases a blob, which is created when it is missing. None when somebody else has the lease.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached; so for everything below.
    pub async fn acquire_lease(
        &self,
        container: &str,
        name: &str,
        duration: Duration,
    ) -> Result<Option<String>, StorageError> {
        let operation = format!("lease blob {container}/{name}");
        let acquire = || {
            let request = self.lease(container, name, "acquire");
            send(&operation, request.header("x-ms-lease-duration", duration.as_secs().to_string()))
        };
        let response = match acquire().await {
            Err(error) if error.status() == Some(404) => {
                self.write_blob(container, name, "").await?;
                acquire().await
            }
            other => other,
        };
        match response {
            Err(error) if error.status() == Some(409) => Ok(None),
            other => {
                let id = other?.headers().get("x-ms-lease-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
                id.map(Some).ok_or_else(|| StorageError::unexpected(&operation, "no lease id"))
            }
        }
    }

    /// Lets a lease last for its duration from now.
    #[expect(clippy::missing_errors_doc, reason = "see `acquire_lease`")]
    pub async fn renew_lease(&self, container: &str, name: &str, lease: &str) -> Result<(), StorageError> {
        let request = self.lease(container, name, "renew").header("x-ms-lease-id", lease);
        send(&format!("renew the lease of blob {container}/{name}"), request).await.map(drop)
    }

    /// Gives a lease back.
    #[expect(clippy::missing_errors_doc, reason = "see `acquire_lease`")]
    pub async fn release_lease(&self, container: &str, name: &str, lease: &str) -> Result<(), StorageError> {
        let request = self.lease(container, name, "release").header("x-ms-lease-id", lease);
        send(&format!("release the lease of blob {container}/{name}"), request).await.map(drop)
    }

    /// Ends a lease, whoever has it.
    #[expect(clippy::missing_errors_doc, reason = "see `acquire_lease`")]
    pub async fn break_lease(&self, container: &str, name: &str) -> Result<(), StorageError> {
        let request = self.lease(container, name, "break").header("x-ms-lease-break-period", "0");
        send(&format!("break the lease of blob {container}/{name}"), request).await.map(drop)
    }

    /// Says whether somebody has a lease on a blob.
    #[expect(clippy::missing_errors_doc, reason = "see `acquire_lease`")]
    pub async fn is_leased(&self, container: &str, name: &str) -> Result<bool, StorageError> {
        let request = self.request(Method::HEAD, Service::Blob, &format!("{container}/{name}"));
        match send(&format!("look at blob {container}/{name}"), request).await {
            Err(error) if error.status() == Some(404) => Ok(false),
            other => Ok(other?.headers().get("x-ms-lease-state").is_some_and(|state| state == "leased")),
        }
    }

    /// Composes a [lease request](https://learn.microsoft.com/rest/api/storageservices/lease-blob).
    fn lease(&self, container: &str, name: &str, action: &str) -> RequestBuilder {
        let request = self.request(Method::PUT, Service::Blob, &format!("{container}/{name}"));
        request.query(&[("comp", "lease")]).header("x-ms-lease-action", action).header("content-length", "0")
    }
}
