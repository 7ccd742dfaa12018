//! The handler of these tests: this very test binary, started again by the local host.
//!
//! It does what a script in its working directory says, and writes down every request as it came, so that a test can
//! look at the bytes. On plain sockets, because nothing between it and the host may be polite.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::parent_id,
    process::{self, exit},
    sync::Mutex,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::SockRef;

use crate::recording::{REQUESTS, Request, STARTS, Start, record, recorded};

/// The path of this module's test, as the test harness knows it.
pub(crate) const TEST: &str = "handler::run";
pub(crate) const STARTUP: &str = "startup.json";
/// Written when a polite signal arrives.
pub(crate) const SIGNALLED: &str = "signalled";

/// Written when the host closes the connection of an invocation that hangs.
pub(crate) const DISCONNECTED: &str = "disconnected";

/// The start of the handler.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) enum Startup {
    #[default]
    Listen,
    /// Runs, but never listens.
    Deaf,
    /// Listens, but never answers a probe.
    Mute,
    Exit(i32),
    /// Listens as soon as there is a file of this name.
    After(String),
    /// Answers the probe with these bytes.
    Probe(Vec<u8>),
    /// Resets the connection of a probe.
    Reset,
    /// Prints lines on stdout and on stderr, then listens.
    Print(Vec<String>, Vec<String>),
}

/// The answer of the handler to an invocation.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) enum Step {
    #[default]
    Succeed,
    /// 500, with a body that would write outputs and logs if it counted.
    Fail,
    /// These bytes.
    Answer(Vec<u8>),
    /// These bytes, and the end of the connection.
    BreakOff(Vec<u8>),
    /// A line on stdout and one on stderr, then success.
    Print(Option<String>, Option<String>),
    /// A line on stderr, and the end of the process.
    Exit(String, i32),
    /// No answer, and no end.
    Hang,
    /// Success as soon as there is a file of this name.
    After(String),
    /// Failure as soon as there is a file of this name.
    FailAfter(String),
}

/// Runs the handler. It is not a test: see the module.
#[test]
fn run() {
    let Ok(port) = env::var("FUNCTIONS_CUSTOMHANDLER_PORT") else { return };
    end_with_the_host();
    report_signals();
    let folder = env::current_dir().unwrap().display().to_string();
    record(STARTS, &Start { process: process::id(), folder, environment: env::vars().collect() });
    let startup = read(STARTUP);
    match &startup {
        Startup::Deaf => wait_for("never"),
        Startup::Exit(code) => exit(*code),
        Startup::After(file) => wait_for(file),
        Startup::Print(stdout, stderr) => {
            stdout.iter().for_each(|line| println!("{line}"));
            stderr.iter().for_each(|line| eprintln!("{line}"));
        }
        Startup::Listen | Startup::Mute | Startup::Probe(_) | Startup::Reset => {}
    }
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let startup = startup.clone();
        thread::spawn(move || while answer(stream.as_ref().unwrap(), &startup) {});
    }
}

/// Ends the process when its host is gone, however the tests end.
fn end_with_the_host() {
    let parent = parent_id();
    thread::spawn(move || {
        while parent_id() == parent {
            thread::sleep(Duration::from_millis(200));
        }
        exit(1)
    });
}

fn report_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).unwrap(), signal(SignalKind::terminate()).unwrap())
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        fs::write(SIGNALLED, "").unwrap();
    });
}

/// Serves one request; false when the connection has ended.
fn answer(stream: &TcpStream, startup: &Startup) -> bool {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { read_chunks(&mut reader) } else { read_sized(&mut reader, &head) };
    let request = Request { head, body };
    match (request.path(), startup) {
        ("/", Startup::Reset) => {
            record(REQUESTS, &request);
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            false
        }
        ("/", Startup::Mute) => {
            record(REQUESTS, &request);
            wait_for("never");
            false
        }
        ("/", Startup::Probe(bytes)) => {
            record(REQUESTS, &request);
            write(stream, bytes);
            false
        }
        ("/", _) => {
            record(REQUESTS, &request);
            write(stream, &succeed("{}"))
        }
        _ => invoke(stream, &request),
    }
}

fn invoke(mut stream: &TcpStream, request: &Request) -> bool {
    match next_step(request) {
        Step::Succeed => write(stream, &succeed("{}")),
        Step::Fail => write(stream, &fail()),
        Step::Answer(bytes) => write(stream, &bytes),
        Step::BreakOff(bytes) => {
            write(stream, &bytes);
            false
        }
        Step::Print(out, err) => {
            out.iter().for_each(|line| println!("{line}"));
            err.iter().for_each(|line| eprintln!("{line}"));
            write(stream, &succeed("{}"))
        }
        Step::Exit(last_words, code) => {
            eprintln!("{last_words}");
            exit(code)
        }
        Step::Hang => {
            if matches!(stream.read(&mut [0]), Ok(0)) {
                fs::write(DISCONNECTED, "").unwrap();
            }
            wait_for("never");
            false
        }
        Step::After(file) => {
            wait_for(&file);
            write(stream, &succeed("{}"))
        }
        Step::FailAfter(file) => {
            wait_for(&file);
            write(stream, &fail())
        }
    }
}

/// Returns the step for the n-th request to a function, whichever process it comes to; the last step is repeated.
fn next_step(request: &Request) -> Step {
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _guard = ONE_BY_ONE.lock().unwrap();
    let earlier = recorded::<Request>(REQUESTS).iter().filter(|earlier| earlier.path() == request.path()).count();
    record(REQUESTS, request);
    let steps: Vec<Step> = read(&script(request.path()));
    steps.get(earlier.min(steps.len().saturating_sub(1))).cloned().unwrap_or_default()
}

/// Names the file with the steps of a function.
pub(crate) fn script(function: &str) -> String {
    format!("{}.script.json", function.trim_start_matches('/'))
}

/// Composes a good answer, complete.
pub(crate) fn succeed(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn fail() -> Vec<u8> {
    let body = r#"{"Outputs":{"out":"discarded"},"Logs":["discarded"]}"#;
    let head = "HTTP/1.1 500 out of paper\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn write(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

fn wait_for(file: &str) {
    while !fs::exists(file).unwrap_or(false) {
        thread::sleep(Duration::from_millis(10));
    }
}

fn read<T: Default + for<'a> Deserialize<'a>>(file: &str) -> T {
    fs::read_to_string(file).map_or_else(|_| T::default(), |text| serde_json::from_str(&text).unwrap())
}

fn read_sized(reader: &mut impl Read, head: &str) -> String {
    let length = head.to_ascii_lowercase();
    let length =
        length.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn read_chunks(reader: &mut impl BufRead) -> String {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return String::from_utf8(body).unwrap();
        }
    }
}
