//! The requests this project makes of a table: insert a group of entities, read one, list some, delete as seen.

use super::{
    Account, Error,
    batch::{self, MAX_OPERATIONS},
    service::{Service, options},
    transport::header,
};
use azure_core::{
    HttpClient, Method, Url,
    headers::{CONTENT_TYPE, Headers, IF_MATCH},
};
use azure_data_tables::{clients::TableServiceClientBuilder, prelude::TableClient};
use azure_storage::clients::ServiceType;
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{pin::Pin, sync::Arc};
use uuid::Uuid;

/// One table.
#[derive(Debug)]
pub struct Table {
    client: TableClient,
    service: Service,
    /// Between the operations of every transaction. No message can have it in it.
    boundary: Uuid,
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
        let options = options(connection);
        let service = Service::new(account, (ServiceType::Table, &account.endpoints.tables), options.clone());
        let client = TableServiceClientBuilder::with_location(account.tables(), account.credential());
        let client = client.client_options(options).build().table_client(name);
        Self { client, service, boundary: Uuid::new_v4() }
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

    /// Inserts `entities` of one partition in one transaction: all of them or none. Answers with their `ETag`s, where the
    /// service gives them.
    ///
    /// # Errors
    ///
    /// None was inserted, unless the error [may be applied](Error::may_be_applied).
    pub async fn insert_all<E: Serialize>(&self, entities: &[E]) -> Result<Vec<Option<String>>, Error> {
        let url = self.service.url(&[self.client.table_name()])?;
        let inserts = entities.iter().map(|entity| batch::insert(&url, entity));
        self.transact(&inserts.collect::<Result<Vec<_>, _>>()?).await
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
        if let [row] = rows {
            let (url, etag) = self.as_seen(partition_key, row)?;
            let mut headers = Headers::new();
            headers.insert(IF_MATCH, etag);
            return self.service.send((Method::Delete, url), headers, "").await.map(drop);
        }
        let delete = |row: &&RowTag| self.as_seen(partition_key, row).map(|(url, etag)| batch::delete(&url, &etag));
        self.transact(&rows.iter().map(delete).collect::<Result<Vec<_>, _>>()?).await.map(drop)
    }

    /// Applies all operations or none. Answers with the `ETag` of each, where the service gives it.
    async fn transact(&self, operations: &[String]) -> Result<Vec<Option<String>>, Error> {
        let (content_type, body) = batch::request(self.boundary, operations);
        let mut headers = Headers::new();
        headers.insert(CONTENT_TYPE, content_type);
        let url = self.service.url(&["$batch"])?;
        let (_, headers, body) = self.service.send((Method::Post, url), headers, body).await?.deconstruct();
        let content_type = header(&headers, &CONTENT_TYPE).unwrap_or_default();
        batch::check_answer(content_type, &body.collect().await?, operations.len())
    }

    /// Returns the URL of a row, and the version of it that may be deleted.
    fn as_seen(&self, partition_key: &str, RowTag { row_key, etag }: &RowTag) -> Result<(Url, String), Error> {
        let table = self.client.table_name();
        let url = self.service.url(&[&format!("{table}(PartitionKey='{partition_key}',RowKey='{row_key}')")])?;
        Ok((url, etag.clone()))
    }
}
