//! The baseline of `docs/performance.md`: a minimal handler with actix-web and `azure_data_tables`.
//!
//! It inserts one entity for each order and answers. No fingerprint, no receipt, no outbox, no look at a duplicate, no
//! limit, no log: what the handler costs above this is what its guarantees cost. It is loaded by the same command:
//!
//! ```sh
//! cargo build --release --locked --manifest-path benches/baseline/Cargo.toml
//! cargo load --duplicates 0 --baseline benches/baseline/target/release/baseline
//! ```

#![allow(clippy::disallowed_methods, reason = "the rules of the handler are not for the baseline")]

use actix_web::{
    App, HttpResponse, HttpServer,
    web::{Data, Json, JsonConfig, get, post},
};
use azure_core::{ClientOptions, RetryOptions, StatusCode, TransportOptions};
use azure_data_tables::{clients::TableServiceClientBuilder, prelude::TableClient};
use azure_storage::{CloudLocation, StorageCredentials};
use serde_json::{Value, json};
use std::{env, error::Error, sync::Arc};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let table = Data::new(table(&env::var("AzureWebJobsStorage")?)?);
    let port: u16 = env::var("FUNCTIONS_CUSTOMHANDLER_PORT")?.parse()?;
    let app = move || {
        App::new()
            .app_data(table.clone())
            .app_data(JsonConfig::default().limit(4 * 1024 * 1024))
            .route("/", get().to(async || "ready"))
            .route("/queue_with_idempotency", post().to(queue))
            .route("/scheduled_with_retry", post().to(async || answer(None)))
    };
    Ok(HttpServer::new(app).bind(("127.0.0.1", port))?.run().await?)
}

/// The table in the account of a connection string with a key.
fn table(connection: &str) -> Result<TableClient, Box<dyn Error>> {
    let part = |name: &str| {
        let mut parts = connection.split(';').filter_map(|part| part.split_once('='));
        parts.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).ok_or(format!("{name} is missing"))
    };
    let account = part("AccountName")?;
    let credential = StorageCredentials::access_key(account.clone(), part("AccountKey")?);
    let transport = TransportOptions::new(Arc::new(reqwest::Client::builder().build()?));
    let options = ClientOptions::default().transport(transport).retry(RetryOptions::none());
    let location = CloudLocation::Custom { account, uri: part("TableEndpoint")? };
    let service = TableServiceClientBuilder::with_location(location, credential).client_options(options).build();
    Ok(service.table_client("idempotency"))
}

async fn queue(body: Json<Value>, table: Data<TableClient>) -> HttpResponse {
    match insert(&body, &table).await {
        // The load command takes an order without a receipt for a rejected one.
        Ok(()) => answer(Some("accepted")),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

async fn insert(body: &Value, table: &TableClient) -> Result<(), Box<dyn Error>> {
    let message: String = serde_json::from_str(body["Data"]["msg"].as_str().ok_or("no message")?)?;
    let order: Value = serde_json::from_str(&message)?;
    let id = order["id"].as_str().ok_or("no id")?;
    let partition = id.get(id.len().saturating_sub(2)..).ok_or("a strange id")?;
    // The key of the row begins as those of the handler do, so that the load command counts it.
    let entity = json!({ "PartitionKey": partition, "RowKey": format!("record~{id}"), "amount": order["amount"] });
    let once = async || table.insert::<_, Value>(&entity)?.into_future().await;
    match once().await {
        Err(error) if error.as_http_error().is_some_and(|error| error.status() == StatusCode::NotFound) => {
            table.create().into_future().await?;
            once().await?;
        }
        result => drop(result?),
    }
    Ok(())
}

fn answer(receipt: Option<&str>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "Outputs": {}, "Logs": [], "ReturnValue": receipt }))
}
