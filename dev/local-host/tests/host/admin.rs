//! The host's own endpoints.

use local_host::{LocalHost, Options};
use reqwest::{Client, Method};

use crate::{
    handler::Step,
    rig::{LIMIT, Rig},
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
    options.settings.insert("azurewebjobs_Orders_disabled".to_owned(), "1".to_owned());
    let host = LocalHost::start(options).await.unwrap();
    assert!(host.functions().eq([("clock", "timerTrigger", false), ("orders", "queueTrigger", true)]));
    rig.account.put("in-queue", "an order").await.unwrap();
    assert!(host.invoke("orders", Some("by hand")).await.unwrap().succeeded);
    assert_eq!(rig.texts("in-queue").await, ["an order"]);
    assert_eq!(rig.requests("orders").len(), 1);
}
