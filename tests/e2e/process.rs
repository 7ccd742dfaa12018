//! The handler as a process: what stops it from starting, how it stops, and that it never outlives its host.

use crate::{
    app::{App, LIMIT, QUEUE, app_root, text},
    host::{is_local, local_only},
};
use std::{
    net::TcpListener,
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

fn handler(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handler"));
    command.env_clear().envs(settings.iter().copied()).current_dir(app_root());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn free_port() -> String {
    test_storage::free_port().unwrap().to_string()
}

const STORAGE: (&str, &str) = ("AzureWebJobsStorage", "UseDevelopmentStorage=true");

async fn output(command: &mut Command) -> Output {
    tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap()
}

/// Waits for an answer, which says more than a connection: the system makes that before the process looks at it.
async fn wait_until_ready(port: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = Instant::now();
    while client.get(format!("http://127.0.0.1:{port}/")).send().await.is_err() {
        assert!(start.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_until_closed(port: u16) {
    let start = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        assert!(start.elapsed() < LIMIT, "still listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a signal by the shell: not every system has a program for it.
async fn kill(signal: &str, pid: &str) {
    let kill = format!("kill -s {signal} {pid}");
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    kill(name, &pid).await;
}

#[tokio::test]
async fn bad_settings_stop_the_start_with_one_line_that_names_them_all() {
    let output = output(&mut handler(&[
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "70000"),
        ("AzureWebJobsStorage", "AccountName=shop;AccountKey=s3cret!"),
        ("IDEMPOTENCY_TTL_HOURS", "a week"),
        ("IDEMPOTENCY_TABEL", "orders"),
    ]))
    .await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("The handler cannot run: 4 bad settings: "), "{error}");
    for name in ["FUNCTIONS_CUSTOMHANDLER_PORT", "AzureWebJobsStorage", "IDEMPOTENCY_TTL_HOURS", "IDEMPOTENCY_TABEL"] {
        assert!(error.contains(name), "{name}: {error}");
    }
    assert!(!error.contains("s3cret"));
}

#[tokio::test]
async fn a_port_in_use_stops_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = output(&mut handler(&[("FUNCTIONS_CUSTOMHANDLER_PORT", &port), STORAGE])).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("port {port} of 127.0.0.1 cannot be listened on")), "{error}");
}

#[tokio::test]
async fn a_missing_host_json_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let output = output(&mut handler(&[
        ("FUNCTIONS_CUSTOMHANDLER_PORT", &free_port()),
        ("FUNCTIONS_APP_ROOT_PATH", root),
        STORAGE,
    ]))
    .await;
    assert!(String::from_utf8(output.stderr).unwrap().contains("host.json cannot be read"));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn it_listens_while_the_storage_is_not_there() {
    let port = free_port();
    let nowhere =
        "AccountName=shop;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:1/a;QueueEndpoint=http://127.0.0.1:1/a";
    let mut command = handler(&[("FUNCTIONS_CUSTOMHANDLER_PORT", &port), ("AzureWebJobsStorage", nowhere)]);
    let _child = command.spawn().unwrap();
    wait_until_ready(&port).await;
}

#[tokio::test]
async fn a_signal_ends_it_with_a_code_that_the_host_does_not_take_for_a_wish() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let port = free_port();
        let mut child = handler(&[("FUNCTIONS_CUSTOMHANDLER_PORT", &port), STORAGE]).spawn().unwrap();
        wait_until_ready(&port).await;
        signal(&child, name).await;
        let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(code), "{name}");
    }
}

#[tokio::test]
async fn it_ends_when_its_host_is_gone() {
    let port = free_port();
    let mut host = Command::new("sh");
    host.args(["-c", "\"$0\" & echo $!; wait", env!("CARGO_BIN_EXE_handler")]).env_clear();
    host.envs([("PATH", "/usr/bin:/bin"), ("FUNCTIONS_CUSTOMHANDLER_PORT", port.as_str()), STORAGE]);
    let mut host = host.current_dir(app_root()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    wait_until_ready(&port).await;
    host.kill().await.unwrap();
    wait_until_closed(port.parse().unwrap()).await;
}

#[tokio::test]
async fn an_invocation_in_flight_is_finished_before_a_termination() {
    local_only!("it sends a signal to the handler");
    let app = App::start().await;
    app.send(r#"{"id":"warm-up"}"#).await;
    app.tables.forget();
    let gate = test_storage::Gate::default();
    app.tables.fail_next(1, test_storage::Kind::Batch, test_storage::Fault::Held(gate.clone()));
    let deliver = app.host.deliver(crate::app::QUEUE, r#"{"id":"order-123"}"#);
    let terminate = async {
        while app.tables.kinds().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = app.host.local().worker_pid().unwrap().to_string();
        kill("TERM", &pid).await;
        wait_until_closed(app.host.local().worker_port()).await;
        gate.open();
    };
    let (invocation, ()) = tokio::join!(deliver, terminate);
    assert!(invocation.unwrap().succeeded);
    assert_eq!(app.rows().await.len(), 2);
}

#[tokio::test]
async fn an_event_on_its_way_gets_there_before_a_termination() {
    local_only!("it sends a signal to the handler");
    let app = App::start().await;
    app.send(r#"{"id":"warm-up"}"#).await;
    app.forget_requests();
    let gate = test_storage::Gate::default();
    app.fail_events(test_storage::Fault::Held(gate.clone()));
    assert!(app.host.deliver(QUEUE, r#"{"id":"order-123"}"#).await.unwrap().succeeded);
    while app.puts() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill("TERM", &app.host.local().worker_pid().unwrap().to_string()).await;
    gate.open();
    app.published_but(|| 0).await;
    assert_eq!(app.events().await.len(), 2);
}

#[tokio::test]
async fn a_proxy_in_the_environment_does_not_catch_what_is_meant_for_the_emulator() {
    local_only!("a real host obeys the proxy itself");
    let app = App::start_with(&[("HTTP_PROXY", "http://127.0.0.1:1"), ("http_proxy", "http://127.0.0.1:1")]).await;
    assert!(app.send(r#"{"id":"order-123"}"#).await.succeeded);
}

#[tokio::test]
async fn other_names_of_table_and_retention_are_used() {
    let app = App::start_with(&[("IDEMPOTENCY_TABLE", "Orders2026"), ("IDEMPOTENCY_TTL_HOURS", "200")]).await;
    app.host.deliver(QUEUE, r#"{"id":"order-123"}"#).await.unwrap();
    let mut rows = app.account.rows("Orders2026").await.unwrap();
    rows.retain(|row| text(row, "RowKey").starts_with("record~"));
    let time = |name: &str| {
        let text = rows[0][name].as_str().unwrap();
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    };
    assert_eq!(time("expires_at") - time("committed_at"), time::Duration::hours(200));
    assert!(app.rows().await.is_empty());
}

#[tokio::test]
async fn a_retention_shorter_than_a_message_can_wait_is_warned_of() {
    let app = App::start_with(&[("IDEMPOTENCY_TTL_HOURS", "503")]).await;
    let line = app.host.wait_for_line("WARN IDEMPOTENCY_TTL_HOURS is shorter than the 21 days", LIMIT).await.unwrap();
    assert!(!is_local() || line.level == local_host::console::Level::Warning);
}
