//! The host's own endpoints.

use local_host::{LocalHost, Options};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    handler::Step,
    rig::{LIMIT, Rig, until},
};

struct Admin {
    host: LocalHost,
    client: Client,
}

impl Admin {
    async fn new(rig: &Rig) -> Self {
        let host = LocalHost::start(Options { admin_port: Some(0), ..rig.options() }).await.unwrap();
        host.ready().await.unwrap();
        Self { host, client: Client::builder().no_proxy().build().unwrap() }
    }

    async fn send(&self, method: Method, path: &str, body: &'static str) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/admin/{path}", self.host.admin_port().unwrap());
        let response = self.client.request(method, url).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn drain_status(&self) -> Value {
        let (status, body) = self.send(Method::GET, "host/drain/status", "").await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn a_function_that_is_called_by_hand_is_accepted_before_it_has_run() {
    let rig = Rig::new().await;
    rig.script("clock", &[Step::FailAfter("open".to_owned()), Step::Fail]);
    let admin = Admin::new(&rig).await;
    assert_eq!(admin.send(Method::POST, "functions/CLOCK", r#"{"input":"x"}"#).await, (202, String::new()));
    rig.called("clock", 1).await;
    assert!(admin.host.invocations().is_empty());
    rig.release("open");
    let invocations = admin.host.wait_for(|all| all.len() == 3, LIMIT).await.unwrap();
    // The scheduled retries share an id; these do not.
    assert!(invocations[0].id != invocations[1].id && invocations[1].id != invocations[2].id);
    assert_eq!(invocations.iter().map(|one| one.attempt).collect::<Vec<_>>(), [0, 1, 2]);
    let reason = "(Reason='This function was programmatically called via the host APIs.', Id=";
    admin.host.wait_for_line(reason, LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_called_is_refused() {
    let rig = Rig::new().await;
    let admin = Admin::new(&rig).await;
    let cases = [
        (Method::POST, "functions/orders", "{}", 202),
        (Method::POST, "functions/orders", "null", 400),
        (Method::POST, "functions/orders", "", 400),
        (Method::POST, "functions/orders", r#"{"input":1}"#, 400),
        (Method::POST, "functions/nobody", "{}", 404),
        (Method::POST, "nothing", "{}", 404),
    ];
    for (method, path, body, expected) in cases {
        assert_eq!(admin.send(method, path, body).await.0, expected, "{path} {body}");
    }
    admin.host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    assert_eq!(rig.requests("orders").len(), 1);
}

#[tokio::test]
async fn a_disabled_function_can_still_be_called() {
    let rig = Rig::new().await;
    let mut options = Options { admin_port: Some(0), ..rig.options() };
    options.settings.insert("AzureWebJobs.orders.Disabled".to_owned(), "true".to_owned());
    let host = LocalHost::start(options).await.unwrap();
    rig.account.put("in-queue", "an order").await.unwrap();
    assert!(host.invoke("orders", Some("by hand")).await.unwrap().succeeded);
    assert_eq!(rig.texts("in-queue").await, ["an order"]);
    assert_eq!(rig.requests("orders").len(), 1);
}

#[tokio::test]
async fn a_health_check_asks_the_handler_and_a_ping_does_not() {
    let rig = Rig::new().await;
    let admin = Admin::new(&rig).await;
    assert_eq!(admin.send(Method::GET, "host/ping", "").await.0, 200);
    assert_eq!(rig.requests("").len(), 1);
    assert_eq!(admin.send(Method::POST, "host/ping?checkHealth=1", "").await.0, 200);
    let probes = rig.requests("");
    assert_eq!(probes.len(), 2);
    assert_eq!(probes[0].head, probes[1].head);
}

#[tokio::test]
async fn a_drained_host_finishes_what_it_has_and_takes_nothing_new() {
    let rig = Rig::new().await;
    rig.script("orders", &[Step::After("open".to_owned())]);
    // With one message in hand the listener does not look for another one.
    rig.set("host.json", "/extensions/queues/batchSize", json!(1));
    rig.set("host.json", "/extensions/queues/newBatchThreshold", json!(0));
    let admin = Admin::new(&rig).await;
    assert_eq!(admin.drain_status().await, json!({ "state": "Disabled", "outstandingInvocations": 0 }));
    rig.account.put("in-queue", "first").await.unwrap();
    rig.called("orders", 1).await;
    assert_eq!(admin.send(Method::POST, "host/drain", "").await.0, 202);
    assert_eq!(admin.drain_status().await, json!({ "state": "InProgress", "outstandingInvocations": 1 }));
    rig.account.put("in-queue", "second").await.unwrap();
    rig.release("open");
    until("the end", async || admin.drain_status().await["state"] == "Completed").await;
    until("one message", async || rig.account.queue_length("in-queue").await.unwrap() == 1).await;
    assert_eq!(rig.texts("in-queue").await, ["second"]);
    assert_eq!(admin.host.stopped(), None);
    // A call by hand still works.
    assert!(admin.host.invoke("orders", Some("by hand")).await.unwrap().succeeded);
}
