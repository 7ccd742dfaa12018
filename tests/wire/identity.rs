//! The handler as a process that has an identity and no key: what it asks the platform for, and what it tells the
//! storage.

use crate::{
    azure,
    scripted::{Answer, Received},
    service::{Reply, Service},
};
use std::{
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

const TOKEN: &str = "eyJ0eXAi.s3cret.c2ln";

/// Long enough for a busy machine: no test waits for it unless it fails.
const LIMIT: Duration = Duration::from_secs(120);

/// A handler that has no access waits for it, and answers in time.
const SHORT: (&str, &str) = ("AzureFunctionsJobHost__functionTimeout", "00:00:03");

/// A handler, and the storage it has access to by its identity.
struct App {
    port: u16,
    process: Child,
    storage: Service,
}

impl App {
    /// Starts a handler with the endpoints of a storage service of its own, and `settings`.
    async fn start(settings: &[(&str, &str)]) -> Self {
        let storage = Service::start(|request, _| Reply::Now(stored(request))).await;
        let port = test_storage::free_port().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_test-handler"));
        command.env_clear().current_dir(env!("CARGO_MANIFEST_DIR")).envs([
            ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string().as_str()),
            ("AzureWebJobsStorage__tableServiceUri", &storage.url("")),
            ("AzureWebJobsStorage__queueServiceUri", &storage.url("/")),
            ("RUST_LOG", "trace"),
        ]);
        command.envs(settings.iter().copied());
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let app = Self { port, process, storage };
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(start.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        app
    }

    /// In a Function App, with the identity endpoint `platform`.
    async fn in_azure(platform: &Service, settings: &[(&str, &str)]) -> Self {
        let endpoint = platform.url("/msi/token");
        let platform = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "853b9a84")];
        Self::start(&[&platform[..], settings].concat()).await
    }

    async fn ready(&self) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("http://127.0.0.1:{}/", self.port)).send().await.unwrap().status().as_u16()
    }

    /// Delivers a new order; answers the status, and its reason.
    async fn deliver(&self, id: &str) -> (u16, String) {
        let message = serde_json::json!({ "id": id, "amount": 42 }).to_string();
        let body = serde_json::json!({ "Data": { "msg": serde_json::to_string(&message).unwrap() }, "Metadata": {} });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/queue_with_idempotency", self.port);
        let answer = client.post(url).body(body.to_string()).timeout(LIMIT).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Everything it has printed.
    async fn end(mut self) -> String {
        self.process.start_kill().unwrap();
        let Output { stdout, stderr, .. } = self.process.wait_with_output().await.unwrap();
        String::from_utf8([stdout, stderr].concat()).unwrap()
    }
}

/// A storage that takes everything: orders have one event each.
fn stored(request: &Received) -> Answer {
    match request.method.as_str() {
        "POST" if request.url.ends_with("/$batch") => azure::batch(&vec![azure::inserted(); request.entities().len()]),
        "POST" => Answer::new(201, ""),
        _ => Answer::new(204, ""),
    }
}

fn header<'a>(request: &'a Received, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// An answer of App Service: the time is a string.
fn token() -> Answer {
    let body = serde_json::json!({
        "access_token": TOKEN,
        "expires_on": "4102444800",
        "resource": "https://storage.azure.com",
        "token_type": "Bearer",
        "client_id": "5d1a3f5e-client",
    });
    Answer::new(200, &body.to_string()).header("content-type", "application/json; charset=utf-8")
}

/// A platform that gives these answers, the last one for ever.
async fn platform(answers: &[Answer]) -> Service {
    let answers = answers.to_vec();
    Service::start(move |_, index| Reply::Now(answers[index.min(answers.len() - 1)].clone())).await
}

#[tokio::test]
async fn the_user_assigned_identity_is_asked_for_as_app_service_wants_it_and_used_for_tables_and_queues() {
    let platform = platform(&[token()]).await;
    let settings =
        [("AzureWebJobsStorage__credential", "managedidentity"), ("AzureWebJobsStorage__clientId", "5d1a3f5e-client")];
    let app = App::in_azure(&platform, &settings).await;
    for id in ["order-123", "order-124"] {
        let (status, answer) = app.deliver(id).await;
        assert_eq!(status, 200, "{answer}");
    }

    let exchanges = platform.received();
    assert_eq!(exchanges.len(), 1, "the token is kept: {exchanges:?}");
    let (path, query) = exchanges[0].url.split_once('?').unwrap();
    assert_eq!((exchanges[0].method.as_str(), path), ("GET", "/msi/token"));
    let mut query: Vec<_> = query.split('&').collect();
    query.sort_unstable();
    let resource = "resource=https%3A%2F%2Fstorage.azure.com";
    assert_eq!(query, ["api-version=2019-08-01", "client_id=5d1a3f5e-client", resource]);
    assert_eq!(header(&exchanges[0], "x-identity-header"), Some("853b9a84"));

    // The events are published behind the answers.
    while app.storage.received().iter().filter(|request| request.method == "DELETE").count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let requests = app.storage.received();
    assert_eq!(requests.len(), 6);
    assert_eq!(requests[0].url, "/$batch");
    assert!(requests.iter().any(|request| request.url == "/order-events/messages?messagettl=-1"));
    for request in requests {
        assert_eq!(header(&request, "authorization"), Some(format!("Bearer {TOKEN}").as_str()));
        // Tables take tokens since 2020-12-06, queues since 2017-11-09.
        assert_eq!(header(&request, "x-ms-version"), Some("2022-11-02"));
        assert!(header(&request, "x-ms-date").is_some());
    }
    let printed = app.end().await;
    assert!(printed.contains("Listening on") && !printed.contains("s3cret") && !printed.contains("853b9a84"));
}

#[tokio::test]
async fn without_a_client_id_it_is_the_system_assigned_identity() {
    let platform = platform(&[token()]).await;
    let app = App::in_azure(&platform, &[]).await;
    assert_eq!(app.deliver("order-123").await.0, 200);
    let url = &platform.received()[0].url;
    assert!(!url.contains("client_id"), "{url}");
}

#[tokio::test]
async fn an_identity_endpoint_that_is_busy_or_broken_is_asked_again_within_the_invocation() {
    let number = Answer::new(
        200,
        r#"{"access_token":"s3cret","expires_on":4102444800,"resource":"https://storage.azure.com","token_type":"Bearer"}"#,
    );
    let failures = [Answer::new(429, ""), Answer::new(500, "{}"), number, Answer::new(410, "<html>")];
    let platform = platform(&[&failures[..], &[token()]].concat()).await;
    let app = App::in_azure(&platform, &[]).await;
    let (status, answer) = app.deliver("order-123").await;
    assert_eq!((status, platform.received().len()), (200, 5), "{answer}");
    assert!(app.storage.received().iter().any(|request| request.body.contains("record~")));
    assert!(!app.end().await.contains("s3cret"));
}

#[tokio::test]
async fn an_identity_that_is_not_there_is_waited_for_and_its_settings_are_named() {
    let body = r#"{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.","correlationId":"1f0a"}"#;
    let platform = platform(&[Answer::new(400, body)]).await;
    let app = App::in_azure(&platform, &[("AzureWebJobsStorage__clientId", "0-typo"), SHORT]).await;
    let (status, answer) = app.deliver("order-123").await;
    assert_eq!(status, 500, "{answer}");
    assert!(app.storage.received().is_empty());
    let printed = app.end().await;
    assert!(printed.contains("AzureWebJobsStorage__clientId"), "{printed}");
    assert!(printed.contains("answered 400: No User Assigned or Delegated Managed Identity found"), "{printed}");
}

#[tokio::test]
async fn an_identity_endpoint_that_is_no_url_stops_the_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_test-handler"));
    command.env_clear().current_dir(env!("CARGO_MANIFEST_DIR")).envs([
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "0"),
        ("AzureWebJobsStorage__accountName", "shop"),
        ("IDENTITY_ENDPOINT", "localhost"),
        ("IDENTITY_HEADER", "853b9a84"),
    ]);
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await.unwrap().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("IDENTITY_ENDPOINT environment variable must be a valid URL"), "{error}");
    assert!(!error.contains("853b9a84") && error.lines().count() == 1, "{error}");
}

#[tokio::test]
async fn invocations_that_come_together_share_the_first_exchange() {
    let platform = Service::start(|_, _| Reply::Later(Duration::from_millis(500), token())).await;
    let app = App::in_azure(&platform, &[]).await;
    let ids: Vec<_> = (0..8).map(|number| format!("order-{number}")).collect();
    let answers = futures::future::join_all(ids.iter().map(|id| app.deliver(id))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(platform.received().len(), 1);
}

#[tokio::test]
async fn nothing_is_asked_before_the_first_invocation_and_an_endpoint_that_hangs_does_not_delay_readiness() {
    let platform = Service::start(|_, _| Reply::Never).await;
    let app = App::in_azure(&platform, &[]).await;
    assert_eq!(app.ready().await, 200);
    assert!(platform.received().is_empty());
    tokio::select! {
        answer = app.deliver("order-123") => panic!("{answer:?}"),
        () = async {
            while platform.received().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(app.ready().await, 200);
        } => {}
    }
}

/// A folder for the `PATH` in which these commands have these scripts.
fn tools(commands: &[(&str, &str)]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (command, script) in commands {
        let file = folder.path().join(command);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

/// A command that answers this, and keeps its arguments in the file `asked` beside it.
fn noting(answer: &str) -> String {
    format!("echo \"$@\" >> \"$(dirname \"$0\")/asked\"; echo '{answer}'")
}

async fn app_of_a_developer(tools: &Path, settings: &[(&str, &str)]) -> App {
    let path = format!("{}:/usr/bin:/bin", tools.display());
    App::start(&[&[("PATH", path.as_str())], settings].concat()).await
}

#[tokio::test]
async fn on_the_machine_of_a_developer_the_azure_cli_is_asked() {
    let answer = format!(r#"{{"accessToken":"{TOKEN}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    let tools = tools(&[("az", &noting(&answer))]);
    let app = app_of_a_developer(tools.path(), &[]).await;
    for id in ["order-123", "order-124"] {
        assert_eq!(app.deliver(id).await.0, 200);
    }
    let bearer = format!("Bearer {TOKEN}");
    assert!(app.storage.received().iter().all(|request| header(request, "authorization") == Some(&bearer)));
    let asked = std::fs::read_to_string(tools.path().join("asked")).unwrap();
    assert_eq!(asked, "account get-access-token -o json --scope https://storage.azure.com/.default\n");
    assert!(!app.end().await.contains("s3cret"));
}

#[tokio::test]
async fn a_developer_who_is_not_signed_in_is_told_so() {
    let az = "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1";
    let azd = r#"echo '{"type":"consoleMessage","data":{"message":"\nERROR: run `azd auth login` to log in\n"}}' >&2; exit 1"#;
    for (commands, expected) in
        [(&[("az", az)][..], "azd not found on PATH"), (&[("az", az), ("azd", azd)], "run `azd auth login` to log in")]
    {
        let tools = tools(commands);
        // Errors are printed whatever this says.
        let app = app_of_a_developer(tools.path(), &[("RUST_LOG", "off"), SHORT]).await;
        assert_eq!(app.deliver("order-123").await.0, 500);
        let printed = app.end().await;
        assert!(printed.contains("Please run 'az login' to setup account."), "{printed}");
        assert!(printed.contains(expected), "{printed}");
    }
}

#[tokio::test]
async fn the_developer_cli_serves_when_the_azure_cli_is_not_there() {
    let answer = format!(r#"{{"token":"{TOKEN}","expiresOn":"2100-01-01T00:00:00Z"}}"#);
    let tools = tools(&[("azd", &noting(&answer))]);
    let app = app_of_a_developer(tools.path(), &[]).await;
    assert_eq!(app.deliver("order-123").await.0, 200);
    let bearer = format!("Bearer {TOKEN}");
    assert!(app.storage.received().iter().all(|request| header(request, "authorization") == Some(&bearer)));
    let asked = std::fs::read_to_string(tools.path().join("asked")).unwrap();
    assert!(asked.contains("--scope https://storage.azure.com/.default"), "{asked}");
}
