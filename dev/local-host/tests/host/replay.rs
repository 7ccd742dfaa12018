//! The records of the real Functions host, replayed: of the same files, messages and answers the same must come.
//!
//! `../records` has what host 4.1037.0 did with Storage Queues extension 5.3.10 and timers extension 5.1 over Azurite
//! 3.37 on Linux. Bodies are compared byte for byte, except what differs each time; lines by their sense. Its stops,
//! kills and timeouts are replayed where the triggers and the process are tested.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, stream};
use local_host::{Framing, LocalHost, Options, console::Level};
use serde_json::{Value, json};

use crate::{
    handler::{self, Step, succeed},
    recording::Request,
    rig::{LIMIT, Rig, stopped, until},
};

/// The number of apps that run side by side.
const AT_ONCE: usize = 6;

fn read(record: &str) -> Value {
    serde_json::from_str(record).unwrap()
}

fn cases(record: &Value) -> &[Value] {
    record["cases"].as_array().unwrap()
}

/// Replaces `@48000 x@` by so many letters.
fn expand(text: &Value) -> String {
    let text = text.as_str().unwrap();
    let parts = text.split_once(" x@").and_then(|(before, after)| Some((before.rsplit_once('@')?, after)));
    let Some(((before, count), after)) = parts else { return text.to_owned() };
    before.to_owned() + &"x".repeat(count.parse().unwrap()) + after
}

/// Fills in what differs each time, as it came.
fn fill(text: &str, request: &Request) -> String {
    let body = request.json();
    let (metadata, status) = (&body["Metadata"], &body["Data"]["timer"]["ScheduleStatus"]);
    let mut text = text.to_owned();
    for name in ["ExpirationTime", "InsertionTime", "NextVisibleTime", "Id", "PopReceipt"] {
        text = text.replace(&format!("@{name}@"), &metadata[name].to_string());
    }
    for (name, value) in
        [("UtcNow", &metadata["sys"]), ("RandGuid", &metadata["sys"]), ("Next", status), ("LastUpdated", status)]
    {
        text = text.replace(&format!("@{name}@"), &value[name].to_string());
    }
    text
}

#[tokio::test]
async fn every_message_is_sent_and_every_output_is_written() {
    let record = read(include_str!("../records/orders.json"));
    let rig = Rig::new().await;
    let binding = |kind: &str, direction: &str, name: &str, queue: &str| json!({ "type": kind, "direction": direction, "name": name, "queueName": queue });
    let bindings = [binding("queueTrigger", "in", "msg", "sent"), binding("queue", "out", "quarantine", "quarantined")];
    rig.write("queue_with_idempotency/function.json", &json!({ "bindings": bindings }));
    let answers = cases(&record).iter().map(|case| Step::Answer(succeed(case["answer"].as_str().unwrap())));
    rig.script("queue_with_idempotency", &answers.collect::<Vec<_>>());
    let host = LocalHost::start(Options { framing: Framing::Chunked, ..rig.options() }).await.unwrap();
    for (index, case) in cases(&record).iter().enumerate() {
        rig.account.put("sent", &expand(&case["sent"])).await.unwrap();
        host.poll_now();
        let invocations = host.wait_for(|all| all.len() > index, LIMIT).await.unwrap();
        host.drain(&rig.account, "sent", LIMIT).await.unwrap();
        assert!(invocations.len() == index + 1 && invocations[index].succeeded, "{case}");
        let request = &rig.requests("queue_with_idempotency")[index];
        match fill(&expand(&case["body"]), request).strip_suffix('…') {
            Some(start) => assert!(request.body.starts_with(start), "{case}"),
            None => assert_eq!(request.body, fill(&expand(&case["body"]), request), "{case}"),
        }
        for (name, value) in request.headers() {
            let expected = record["about"]["headers"][name.to_lowercase()].as_str().unwrap();
            assert!(expected == "@" || expected == value, "{name}: {value}");
        }
        assert_eq!(json!(rig.texts("quarantined").await), case["quarantine"], "{case}");
        if case["quarantine"] != json!([]) {
            rig.account.clear_queue("quarantined").await.unwrap();
        }
    }
    assert!(rig.texts("sent-poison").await.is_empty());
}

/// Returns the handler's step for an answer of the record.
fn step(reply: &Value) -> Step {
    let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
    if let Some(code) = reply["exit"].as_i64() {
        return Step::Exit(String::new(), i32::try_from(code).unwrap());
    }
    if reply["hangup"] == true {
        return Step::BreakOff(Vec::new());
    }
    if reply.get("out").or(reply.get("err")).is_some() {
        return Step::Print(reply["out"].as_str().map(str::to_owned), reply["err"].as_str().map(str::to_owned));
    }
    if reply.get("delay").is_some() {
        return Step::After("open".to_owned());
    }
    let mut body = reply["body"].as_str().unwrap_or(r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#).to_owned();
    if let Some(size) = reply["big"].as_u64() {
        let value = STANDARD.encode("x".repeat(usize::try_from(size).unwrap()));
        body = json!({ "Outputs": { "out": value } }).to_string();
    }
    let content_type = match reply.get("type") {
        None => "Content-Type: application/json\r\n".to_owned(),
        Some(Value::Null) => String::new(),
        Some(_) => format!("Content-Type: {}\r\n", text("type")),
    };
    let head = format!("HTTP/1.1 {} {}", reply["status"].as_u64().unwrap_or(200), text("reason"));
    Step::Answer(format!("{head}\r\n{content_type}Content-Length: {}\r\n\r\n{body}", body.len()).into())
}

async fn replay_answer(case: &Value) {
    let rig = Rig::new().await;
    rig.set("host.json", "/extensions/queues/maxDequeueCount", json!(3));
    rig.script("orders", &[step(&case["reply"])]);
    if ["200 without a body", "204", "200 null"].contains(&case["case"].as_str().unwrap()) {
        rig.set("host.json", "/functionTimeout", json!("00:00:02"));
    }
    let host = rig.start().await;
    rig.account.put("in-queue", "a message").await.unwrap();
    let deliveries = usize::try_from(case["deliveries"].as_u64().unwrap()).unwrap();
    rig.called("orders", 1).await;
    rig.release("open");
    let context = |error: anyhow::Error| panic!("{case}: {error:#}");
    host.wait_for(|all| all.len() >= deliveries, LIMIT).await.unwrap_or_else(context);
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    assert_eq!(host.invocations().len(), deliveries, "{case}");
    assert_eq!(rig.texts("in-queue-poison").await.len() as u64, case["poison"].as_u64().unwrap(), "{case}");
    let expected: Vec<_> = case["out"].as_array().unwrap().iter().map(expand).collect();
    assert_eq!(rig.texts("out-queue").await, expected, "{case}");
    check_lines(case, &host).await;
    if case["case"] == "exit 1" {
        // The third crash ends the host, and the next message stays.
        stopped(&host).await;
        rig.account.put("in-queue", "another").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((rig.account.queue_length("in-queue").await.unwrap(), rig.starts().len()), (1, 3));
    }
}

async fn check_lines(case: &Value, host: &LocalHost) {
    for line in case["fails_with"].as_array().into_iter().flatten() {
        host.wait_for_line(line.as_str().unwrap(), LIMIT).await.unwrap();
    }
    let said: Vec<_> = case["said"].as_array().into_iter().flatten().collect();
    for line in &said {
        let level = match line[0].as_str().unwrap() {
            "info" => Level::Information,
            "warn" => Level::Warning,
            _ => Level::Error,
        };
        let times = said.iter().filter(|other| *other == line).count();
        let is_it = |line: &local_host::console::Line, text: &Value| line.level == level && text == line.text.as_str();
        until("the line", async || {
            let lines = host.lines();
            let begin = lines.iter().position(|line| line.text.starts_with("Executing 'Functions.orders'")).unwrap();
            lines[begin..].iter().filter(|found| is_it(found, &line[1])).count() == times
        })
        .await;
    }
}

#[tokio::test]
async fn every_answer_has_its_effect() {
    let record = read(include_str!("../records/answers.json"));
    stream::iter(cases(&record)).map(replay_answer).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// What the local host does otherwise with these files, and why.
const OTHERWISE: [(&str, &str); 3] = [
    ("dataType binary", "refused, since no function here takes bytes"),
    ("bundle of a version not there", "comes up, since it has its extensions built in"),
    ("connection string without queue endpoint", "comes up, but the emulator of the tests is on other ports"),
];

/// Writes the files of a case, with the handler of these tests as their executable.
fn write_files(rig: &Rig, plain: &Value, case: &Value) {
    fs::remove_dir_all(rig.path().join("orders")).unwrap();
    fs::remove_dir_all(rig.path().join("clock")).unwrap();
    let program = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\nexec '{}' {} --exact --nocapture\n", program.display(), handler::TEST);
    let write = |name: &str, text: &str| {
        let file = rig.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    };
    // Copied by another process: were it written by this one, a process that another test starts at that moment would
    // have it open too, and a file that is open for writing cannot be run.
    let install = |name: &str, mode: u32| {
        let source = write(&format!("{name}.source"), &script);
        fs::set_permissions(&source, fs::Permissions::from_mode(mode)).unwrap();
        assert!(Command::new("cp").arg("-p").arg(source).arg(rig.path().join(name)).status().unwrap().success());
    };
    install("handler", 0o755);
    let members =
        |value: &'static str, of: &Value| of.get(value).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, text) in plain.as_object().unwrap().clone().into_iter().chain(members("files", case)) {
        write(&name, text.as_str().unwrap());
    }
    for (name, executable) in members("executables", case) {
        install(&name, if executable == 1 { 0o755 } else { 0o644 });
    }
}

async fn replay_files((plain, case): (&Value, &Value)) {
    let rig = Rig::new().await;
    write_files(&rig, plain, case);
    rig.account.put("probe", "a message").await.unwrap();
    let mut options = rig.options();
    for (name, value) in case["settings"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().replace("CONN", &rig.account.connection_string());
        options.settings.insert(name.clone(), value);
    }
    let started = LocalHost::start(options).await;
    let Ok(host) = started else {
        let error = format!("{:#}", started.unwrap_err()).to_lowercase();
        // Where no function is left, the real host runs on without any.
        let none_left = case["queue_calls"] == 0 && error.contains("no job functions found");
        assert!(case["comes_up"] == false || none_left, "{case}: {error}");
        return assert!(error.contains(case["says"].as_str().unwrap_or_default()), "{case}: {error}");
    };
    let says = |text: &str| host.lines().iter().any(|line| line.text.to_lowercase().contains(text));
    until("a start, or none", async || says("started and initialized") || says("failed to start worker channel")).await;
    assert_eq!(says("started and initialized"), case["comes_up"] == true, "{case}: {:#?}", host.lines());
    assert!(says(case["says"].as_str().unwrap_or_default()), "{case}: {:#?}", host.lines());
    for (function, calls) in [("probe_queue", &case["queue_calls"]), ("probe_timer", &case["timer_calls"])] {
        if *calls == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(rig.requests(function).is_empty(), "{case}");
        } else {
            rig.called(function, 1).await;
        }
    }
}

#[tokio::test]
async fn every_variant_of_the_files_is_read() {
    let record = read(include_str!("../records/files.json"));
    let is_replayed = |case: &&Value| !OTHERWISE.iter().any(|(name, _)| case["case"] == *name);
    assert_eq!(cases(&record).iter().filter(|case| !is_replayed(case)).count(), OTHERWISE.len());
    let replayed = cases(&record).iter().filter(is_replayed).map(|case| (&record["about"]["plain"], case));
    stream::iter(replayed).map(replay_files).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn a_timer_and_what_is_started_by_hand_is_sent() {
    let record = read(include_str!("../records/timer.json"));
    let rig = Rig::new().await;
    fs::rename(rig.path().join("clock"), rig.path().join("probe_timer")).unwrap();
    fs::rename(rig.path().join("orders"), rig.path().join("probe_queue")).unwrap();
    let failure = step(&json!({ "status": 500, "reason": "Storage cannot be reached" }));
    rig.script("probe_timer", &[failure.clone(), failure.clone(), failure, Step::Succeed]);
    let host = rig.start().await;
    let blob = local_host::status_blob("localhost", "probe_timer");
    until("a status", async || rig.account.read_blob(crate::rig::HOSTS, &blob).await.unwrap().is_some()).await;
    let [first, second, third, queue, timer, timer_with_input] = cases(&record) else { panic!() };
    for (case, function) in [(queue, "probe_queue"), (timer, "probe_timer"), (timer_with_input, "probe_timer")] {
        rig.script("probe_timer", &[Step::Succeed]);
        host.invoke(function, case["input"].as_str()).await.unwrap();
        let request = rig.requests(function).pop().unwrap();
        assert_eq!(request.body, fill(case["text"].as_str().unwrap(), &request), "{case}");
    }
    rig.script("probe_timer", &[step(&json!({ "status": 500, "reason": "Storage cannot be reached" }))]);
    host.fire_timer("probe_timer").await.unwrap();
    for (case, request) in [first, second, third].into_iter().zip(&rig.requests("probe_timer")[2..]) {
        let mut body = request.json();
        for path in ["/Data/timer/ScheduleStatus/Next", "/Metadata/sys/UtcNow", "/Metadata/sys/RandGuid"] {
            *body.pointer_mut(path).unwrap() = json!("@");
        }
        let exception = &mut body["Metadata"]["RetryContext"]["Exception"];
        if exception.is_object() {
            let length = exception.to_string().len();
            assert!((3_200..3_700).contains(&length), "{length}");
            for path in ["/InstanceId", "/StackTraceString", "/InnerException/StackTrace"] {
                *exception.pointer_mut(path).unwrap() = json!("@");
            }
        }
        assert_eq!(body, case["body"], "{case}");
    }
}

#[tokio::test]
async fn a_consumer_gets_what_its_encoding_makes_of_a_message() {
    for case in cases(&read(include_str!("../records/consumers.json"))) {
        let rig = Rig::new().await;
        rig.set(
            "host.json",
            "/extensions/queues/messageEncoding",
            case["encoding"].as_str().unwrap_or("base64").into(),
        );
        rig.account.put("in-queue", case["sent"].as_str().unwrap()).await.unwrap();
        let host = rig.start().await;
        host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
        let calls: Vec<_> = rig.requests("orders").iter().map(|call| call.json()["Data"]["msg"].clone()).collect();
        assert_eq!(
            (json!(calls), json!(rig.texts("in-queue-poison").await)),
            (case["calls"].clone(), case["poison"].clone())
        );
    }
}
