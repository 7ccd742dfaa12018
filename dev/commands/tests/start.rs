//! `cargo start` as a process of its own: what it prints, and what it leaves behind.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]
#![allow(dead_code, reason = "these tests need only some of what the tests of the local host share with them")]

#[path = "../../local-host/tests/host/handler.rs"]
mod handler;
#[path = "../../local-host/tests/host/recording.rs"]
mod recording;
#[path = "../../local-host/tests/host/rig.rs"]
mod rig;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use serde_json::json;
use test_storage::{Account, Service};

use crate::{
    handler::{Startup, Step, succeed},
    rig::{Rig, until},
};

/// A running `cargo start`, at the head of a process group as a shell would have it.
struct Running {
    rig: Rig,
    child: Child,
    output: PathBuf,
}

impl Running {
    async fn new(rig: Rig) -> Self {
        // As an editor on Windows and a Mac leave them, with a queue that only the shell names.
        let settings = "\u{feff}{\r\n  // mine\r\n  \"IsEncrypted\": false,\r\n  \"Values\": { \"AzureWebJobsStorage\": \"-\", },\r\n}\r\n";
        let settings: Vec<u8> = settings.encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(rig.path().join("local.settings.json"), settings).unwrap();
        fs::write(rig.path().join("orders/.DS_Store"), "").unwrap();
        rig.set("orders/function.json", "/bindings/0/queueName", json!("%Orders:Queue%"));
        let output = rig.path().join("output");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dev"));
        command.args(["start", "--free-ports", "--app"]).arg(rig.path());
        command.envs([("ORDERS__QUEUE", "in-queue"), ("AzureFunctionsJobHost__concurrency__x", "1")]);
        command.stdin(Stdio::null()).stdout(fs::File::create(&output).unwrap()).stderr(Stdio::inherit());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let running = Self { child: command.spawn().unwrap(), rig, output };
        running.prints("Worker process started and initialized.").await;
        running
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.output).unwrap().lines().map(str::to_owned).collect()
    }

    async fn prints(&self, text: &str) {
        until(text, async || self.lines().iter().any(|line| line.contains(text))).await;
    }

    fn account(&self) -> Account {
        let lines = self.lines();
        let text = lines.iter().find(|line| line.contains("AccountName=")).unwrap();
        Account::from_connection_string(text.trim()).unwrap()
    }

    /// Returns every port that something of this run listens on.
    fn ports(&self) -> Vec<u16> {
        let account = self.account();
        let port = |service| account.endpoint(service).rsplit([':', '/']).find_map(|part| part.parse().ok()).unwrap();
        let handler = self.rig.starts()[0].environment["FUNCTIONS_CUSTOMHANDLER_PORT"].parse().unwrap();
        let lines = self.lines();
        let endpoint = lines.iter().find_map(|line| line.strip_prefix("Endpoint:  http://localhost:")).unwrap();
        let admin = endpoint.split('/').next().unwrap().parse().unwrap();
        vec![port(Service::Blob), port(Service::Queue), port(Service::Table), handler, admin]
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    async fn ended(&mut self) -> ExitStatus {
        for _ in 0..1_800 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still running: {:#?}", self.lines());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // When a test has failed; a second time does no harm, since nobody else has waited for this child.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Says whether a process with one of these ports on its command line is left, where the system can tell.
fn is_left(ports: &[u16]) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let arguments: Vec<String> = ports.iter().map(u16::to_string).collect();
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| {
        line.contains("azurite") && line.split('\0').any(|argument| arguments.iter().any(|port| port == argument))
    })
}

/// Returns the line without the time in front, if there is one as the host prints it.
fn timed(line: &str) -> Option<&str> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    let shape: String = time.chars().map(|each| if each.is_ascii_digit() { '0' } else { each }).collect();
    (shape == "0000-00-00T00:00:00.000Z").then_some(text)
}

#[tokio::test]
async fn the_console_reads_as_under_core_tools_and_ctrl_c_leaves_no_process_behind() {
    let rig = Rig::new().await;
    rig.startup(&Startup::Print(vec!["a line of the handler".to_owned()], Vec::new()));
    rig.script("orders", &[Step::Answer(succeed(r#"{"Logs":["a line of the function"]}"#)), Step::Fail, Step::Succeed]);
    let mut running = Running::new(rig).await;
    let account = running.account();
    for number in 1..=2 {
        account.put("in-queue", &format!("order {number}")).await.unwrap();
        let executed = format!("Executed 'Functions.orders' ({}, Id=", ["Succeeded", "Failed"][number - 1]);
        running.prints(&executed).await;
    }
    running.prints("System.Net.Http:").await;
    let lines = running.lines();

    let not_imitated = "host.json: 'concurrency.x' is not imitated by the local host";
    assert!(lines.iter().any(|line| line.ends_with(not_imitated)), "{lines:#?}");
    let functions = lines.iter().position(|line| line == "Functions:").unwrap();
    let listed: Vec<_> = lines[functions + 1..].iter().filter(|line| line.starts_with('\t')).take(2).collect();
    assert_eq!(listed, ["\tclock: timerTrigger", "\torders: queueTrigger"]);
    let host_lines: Vec<&str> = lines.iter().filter_map(|line| timed(line)).collect();
    assert!(host_lines.contains(&"a line of the handler"), "{lines:#?}");

    let executing = host_lines.iter().position(|line| line.starts_with("Executing 'Functions.orders'")).unwrap();
    let id = host_lines[executing].rsplit_once("Id=").unwrap().1.trim_end_matches(')');
    let start = format!("Executing 'Functions.orders' (Reason='New queue message detected on 'in-queue'.', Id={id})");
    assert_eq!(host_lines[executing], start);
    let details = host_lines[executing + 1];
    assert!(details.starts_with("Trigger Details: MessageId: "), "{details}");
    assert!(details.contains(", DequeueCount: 1, InsertedOn: 20") && details.ends_with("+00:00"), "{details}");
    assert_eq!(host_lines[executing + 2], "a line of the function");
    let executed = host_lines[executing + 3];
    assert!(executed.starts_with(&format!("Executed 'Functions.orders' (Succeeded, Id={id}, Duration=")), "{executed}");
    assert!(executed.ends_with("ms)"), "{executed}");
    let failed = host_lines.iter().position(|line| line.starts_with("Executed 'Functions.orders' (Failed")).unwrap();
    let cause = "System.Net.Http: Response status code does not indicate success: 500 (out of paper).";
    let expected = format!("System.Private.CoreLib: Exception while executing function: Functions.orders. {cause}");
    assert_eq!(host_lines[failed + 1], expected);

    let ports = running.ports();
    let handler = Pid::from_raw(i32::try_from(running.rig.starts()[0].process).unwrap()).unwrap();
    assert!(ports.iter().all(|port| is_open(*port)) && test_kill_process(handler).is_ok());
    // As a terminal does it: to the whole group.
    kill_process_group(running.id(), Signal::INT).unwrap();
    assert!(running.ended().await.success());
    assert!(!ports.iter().any(|port| is_open(*port)), "{ports:?}");
    assert!(test_kill_process(handler).is_err() && !is_left(&ports));
}

#[tokio::test]
async fn even_when_it_is_killed_itself_storage_and_handler_end() {
    let mut running = Running::new(Rig::new().await).await;
    let ports = running.ports();
    assert!(ports.iter().all(|port| is_open(*port)));
    kill_process(running.id(), Signal::KILL).unwrap();
    running.ended().await;
    until("the end of all", async || !ports.iter().any(|port| is_open(*port)) && !is_left(&ports)).await;
}

#[tokio::test]
async fn a_start_that_fails_names_the_cause_and_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let values = json!({ "AzureWebJobsStorage": "UseDevelopmentStorage=true" });
    let chosen = json!({ "IsEncrypted": false, "Host": { "LocalHttpPort": taken }, "Values": values }).to_string();
    for (name, settings) in [("app", r#"{ "IsEncrypted": false }"#), ("chosen", &chosen), ("broken", "{")] {
        fs::create_dir(path(name)).unwrap();
        fs::write(folder.path().join(name).join("local.settings.json"), settings).unwrap();
    }
    fs::create_dir_all(path("empty")).unwrap();
    let func = folder.path().join("func");
    fs::write(&func, "#!/bin/sh\necho func v1.15.0\n").unwrap();
    fs::set_permissions(&func, PermissionsExt::from_mode(0o755)).unwrap();
    let port = taken.to_string();
    let [app, empty, chosen, broken] = ["app", "empty", "chosen", "broken"].map(path);
    let cases: [(&[&str], &str, &[&str]); 8] = [
        (&["--app", "/nowhere/app"], "", &["--app /nowhere/app"]),
        (&["--free-ports", "--app", &empty], "", &["local.settings.json is missing", "UseDevelopmentStorage=true"]),
        (&["--free-ports", "--app", &broken], "", &["broken/local.settings.json is not JSON"]),
        (&["--free-ports", "--app", &app], "", &["cannot read", "app/host.json"]),
        (&["--app", &app, "--port", &port], "", &["is taken", "--port", "Host.LocalHttpPort", "--free-ports"]),
        (&["--app", &chosen], "", &["is taken"]),
        (&["--app", &app, "--port", "1", "--host", "core-tools"], "", &["no `func` on PATH", "--host local"]),
        (
            &["--app", &app, "--port", "1", "--host", "core-tools"],
            &folder.path().display().to_string(),
            &["is not Core Tools 4", "says 'func v1.15.0'", "--host local"],
        ),
    ];
    for (arguments, func, expected) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dev"));
        let others = std::env::var("PATH").unwrap();
        let others = std::env::split_paths(&others).filter(|folder| !folder.join("func").exists());
        let search = std::env::join_paths([PathBuf::from(func)].into_iter().chain(others)).unwrap();
        let output = command.arg("start").args(arguments).env("PATH", search).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && expected.iter().all(|text| said.contains(text)), "{arguments:?}: {said}");
    }
}
