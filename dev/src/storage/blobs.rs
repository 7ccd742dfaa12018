//! Small text blobs: the host keeps the status of a timer in one.
//! <https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>

use reqwest::Method;

use super::{Account, Service, StorageError, send, text, unless};

impl Account {
    /// The text of a blob, if it is there.
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
            .body(content.to_owned());
        send(&format!("write blob {container}/{name}"), request).await.map(drop)
    }
}
