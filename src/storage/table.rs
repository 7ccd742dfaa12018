//! The requests this project makes: insert a group of entities, read one, list rows, delete a group of rows as seen.

use super::{Account, Error, batch::MAX_OPERATIONS, transport::Transport};
use azure_core::{ClientOptions, Etag, HttpClient, RetryOptions, TransportOptions};
use azure_data_tables::{IfMatchCondition, clients::TableServiceClientBuilder, prelude::TableClient};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{pin::Pin, sync::Arc};

/// One table.
#[derive(Debug)]
pub struct Table {
    client: TableClient,
}

/// A row as it was seen: it can be deleted for as long as it is still that.
#[derive(Debug, Clone, Deserialize)]
pub struct RowTag {
    #[serde(rename = "RowKey")]
    row_key: String,
    #[serde(rename = "odata.etag")]
    etag: String,
}

impl Table {
    /// The table `name` of `account`, reached through `connection`.
    #[must_use]
    pub fn new(account: &Account, name: &str, connection: Arc<dyn HttpClient>) -> Self {
        let transport = TransportOptions::new(Arc::new(Transport::new(connection)));
        // The client's own retries would repeat writes that may have been applied.
        let options = ClientOptions::default().transport(transport).retry(RetryOptions::none());
        let service = TableServiceClientBuilder::with_location(account.location(), account.credential());
        Self { client: service.client_options(options).build().table_client(name) }
    }

    /// Creates the table unless it is there.
    ///
    /// # Errors
    ///
    /// The table may not be there.
    pub async fn create(&self) -> Result<(), Error> {
        match self.client.create().into_future().await.map_err(Error::from) {
            Err(error) if !error.is_table_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Inserts `entities`, which all have this partition key, in one transaction: all of them or none.
    ///
    /// # Errors
    ///
    /// None was inserted, unless the error [may be applied](Error::may_be_applied).
    pub async fn insert_all<E: Serialize>(&self, partition_key: &str, entities: &[E]) -> Result<(), Error> {
        let mut transaction = self.client.partition_key_client(partition_key).transaction();
        for entity in entities {
            transaction = transaction.insert(entity)?;
        }
        transaction.into_future().await?;
        Ok(())
    }

    /// Reads one entity; `None` when there is no such row.
    ///
    /// # Errors
    ///
    /// Whether there is one is not known; a missing table is an error too.
    pub async fn get<E: DeserializeOwned + Send>(
        &self,
        partition_key: &str,
        row_key: &str,
    ) -> Result<Option<E>, Error> {
        let entity = self.client.partition_key_client(partition_key).entity_client(row_key);
        match entity.get::<E>().into_future().await.map_err(Error::from) {
            Ok(response) => Ok(Some(response.entity)),
            Err(error) if error.is_row_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the rows that match an OData `filter`, in pages that [`Table::delete_all`] takes.
    pub fn row_tags(&self, filter: &str) -> Pin<Box<dyn Stream<Item = Result<Vec<RowTag>, Error>> + '_>> {
        let query = self.client.query().filter(filter.to_owned()).select("RowKey").top(MAX_OPERATIONS as u32);
        Box::pin(query.into_stream::<RowTag>().map(|page| Ok(page?.entities)))
    }

    /// Deletes `rows`, at most 100, in one transaction, provided that each is still as it was seen.
    ///
    /// # Errors
    ///
    /// None was deleted, unless the error [may be applied](Error::may_be_applied).
    pub async fn delete_all(&self, partition_key: &str, rows: &[RowTag]) -> Result<(), Error> {
        let mut transaction = self.client.partition_key_client(partition_key).transaction();
        for row in rows {
            let as_seen = IfMatchCondition::Etag(Etag::from(row.etag.clone()));
            transaction = transaction.delete(&row.row_key, Some(as_seen))?;
        }
        transaction.into_future().await?;
        Ok(())
    }
}
