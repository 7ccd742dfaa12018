//! Hostile input at the handler's port: no panic, no exit, no hang, bounded memory, and the next invocation works.
//!
//! In Azure only the host can reach that port; on a developer's machine every process can. `HOSTILE_REQUESTS=100000
//! cargo test --test e2e hostile` goes on for longer.

mod connections;

use crate::{
    app::{App, LIMIT, QUEUE, text},
    host::local_only,
};
use connections::{Connection, connections, from_the_host, request};
use futures::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::{io::ErrorKind, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Connections at once, in the tests about many.
const CONNECTIONS: usize = 64;
/// The handler reads bodies up to this.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// The memory of an idle handler in a debug build, in bytes, with as much again to spare.
const IDLE: usize = 32 * 1024 * 1024;

impl Connection {
    /// Sends everything and reads until the handler has closed its side.
    async fn send(&self, app: &App) -> Result<Vec<u8>, String> {
        let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port()))
            .await
            .map_err(|error| error.to_string())?;
        socket.set_nodelay(true).unwrap();
        for piece in self.bytes.chunks(self.piece).take(200) {
            // The handler may well close before it has seen everything.
            if socket.write_all(piece).await.is_err() {
                break;
            }
        }
        if self.is_cut {
            return Ok(Vec::new());
        }
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        match timeout(LIMIT, socket.read_to_end(&mut answer)).await {
            Err(_) => Err("the connection stays open though nothing more can come".to_owned()),
            Ok(Err(error)) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Err(error.to_string())
            }
            Ok(_) => Ok(answer),
        }
    }
}

/// Sends an invocation of the right kind, and checks that the answer is right.
async fn invoke(app: &App, id: &str) -> Result<(), String> {
    let body = from_the_host(&format!(r#"{{"id":"{id}"}}"#));
    let head = format!("connection: close\r\ncontent-length: {}\r\n", body.len());
    let bytes = request(QUEUE, &head, body.as_bytes());
    let answer = Connection { bytes, piece: usize::MAX, is_cut: false }.send(app).await?;
    let answer = String::from_utf8_lossy(&answer);
    let is_good = answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#"\"status\":\"accepted\""#);
    if is_good { Ok(()) } else { Err(format!("a good invocation is answered {answer:?}")) }
}

/// Returns the status of each answer; the next answer follows the body of the one before without a line break.
fn statuses(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer.chars().take(3).collect()).collect()
}

/// Returns the most memory that the process has used so far, in bytes, where the system tells.
fn peak_memory(pid: i32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024)
}

/// Checks that it lives, that nothing in it panicked, and that it has not used more memory than `limit`.
fn check_alive(app: &App, pid: i32, limit: usize) {
    assert_eq!(app.host.local().worker_pid(), Some(pid), "the process has ended");
    assert!(app.lines_with("panicked").is_empty(), "{:?}", app.lines_with("panicked"));
    if let Some(peak) = peak_memory(pid) {
        println!("peak memory {} KiB of {} KiB", peak / 1_024, limit / 1_024);
        assert!(peak < limit, "{peak} bytes of memory");
    }
}

#[test]
fn no_bytes_make_it_panic_exit_or_hang() {
    local_only!("it speaks to the handler's port");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app = runtime.block_on(App::start());
    let pid = app.host.local().worker_pid().unwrap();
    let cases = std::env::var("HOSTILE_REQUESTS").ok().map_or(400, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let (seen, n) = (std::cell::RefCell::new(std::collections::BTreeMap::new()), std::cell::Cell::new(0));
    let result = TestRunner::new(config).run(&connections(), |connection| {
        n.set(n.get() + 1);
        let statuses: Result<_, String> = runtime.block_on(async {
            let answer = connection.send(&app).await?;
            invoke(&app, &format!("good-{}", n.get())).await?;
            Ok(statuses(&answer))
        });
        for status in statuses.map_err(TestCaseError::fail)? {
            prop_assert!(
                ["100", "200", "400", "404", "408", "413", "431", "500"].contains(&status.as_str()),
                "answered {status}"
            );
            *seen.borrow_mut().entry(status).or_insert(0) += 1;
        }
        Ok(())
    });
    println!("{} connections, answered {:?}", n.get(), seen.borrow());
    result.unwrap();
    check_alive(&app, pid, IDLE + 4 * MAX_BODY);
    for status in ["200", "400", "404", "500"] {
        assert!(seen.borrow().contains_key(status), "no connection was answered {status}");
    }
    let records = runtime.block_on(app.receipts()).iter().filter(|receipt| receipt.contains("good-")).count();
    assert_eq!(records, n.get(), "each good invocation took effect");
    let keys: Vec<_> = runtime.block_on(app.rows()).iter().map(|row| text(row, "RowKey")).collect();
    let known = |key: &String| key.starts_with("record~") || key.starts_with("outbox~");
    assert!(keys.iter().all(known), "something else is left in the table: {keys:?}");
    assert_eq!(runtime.block_on(app.account.queue_length("orders")).unwrap(), 0, "something was put on the queue");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let body = from_the_host(r#"{"id":"order-123"}"#);
    let head = format!("expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    let bytes = request(QUEUE, &head, body.as_bytes());
    let answer = Connection { bytes, piece: usize::MAX, is_cut: false }.send(&app).await.unwrap();
    assert_eq!(statuses(&answer), ["100", "200"]);
}

/// The server begins to read the next request while the invocation runs.
#[tokio::test]
async fn a_large_body_behind_an_invocation_is_read_where_nobody_wants_it() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let body = from_the_host(r#"{"id":"order-123"}"#);
    let invocation = request(QUEUE, &format!("content-length: {}\r\n", body.len()), body.as_bytes());
    let nothing = [b"40000\r\n".as_slice(), &[b'x'; 0x40000], b"\r\n0\r\n\r\n"].concat();
    for line in ["POST /nothing_of_this_name", "POST /", "GET /", "PUT /queue_with_idempotency"] {
        let head = format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..20 {
            let bytes = [&invocation, head.as_bytes(), &nothing].concat();
            let answer = Connection { bytes, piece: 4_096, is_cut: false }.send(&app).await.expect(line);
            let expected = if line == "GET /" { "200" } else { "404" };
            assert_eq!(statuses(&answer), ["200", expected], "{line}");
        }
    }
    assert_eq!(app.receipts().await.len(), 1, "one order, however often it came");
}

#[tokio::test]
async fn bodies_without_end_cost_no_more_than_the_limit_of_a_body_each() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let pid = app.host.local().worker_pid().unwrap();
    for _ in 0..3 {
        join_all((0..CONNECTIONS).map(|_| flood(&app))).await;
    }
    invoke(&app, "order-123").await.unwrap();
    check_alive(&app, pid, IDLE + CONNECTIONS * MAX_BODY * 3 / 2);
}

/// Sends a body that goes on and on, until it is answered.
async fn flood(app: &App) {
    let socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let send = async {
        writer.write_all(&request(QUEUE, "transfer-encoding: chunked\r\n", b"")).await.unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'['; 0x10000], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 8 * MAX_BODY && writer.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        // The answer may be on its way all the same.
        std::future::pending::<()>().await;
    };
    let mut answer = [0; 1_024];
    tokio::select! {
        () = send => unreachable!("it never ends"),
        read = timeout(LIMIT, reader.read(&mut answer)) => match read.expect("no answer, and no end") {
            // The writer was told of the reset first.
            Ok(0) => {}
            Ok(length) => assert_eq!(statuses(&answer[..length]), ["500"]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn clients_that_are_slow_or_never_finish_hold_nobody_up() {
    local_only!("it speaks to the handler's port");
    let app = App::start().await;
    let pid = app.host.local().worker_pid().unwrap();
    let port = app.host.local().worker_port();
    let body = from_the_host(r#"{"id":"slow"}"#);
    let slow = (0..CONNECTIONS * 4).map(|n| {
        let bytes = request(QUEUE, &format!("content-length: {}\r\n", body.len()), body.as_bytes());
        async move {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // Byte by byte: some stop in the head, the others in the body.
            for byte in &bytes[..bytes.len() * (n % 8 + 1) / 9] {
                socket.write_all(&[*byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            std::future::pending::<()>().await;
        }
    });
    let good = async {
        for n in 0..30 {
            invoke(&app, &format!("order-{n}")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = join_all(slow) => unreachable!("they never finish"),
        () = good => {}
    }
    check_alive(&app, pid, IDLE);
    assert_eq!(app.receipts().await.len(), 30, "and nothing that did not arrive whole took effect");
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up_before_the_host_gives_up_the_process() {
    local_only!("it speaks to the handler's port");
    let app = App::start_with(&[("AzureFunctionsJobHost__functionTimeout", "00:00:20")]).await;
    let pid = app.host.local().worker_pid().unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", app.host.local().worker_port())).await.unwrap();
    socket.write_all(&request(QUEUE, "content-length: 1000\r\n", b"{\"Data\":")).await.unwrap();
    let mut answer = [0; 1_024];
    let length = timeout(LIMIT, socket.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 500 Not finished in time\r\n"), "{answer}");
    invoke(&app, "order-123").await.unwrap();
    check_alive(&app, pid, IDLE);
}
