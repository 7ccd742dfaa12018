//! A consumer of the events: another app, whose handler is this very test binary, started again by the local host.

use crate::{
    app::{App, LIMIT, event},
    host::Host,
};
use actix_web::{HttpResponse, HttpServer, rt::System, web};
use handler::stop;
use local_host::Options;
use serde_json::{Value, json};
use std::{collections::BTreeMap, env, fs, os::unix::process::parent_id};
use tempfile::TempDir;
use test_storage::Account;

/// Path of [`handler`], as the test harness knows it.
const HANDLER: &str = "consumer::handler";

/// Runs the handler of the consumer. It is not a test: see the module.
#[test]
fn handler() {
    let Ok(port) = env::var("FUNCTIONS_CUSTOMHANDLER_PORT") else { return };
    let server = HttpServer::new(|| actix_web::App::new().default_service(web::to(consume))).workers(1);
    let server = server.bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    System::new().block_on(async {
        tokio::select! {
            _ = server.run() => {}
            _ = stop::requested(parent_id()) => {}
        }
    });
}

/// Takes an event: inserts its data under its id, unless the id is there.
async fn consume(body: String) -> HttpResponse {
    // The host asks first whether anybody listens.
    let Ok(invocation) = serde_json::from_str::<Value>(&body) else { return HttpResponse::Ok().finish() };
    let text: String = serde_json::from_str(invocation["Data"]["event"].as_str().unwrap()).unwrap();
    let event: Value = serde_json::from_str(&text).unwrap();
    let effect = fs::File::create_new(event["id"].as_str().unwrap());
    let log = match effect {
        Ok(file) => serde_json::to_writer(file, &event["data"]).map(|()| "took effect").unwrap(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => "skipped",
        Err(error) => panic!("{error}"),
    };
    HttpResponse::Ok().json(json!({ "Outputs": {}, "Logs": [log], "ReturnValue": null }))
}

/// The consumer, running.
struct Consumer {
    folder: TempDir,
    host: Host,
}

impl Consumer {
    /// Starts a consumer of `order-events`, with these settings of its queues in `host.json`.
    async fn start(account: &Account, queues: Option<Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let description = json!({
            "defaultExecutablePath": env::current_exe().unwrap(),
            "arguments": [HANDLER, "--exact", "--nocapture"],
        });
        let mut host = json!({
            "version": "2.0",
            "extensionBundle": { "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)" },
            "customHandler": { "description": description },
        });
        if let Some(queues) = queues {
            host["extensions"] = json!({ "queues": queues });
        }
        let trigger =
            json!({ "type": "queueTrigger", "direction": "in", "name": "event", "queueName": "order-events" });
        fs::write(folder.path().join("host.json"), host.to_string()).unwrap();
        fs::create_dir(folder.path().join("consume")).unwrap();
        let function = json!({ "bindings": [trigger] });
        fs::write(folder.path().join("consume/function.json"), function.to_string()).unwrap();
        let settings = BTreeMap::from([("AzureWebJobsStorage".to_owned(), account.connection_string())]);
        let options = Options { app_root: folder.path().to_owned(), settings, ..Options::default() };
        let host = Host::start(options).await.unwrap();
        host.ready().await.unwrap();
        Self { folder, host }
    }

    /// Waits until all events are taken, and returns what the handler said of each.
    async fn logs(&self, account: &Account) -> Vec<String> {
        self.host.drain(account, "order-events", LIMIT).await.unwrap();
        let lines = self.host.lines().into_iter().map(|line| line.text);
        let mut logs: Vec<_> = lines.filter(|line| ["took effect", "skipped"].contains(&line.as_str())).collect();
        logs.sort();
        logs
    }

    /// Reads the effect of the event of this id.
    fn effect(&self, id: &Value) -> Value {
        let file = self.folder.path().join(id.as_str().unwrap());
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_consumer_with_default_settings_reads_each_event_and_knows_a_repetition_by_its_id() {
    let app = App::start().await;
    app.send(r#"{"id":"order-123","amount":42}"#).await;
    app.send(r#"{"id":"order-124","amount":43}"#).await;
    let events = app.account.peek("order-events").await.unwrap();
    // As after a crash between the put of an event and the deletion of its row.
    app.account.put("order-events", &events[0].text).await.unwrap();

    let consumer = Consumer::start(&app.account, None).await;
    assert_eq!(consumer.logs(&app.account).await, ["skipped", "took effect", "took effect"]);
    for message in events {
        let event = event(&message.text);
        assert_eq!(consumer.effect(&event["id"]), event["data"]);
    }
    assert_eq!(app.account.queue_length("order-events-poison").await.unwrap(), 0);
}

#[tokio::test]
async fn events_without_an_encoding_are_read_by_a_consumer_that_is_told_so_and_by_no_other() {
    let app = App::start_with(&[("EVENTS_ENCODING", "none")]).await;
    app.send(r#"{"id":"order-123","amount":42}"#).await;
    let text = app.account.peek("order-events").await.unwrap().remove(0).text;
    let event: Value = serde_json::from_str(&text).unwrap();

    let deaf = Consumer::start(&app.account, None).await;
    assert!(deaf.logs(&app.account).await.is_empty());
    assert_eq!(app.account.peek("order-events-poison").await.unwrap()[0].text, text);
    deaf.host.stop().await;

    let consumer = Consumer::start(&app.account, Some(json!({ "messageEncoding": "none" }))).await;
    app.account.put("order-events", &text).await.unwrap();
    consumer.host.poll_now();
    assert_eq!(consumer.logs(&app.account).await, ["took effect"]);
    assert_eq!(consumer.effect(&event["id"]), event["data"]);
}
