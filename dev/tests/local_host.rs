//! The local host against a scripted handler: this very test binary, started again by the local host.
//!
//! The verb in the message says what the handler does, so each test reads as cause and effect.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::parent_id,
    path::Path,
    process::exit,
    thread,
    time::{Duration, Instant},
};

use dev::{Account, ExitZero, Fault, FaultProxy, Framing, LocalHost, Options, azurite, proxy::Kind, storage::Service};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// Not a test: the handler that the tests below let the local host start.
#[test]
fn scripted_handler() {
    let Ok(port) = env::var("FUNCTIONS_CUSTOMHANDLER_PORT") else { return };
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let parent = parent_id();
    thread::spawn(move || {
        while parent_id() == parent {
            thread::sleep(Duration::from_millis(200));
        }
        exit(1)
    });
    for stream in listener.incoming() {
        thread::spawn(move || while answer(stream.as_ref().unwrap()) {});
    }
}

/// Serves one request; false when the connection has ended.
fn answer(stream: &TcpStream) -> bool {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let head = head.to_ascii_lowercase();
    let body =
        if head.contains("transfer-encoding: chunked") { chunked(&mut reader) } else { sized(&mut reader, &head) };
    let has = |verb: &str| body.contains(verb);
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let (head, body) = match () {
        () if has("do:exit") => exit(body.split("do:exit").nth(1).unwrap()[..3].parse().unwrap()),
        () if has("do:empty") => (json, String::new()),
        () if has("do:fail") || has("RetryContext") => ("HTTP/1.1 500 out of paper\r\n", "discarded".to_owned()),
        () if has("do:output") => (json, r#"{"Outputs":{"out":{"b":1.10,"a":[]}}}"#.to_owned()),
        () => (
            json,
            json!({ "Logs": [format!("framing {}", &head.contains("chunked"))], "ReturnValue": body }).to_string(),
        ),
    };
    write!(&*stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).is_ok()
}

fn sized(reader: &mut impl Read, head: &str) -> String {
    let length = head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn chunked(reader: &mut impl BufRead) -> String {
    let mut body = String::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        body.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        if size == 0 {
            return body;
        }
    }
}

struct Rig {
    folder: TempDir,
    account: Account,
}

impl Rig {
    /// An app with a queue function `orders` (queue `in`, output `out`) and a timer function `clock`.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = |kind: &str, direction: &str, name: &str, queue: &str| json!({ "type": kind, "direction": direction, "name": name, "queueName": queue });
        let host = json!({
            "version": "2.0",
            "functionTimeout": "00:00:02",
            "customHandler": { "description": {
                "defaultExecutablePath": env::current_exe().unwrap(),
                "arguments": ["scripted_handler", "--exact", "--nocapture"],
            } },
            "extensions": { "queues": { "messageEncoding": "none", "maxPollingInterval": "00:00:00.1", "maxDequeueCount": 2 } },
        });
        let orders = json!({ "bindings": [queue("queueTrigger", "in", "msg", "in-queue"), queue("queue", "out", "out", "out-queue")] });
        let clock = json!({
            "bindings": [{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "0 0 0 1 1 *" }],
            "retry": { "strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:00.05" },
        });
        write_json(folder.path(), "host.json", &host);
        write_json(folder.path(), "orders/function.json", &orders);
        write_json(folder.path(), "clock/function.json", &clock);
        Self { folder, account: azurite::shared().await.unwrap().account().unwrap() }
    }

    fn options(&self) -> Options {
        let settings = BTreeMap::from([("AzureWebJobsStorage".to_owned(), self.account.connection_string())]);
        Options { app_root: self.folder.path().to_owned(), settings, ..Options::default() }
    }

    async fn start(&self) -> LocalHost {
        let host = LocalHost::start(self.options()).await.unwrap();
        host.ready().await.unwrap();
        host
    }
}

fn write_json(folder: &Path, name: &str, value: &Value) {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, value.to_string()).unwrap();
}

#[tokio::test]
async fn a_message_is_handled_and_deleted() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    rig.account.put("in-queue", "<hello & \"goodbye\">").await.unwrap();
    host.wait_for(|all| all.len() == 1, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let invocation = &host.invocations()[0];
    assert!(invocation.succeeded && invocation.dequeue_count == Some(1), "{invocation:?}");
    let body: Value = serde_json::from_str(invocation.return_value.as_ref().unwrap().as_str().unwrap()).unwrap();
    assert_eq!(body["Data"]["msg"], r#""<hello & \"goodbye\">""#);
    assert_eq!(invocation.logs, ["framing false"]);
    host.wait_for_line("Executed 'Functions.orders' (Succeeded, Id=", LIMIT).await.unwrap();
    host.stop().await;
}

#[tokio::test]
async fn the_body_can_be_chunked() {
    let rig = Rig::new().await;
    let host = LocalHost::start(Options { framing: Framing::Chunked, ..rig.options() }).await.unwrap();
    assert_eq!(host.deliver("orders", "x").await.unwrap().logs, ["framing true"]);
}

#[tokio::test]
async fn a_message_that_keeps_failing_is_poison() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    rig.account.put("in-queue", "do:fail").await.unwrap();
    host.wait_for(|all| all.len() == 2, LIMIT).await.unwrap();
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let invocations = host.invocations();
    assert_eq!(invocations.iter().map(|one| one.dequeue_count).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let expected = "System.Net.Http: Response status code does not indicate success: 500 (out of paper).";
    assert_eq!(invocations[1].failure.as_deref(), Some(expected));
    assert_eq!(rig.account.peek("in-queue-poison").await.unwrap()[0].text, "do:fail");
    host.wait_for_line("Message has reached MaxDequeueCount of 2.", LIMIT).await.unwrap();
}

#[tokio::test]
async fn an_output_is_rewritten_and_put_on_its_queue() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    assert!(host.deliver("orders", "do:output").await.unwrap().succeeded);
    let messages = rig.account.peek("out-queue").await.unwrap();
    assert_eq!(messages[0].text, "{\n  \"b\": 1.1,\n  \"a\": []\n}");
}

#[tokio::test]
async fn an_empty_answer_hangs_until_the_handler_is_killed() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    let pid = host.worker_pid();
    let start = Instant::now();
    let invocation = host.deliver("orders", "do:empty").await.unwrap();
    assert!(!invocation.succeeded && start.elapsed() >= Duration::from_secs(2), "{invocation:?}");
    host.ready().await.unwrap();
    assert!(host.worker_pid().is_some() && host.worker_pid() != pid);
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
}

#[tokio::test]
async fn the_third_crash_stops_the_host() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    for crash in 1..=3 {
        let pid = host.worker_pid();
        let invocation = host.deliver("orders", "do:exit003").await.unwrap();
        assert!(!invocation.succeeded && invocation.status.is_none(), "crash {crash}: {invocation:?}");
        assert_eq!(host.ready_again(pid).await.is_ok(), crash < 3, "crash {crash}");
    }
    let reason = "Exceeded http worker restart retry count. Shutting down Functions Host";
    assert_eq!(host.stopped().as_deref(), Some(reason));
    host.wait_for_line("exited with code 3 (0x3)", LIMIT).await.unwrap();
}

#[tokio::test]
async fn exit_code_200_is_a_restart_that_does_not_count() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    for _ in 0..4 {
        let pid = host.worker_pid();
        assert!(!host.deliver("orders", "do:exit200").await.unwrap().succeeded);
        host.ready_again(pid).await.unwrap();
    }
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
    assert_eq!(host.stopped(), None);
}

#[tokio::test]
async fn exit_code_0_is_ignored_or_restarts_by_version() {
    let rig = Rig::new().await;
    for (exit_zero, survives) in [(ExitZero::Ignored, false), (ExitZero::Restarts, true)] {
        let host = LocalHost::start(Options { exit_zero, ..rig.options() }).await.unwrap();
        host.ready().await.unwrap();
        let pid = host.worker_pid();
        host.deliver("orders", "do:exit000").await.unwrap();
        let noticed = tokio::time::timeout(Duration::from_millis(500), host.ready_again(pid)).await;
        assert_eq!(noticed.is_ok(), survives, "{exit_zero:?}");
        assert_eq!(host.deliver("orders", "x").await.unwrap().succeeded, survives, "{exit_zero:?}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_tick_retries_under_one_id_and_then_counts_as_done() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    host.fire_timer("clock").await.unwrap();
    let invocations = host.invocations();
    assert_eq!(invocations.iter().map(|one| one.attempt).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(invocations.iter().all(|one| one.id == invocations[0].id));
    host.wait_for_line("Function execution failed after '2' retries.", LIMIT).await.unwrap();
    let blob = "timers/localhost/Host.Functions.clock/status";
    let status = rig.account.read_blob("azure-webjobs-hosts", blob).await.unwrap().unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(!status["Last"].as_str().unwrap().starts_with("0001"), "{status}");
}

#[tokio::test]
async fn a_missed_tick_is_made_up_for_at_start() {
    let rig = Rig::new().await;
    let blob = "timers/localhost/Host.Functions.clock/status";
    let status = json!({ "Last": "2020-06-01T00:00:00+00:00", "Next": "2021-01-01T00:00:00+00:00", "LastUpdated": "2020-06-01T00:00:00+00:00" });
    rig.account.write_blob("azure-webjobs-hosts", blob, &status.to_string()).await.unwrap();
    let host = rig.start().await;
    host.wait_for(|all| all.len() == 3, LIMIT).await.unwrap();
    host.wait_for_line("Function 'clock' is past due on startup.", LIMIT).await.unwrap();
}

#[tokio::test]
async fn the_admin_endpoint_answers_at_once() {
    let rig = Rig::new().await;
    let host = LocalHost::start(Options { admin_port: Some(0), ..rig.options() }).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://127.0.0.1:{}/admin/functions", host.admin_port().unwrap());
    for (name, body, expected) in
        [("clock", r#"{"input":"x"}"#, 202), ("clock", "{}", 202), ("clock", "null", 400), ("nobody", "{}", 404)]
    {
        let response = client.post(format!("{base}/{name}")).body(body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{name} {body}");
    }
    let invocations = host.wait_for(|all| all.len() == 6, LIMIT).await.unwrap();
    assert_ne!(invocations[0].id, invocations[5].id);
}

#[tokio::test]
async fn a_killed_handler_comes_back_on_the_same_port() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    let (pid, port) = (host.worker_pid(), host.worker_port());
    host.kill_worker().unwrap();
    host.ready_again(pid).await.unwrap();
    host.wait_for_line("exited with code 137", LIMIT).await.unwrap();
    assert!(host.worker_pid() != pid && host.worker_port() == port);
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
}

#[tokio::test]
async fn the_proxy_counts_and_breaks_requests() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let proxy = FaultProxy::start(&account, Service::Queue).await.unwrap();
    let through = proxy.account(&account);
    through.create_queue("orders").await.unwrap();
    through.put("orders", "one").await.unwrap();
    assert_eq!(proxy.kinds(), [Kind::CreateQueue, Kind::PutMessage]);

    let busy = || Fault::Status(503, vec![("x-ms-error-code", "ServerBusy".to_owned())], String::new());
    proxy.fail_next(1, Kind::PutMessage, busy());
    assert_eq!(through.put("orders", "two").await.unwrap_err().status(), Some(503));
    through.put("orders", "two").await.unwrap();

    for (fault, applied) in
        [(Fault::Reset, false), (Fault::DropRequest, false), (Fault::Garbage, false), (Fault::DropReply, true)]
    {
        let before = account.queue_length("orders").await.unwrap();
        proxy.fail_all(fault.clone());
        assert_eq!(through.put("orders", "three").await.unwrap_err().status(), None, "{fault:?}");
        let after = account.queue_length("orders").await.unwrap();
        assert_eq!(after > before, applied, "{fault:?}");
    }

    proxy.lift();
    proxy.close();
    assert!(through.put("orders", "four").await.is_err());
    proxy.open().await.unwrap();
    through.put("orders", "four").await.unwrap();
}

#[tokio::test]
async fn the_storage_client_speaks_to_the_real_thing() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());
    account.create_table("orders").await.unwrap();
    let Value::Object(mut row) = json!({ "PartitionKey": "a~1", "RowKey": "it's", "size": 1 }) else { panic!() };
    account.insert_row("orders", &row).await.unwrap();
    row.insert("size".to_owned(), json!(2));
    account.merge_row("orders", &row).await.unwrap();
    assert_eq!(account.rows("orders").await.unwrap()[0]["size"], 2);
    account.delete_row("orders", &row).await.unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());

    for text in [" \t{\"a\":\"<&>'\"}\n ", "line\r\nline\r", "Zoë 🦀", ""] {
        account.put("exact", text).await.unwrap();
        let mut message = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!(message.text, text);
        assert_eq!((account.peek("exact").await.unwrap().len(), account.queue_length("exact").await.unwrap()), (0, 1));
        account.update_visibility("exact", &mut message, Duration::ZERO).await.unwrap();
        let again = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!((again.id.as_str(), again.dequeue_count), (message.id.as_str(), 2));
        account.delete("exact", &again).await.unwrap();
    }
}
