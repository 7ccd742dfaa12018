//! Isolation of invocations: one may panic, or take for ever.

use crate::{domain::DOMAIN, scripted::config};
use actix_web::rt::System;
use async_trait::async_trait;
use azure_core::{HttpClient, Request, Response};
use handler::{app, functions::App, storage::Account};
use std::{net::TcpListener, sync::Arc, time::Duration};

/// A storage service that is the end of an invocation.
#[derive(Debug, Clone, Copy)]
enum Storage {
    Panics,
    NeverAnswers,
}

#[async_trait]
impl HttpClient for Storage {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<Response> {
        match self {
            Self::Panics => panic!("a bug"),
            Self::NeverAnswers => std::future::pending().await,
        }
    }
}

/// Starts the handler's server over this storage and returns its port.
fn serve(storage: Storage, limit: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let account = Account::from_connection_string("AccountName=shop;AccountKey=a2V5").unwrap();
    let client: Arc<dyn HttpClient> = Arc::new(storage);
    let app = App::new(DOMAIN, &account, &client, &config());
    std::thread::spawn(move || {
        System::new().block_on(async { app::server(listener, Arc::new(app), limit).unwrap().await })
    });
    port
}

async fn post(port: u16) -> (u16, String) {
    let body = r#"{"Data":{"msg":"\"{\\\"id\\\":\\\"order-123\\\"}\""},"Metadata":{}}"#;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://127.0.0.1:{port}/queue_with_idempotency")).body(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_panic_fails_its_invocation_and_not_the_process() {
    let port = serve(Storage::Panics, Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(post(port).await, (500, r#"{"error":"the function panicked"}"#.to_owned()));
    }
}

#[tokio::test]
async fn an_invocation_ends_at_its_deadline() {
    let port = serve(Storage::NeverAnswers, Duration::from_millis(200));
    let answer = tokio::time::timeout(Duration::from_secs(60), post(port)).await.unwrap();
    assert_eq!(answer, (500, r#"{"error":"not finished within 0.2 s"}"#.to_owned()));
}
