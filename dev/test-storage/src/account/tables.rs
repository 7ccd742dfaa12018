//! Table storage: <https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api>.

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Account, Service, StorageError, send, text, unless};

/// The properties of one entity, keys included.
pub type Row = Map<String, Value>;

#[derive(Deserialize)]
struct Page {
    value: Vec<Row>,
}

impl Account {
    /// Creates a table unless it exists.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached; so for everything below.
    pub async fn create_table(&self, table: &str) -> Result<(), StorageError> {
        let request = self.table_request(Method::POST, "Tables").body(json!({ "TableName": table }).to_string());
        unless(409, send(&format!("create table {table}"), request).await)
    }

    /// Deletes a table and all of its rows, if it is there.
    #[expect(clippy::missing_errors_doc, reason = "see `create_table`")]
    pub async fn delete_table(&self, table: &str) -> Result<(), StorageError> {
        let request = self.table_request(Method::DELETE, &format!("Tables('{table}')"));
        unless(404, send(&format!("delete table {table}"), request).await)
    }

    /// Reads all rows of a table in the order of their keys; none when the table is missing.
    #[expect(clippy::missing_errors_doc, reason = "see `create_table`")]
    pub async fn rows(&self, table: &str) -> Result<Vec<Row>, StorageError> {
        let operation = format!("read table {table}");
        let mut rows = Vec::new();
        let mut continuation: Vec<(&str, String)> = Vec::new();
        loop {
            let request = self.table_request(Method::GET, &format!("{table}()")).query(&continuation);
            let response = match send(&operation, request).await {
                Err(error) if error.status() == Some(404) => return Ok(rows),
                other => other?,
            };
            continuation = [("NextPartitionKey", "partitionkey"), ("NextRowKey", "rowkey")]
                .into_iter()
                .filter_map(|(parameter, header)| {
                    let value = response.headers().get(format!("x-ms-continuation-next{header}"))?;
                    Some((parameter, value.to_str().ok()?.to_owned()))
                })
                .collect();
            let page = text(&operation, response).await?;
            let page: Page =
                serde_json::from_str(&page).map_err(|error| StorageError::unexpected(&operation, error.to_string()))?;
            rows.extend(page.value);
            if continuation.is_empty() {
                return Ok(rows);
            }
        }
    }

    /// Inserts a row, which needs `PartitionKey` and `RowKey`.
    #[expect(clippy::missing_errors_doc, reason = "see `create_table`")]
    pub async fn insert_row(&self, table: &str, row: &Row) -> Result<(), StorageError> {
        let request =
            self.table_request(Method::POST, table).header("prefer", "return-no-content").body(json!(row).to_string());
        send(&format!("insert into table {table}"), request).await.map(drop)
    }

    /// Changes the properties given besides `PartitionKey` and `RowKey`, whatever version the row has.
    #[expect(clippy::missing_errors_doc, reason = "see `create_table`")]
    pub async fn merge_row(&self, table: &str, row: &Row) -> Result<(), StorageError> {
        let request = self.table_request(Method::PATCH, &entity(table, row)).header("if-match", "*");
        let request = request.body(json!(row).to_string());
        send(&format!("merge into table {table}"), request).await.map(drop)
    }

    /// Deletes the row with the keys of `row`, whatever version it has.
    #[expect(clippy::missing_errors_doc, reason = "see `create_table`")]
    pub async fn delete_row(&self, table: &str, row: &Row) -> Result<(), StorageError> {
        let request = self.table_request(Method::DELETE, &entity(table, row)).header("if-match", "*");
        send(&format!("delete from table {table}"), request).await.map(drop)
    }

    fn table_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, Service::Table, path)
            .header("accept", "application/json;odata=nometadata")
            .header("content-type", "application/json")
            .header("dataserviceversion", "3.0")
    }
}

fn entity(table: &str, row: &Row) -> String {
    let key = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().replace('\'', "''");
    format!("{table}(PartitionKey='{}',RowKey='{}')", key("PartitionKey"), key("RowKey"))
}
