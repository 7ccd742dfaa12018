//! The requests this project makes of a table: insert a group of entities, read one, list some, delete as seen.

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RowTag {
    /// Its key in the partition.
    #[serde(rename = "RowKey")]
    pub row_key: String,
    /// Its version.
    #[serde(rename = "odata.etag")]
    pub etag: String,
}

/// Pages of entities, as a query gives them.
pub type Pages<'a, E> = Pin<Box<dyn Stream<Item = Result<Vec<E>, Error>> + 'a>>;

impl Table {
    /// The table `name` of `account`, reached through `connection`.
    #[must_use]
    pub fn new(account: &Account, name: &str, connection: Arc<dyn HttpClient>) -> Self {
        let transport = TransportOptions::new(Arc::new(Transport::new(connection)));
        // The client's own retries would repeat writes that may have been applied.
        let options = ClientOptions::default().transport(transport).retry(RetryOptions::none());
        let service = TableServiceClientBuilder::with_location(account.tables(), account.credential());
        Self { client: service.client_options(options).build().table_client(name) }
    }

    /// Creates the table unless it is there.
    ///
    /// # Errors
    ///
    /// The table may not be there.
    pub async fn create(&self) -> Result<(), Error> {
        match self.client.create().into_future().await.map_err(Error::from) {
            Err(error) if !error.has_code("TableAlreadyExists") => Err(error),
            _ => Ok(()),
        }
    }

    /// Inserts `entities`, which all have this partition key, in one transaction: all of them or none. Answers with
    /// their `ETag`s, where the service gives them.
    ///
    /// # Errors
    ///
    /// None was inserted, unless the error [may be applied](Error::may_be_applied).
    pub async fn insert_all<E: Serialize>(
        &self,
        partition_key: &str,
        entities: &[E],
    ) -> Result<Vec<Option<String>>, Error> {
        let mut transaction = self.client.partition_key_client(partition_key).transaction();
        for entity in entities {
            transaction = transaction.insert(entity)?;
        }
        let answers = transaction.into_future().await?.operation_responses;
        Ok(answers.into_iter().map(|answer| answer.etag.map(|etag| etag.to_string())).collect())
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

    /// Lists the entities that match an OData `filter`, in pages of at most 100, with the properties `select`ed.
    pub fn query<E>(&self, filter: String, select: &'static str) -> Pages<'_, E>
    where
        E: DeserializeOwned + Send + Sync + 'static,
    {
        let query = self.client.query().filter(filter).select(select).top(MAX_OPERATIONS as u32);
        Box::pin(query.into_stream::<E>().map(|page| Ok(page?.entities)))
    }

    /// Deletes `rows`, at most 100, all of them or none, provided that each is still as it was seen.
    ///
    /// # Errors
    ///
    /// None was deleted, unless the error [may be applied](Error::may_be_applied).
    pub async fn delete_all(&self, partition_key: &str, rows: &[&RowTag]) -> Result<(), Error> {
        let partition = self.client.partition_key_client(partition_key);
        if let [row] = rows {
            partition.entity_client(&row.row_key).delete().if_match(as_seen(row)).into_future().await?;
            return Ok(());
        }
        let mut transaction = partition.transaction();
        for row in rows {
            transaction = transaction.delete(&row.row_key, Some(as_seen(row)))?;
        }
        transaction.into_future().await?;
        Ok(())
    }
}

fn as_seen(row: &RowTag) -> IfMatchCondition {
    IfMatchCondition::Etag(Etag::from(row.etag.clone()))
}
