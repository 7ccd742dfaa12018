//! The handler as a process: environment, readiness, exits, stop.

use std::{env, path::PathBuf};

use local_host::{LocalHost, Options, console::Level};
use rustix::process::{Pid, test_kill_process};
use serde_json::json;

use crate::{
    handler::{self, Startup, Step},
    recording::{STARTS, Start, recorded},
    rig::{LIMIT, Rig, stopped, until},
};

const TOO_MANY_ERRORS: &str = "Exceeded http worker restart retry count. Shutting down Functions Host";

fn crash(code: i32) -> Step {
    Step::Exit("the disk is full".to_owned(), code)
}

fn is_running(process: i32) -> bool {
    Pid::from_raw(process).is_some_and(|process| test_kill_process(process).is_ok())
}

#[tokio::test]
async fn the_handler_gets_the_environment_the_settings_and_five_variables() {
    let rig = Rig::new().await;
    rig.set("host.json", "/customHandler/description/workingDirectory", json!("orders"));
    let mut options = rig.options();
    options.settings.insert("GREETING".to_owned(), "hello".to_owned());
    let host = LocalHost::start(options).await.unwrap();
    host.ready().await.unwrap();
    // Its working directory is not where the other tests look.
    let starts = recorded::<Start>(rig.path().join("orders").join(STARTS).to_str().unwrap());
    let root = rig.path().canonicalize().unwrap();
    assert_eq!(PathBuf::from(&starts[0].folder).canonicalize().unwrap(), root.join("orders"));
    let environment = &starts[0].environment;
    let port = host.worker_port().to_string();
    assert_eq!(environment["FUNCTIONS_CUSTOMHANDLER_PORT"], port);
    assert_eq!(environment["FUNCTIONS_HTTPWORKER_PORT"], port);
    assert_eq!(environment["FUNCTIONS_APP_ROOT_PATH"], root.to_str().unwrap());
    assert_eq!(environment["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"], environment["FUNCTIONS_HTTPWORKER_ID"]);
    assert!(!environment["FUNCTIONS_HTTPWORKER_ID"].is_empty());
    assert_eq!(environment["GREETING"], "hello");
    assert_eq!(environment["AzureWebJobsStorage"], rig.account.connection_string());
    assert_eq!(Some(&environment["PATH"]), env::var("PATH").ok().as_ref());
}

#[tokio::test]
async fn the_probe_is_a_bare_get() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    let expected = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", host.worker_port());
    assert_eq!(rig.requests("")[0].head, expected);
}

#[tokio::test]
async fn whatever_answers_the_probe_is_ready() {
    let answers =
        ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n", "SSH-2.0-OpenSSH\r\n"];
    let probes = answers.map(|answer| Startup::Probe(answer.into()));
    for startup in probes.into_iter().chain([Startup::Reset]) {
        let rig = Rig::new().await;
        rig.startup(&startup);
        let host = rig.start().await;
        host.wait_for_line("Worker process started and initialized.", LIMIT).await.unwrap();
        assert_eq!((rig.requests("").len(), rig.starts().len()), (1, 1), "{startup:?}");
    }
}

#[tokio::test]
async fn a_message_waits_for_a_handler_that_is_slow_to_start() {
    let rig = Rig::new().await;
    rig.startup(&Startup::After("open".to_owned()));
    rig.account.put("in-queue", "early").await.unwrap();
    let host = LocalHost::start(rig.options()).await.unwrap();
    host.wait_for_line("Executing 'Functions.orders'", LIMIT).await.unwrap();
    assert_eq!(host.worker_pid(), None);
    rig.release("open");
    host.drain(&rig.account, "in-queue", LIMIT).await.unwrap();
    let invocations = host.invocations();
    assert!(invocations.len() == 1 && invocations[0].succeeded, "{invocations:?}");
}

#[tokio::test]
async fn a_handler_that_never_listens_stops_the_host_after_three_starts() {
    let rig = Rig::new().await;
    rig.startup(&Startup::Deaf);
    rig.set("host.json", "/customHandler/initializationTimeout", json!("00:00:00.25"));
    let host = LocalHost::start(rig.options()).await.unwrap();
    assert_eq!(stopped(&host).await, TOO_MANY_ERRORS);
    let timeouts = host.lines().iter().filter(|line| line.text == "Initializing HttpWorker timed out.").count();
    assert_eq!(timeouts, 3);
    assert!(!host.lines().iter().any(|line| line.text.contains("started and initialized")));
    assert!(!host.deliver("orders", "x").await.unwrap().succeeded);
}

#[tokio::test]
async fn an_exit_with_0_before_the_first_answer_is_found_out_by_the_timeout() {
    let rig = Rig::new().await;
    rig.startup(&Startup::Exit(0));
    rig.set("host.json", "/customHandler/initializationTimeout", json!("00:00:00.25"));
    let host = LocalHost::start(rig.options()).await.unwrap();
    assert_eq!(stopped(&host).await, TOO_MANY_ERRORS);
    assert!(!host.lines().iter().any(|line| line.text.contains("exited with code")));
}

#[tokio::test]
async fn a_missing_executable_is_tried_once_and_the_host_stops_when_invocations_give_up() {
    let rig = Rig::new().await;
    rig.set("host.json", "/customHandler/description/defaultExecutablePath", json!("nothing-of-this-name"));
    rig.set("host.json", "/customHandler/initializationTimeout", json!("00:00:00.1"));
    let host = LocalHost::start(rig.options()).await.unwrap();
    host.wait_for_line("Failed to start Worker Channel. Process fileName: nothing-of-this-name", LIMIT).await.unwrap();
    assert_eq!(host.stopped(), None);
    let invocation = tokio::time::timeout(LIMIT, host.deliver("orders", "x")).await.unwrap().unwrap();
    let expected = "Final functionDispatcher state: Initializing. Initialization timed out and host is shutting down";
    assert_eq!(invocation.failure.as_deref(), Some(expected));
    assert_eq!(stopped(&host).await, "Initialization timed out and host is shutting down");
    assert_eq!(host.lines().iter().filter(|line| line.text.contains("Failed to start")).count(), 1);
}

#[tokio::test]
async fn a_handler_that_never_comes_up_stops_the_host_when_invocations_give_up() {
    // One holds the first probe, the other is restarted without end.
    for startup in [Startup::Mute, Startup::Exit(200)] {
        let rig = Rig::new().await;
        rig.startup(&startup);
        rig.set("host.json", "/customHandler/initializationTimeout", json!("00:00:00.25"));
        let host = LocalHost::start(rig.options()).await.unwrap();
        let invocation = tokio::time::timeout(LIMIT, host.deliver("orders", "x")).await.unwrap().unwrap();
        assert!(!invocation.succeeded, "{startup:?}");
        assert_eq!(stopped(&host).await, "Initialization timed out and host is shutting down", "{startup:?}");
        assert_eq!(host.worker_pid(), None, "{startup:?}");
    }
}

#[tokio::test]
async fn the_third_crash_stops_the_host() {
    let rig = Rig::new().await;
    rig.script("orders", &[crash(3)]);
    let host = rig.start().await;
    for number in 1..=3 {
        let pid = host.worker_pid();
        let invocation = host.deliver("orders", "x").await.unwrap();
        assert!(!invocation.succeeded && invocation.status.is_none(), "crash {number}: {invocation:?}");
        assert_eq!(host.ready_again(pid).await.is_ok(), number < 3, "crash {number}");
    }
    assert_eq!(host.stopped().as_deref(), Some(TOO_MANY_ERRORS));
    assert_eq!(rig.starts().len(), 3);
    let exit_message = host.wait_for_line("exited with code 3 (0x3)", LIMIT).await.unwrap();
    assert!(exit_message.level == Level::Error && exit_message.text.ends_with("the disk is full"), "{exit_message:?}");
}

#[tokio::test]
async fn the_exit_message_quotes_the_last_three_errors() {
    let rig = Rig::new().await;
    rig.startup(&Startup::Print(Vec::new(), ["one", "two", "a warning", "three"].map(str::to_owned).to_vec()));
    rig.script("orders", &[crash(-1)]);
    let host = rig.start().await;
    host.deliver("orders", "x").await.unwrap();
    let exit_message = host.wait_for_line("exited with code 255 (0xFF)", LIMIT).await.unwrap();
    assert!(exit_message.text.ends_with("(0xFF). two,three,the disk is full"), "{exit_message:?}");
}

#[tokio::test]
async fn exit_code_200_is_a_restart_that_does_not_count() {
    let rig = Rig::new().await;
    rig.script("orders", &[crash(200), crash(200), crash(200), crash(200), Step::Succeed]);
    let host = rig.start().await;
    for _ in 0..4 {
        let pid = host.worker_pid();
        assert!(!host.deliver("orders", "x").await.unwrap().succeeded);
        host.ready_again(pid).await.unwrap();
    }
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
    assert_eq!(host.stopped(), None);
    assert!(!host.lines().iter().any(|line| line.text.contains("exited with code")));
}

#[tokio::test]
async fn exit_code_0_goes_unnoticed_and_every_call_is_refused() {
    let rig = Rig::new().await;
    rig.script("orders", &[crash(0)]);
    let host = rig.start().await;
    let pid = host.worker_pid().unwrap();
    assert!(!host.deliver("orders", "x").await.unwrap().succeeded);
    // A process that is still ending may accept a connection once more, only to reset it.
    until("the handler is gone", async || !is_running(pid)).await;
    for _ in 0..2 {
        let failure = host.deliver("orders", "x").await.unwrap().failure.unwrap();
        assert!(failure.contains("onnection refused"), "{failure}");
    }
    assert_eq!((host.stopped(), rig.starts().len()), (None, 1));
}

#[tokio::test]
async fn a_killed_handler_comes_back_on_the_same_port() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    // A connection that was open leaves the port in TIME_WAIT.
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
    let pid = host.worker_pid();
    host.kill_worker().unwrap();
    host.ready_again(pid).await.unwrap();
    host.wait_for_line("exited with code 137 (0x89)", LIMIT).await.unwrap();
    assert_ne!(host.worker_pid(), pid);
    let told = |name: &str| rig.starts().iter().map(|start| start.environment[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("FUNCTIONS_CUSTOMHANDLER_PORT"), vec![host.worker_port().to_string(); 2]);
    // It is another handler all the same.
    let ids = told("FUNCTIONS_CUSTOMHANDLER_WORKER_ID");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(told("FUNCTIONS_HTTPWORKER_ID"), ids);
    assert!(host.deliver("orders", "x").await.unwrap().succeeded);
}

#[tokio::test]
async fn a_stop_is_a_kill_without_notice() {
    let rig = Rig::new().await;
    let host = rig.start().await;
    let pid = host.worker_pid().unwrap();
    assert!(is_running(pid));
    host.stop().await;
    assert!(!is_running(pid));
    assert!(!rig.path().join(handler::SIGNALLED).exists());
    let calls = rig.requests("orders").len() + rig.requests("clock").len();
    assert_eq!(calls, 0);
}

#[tokio::test]
async fn the_level_of_a_line_follows_from_its_stream_and_its_words() {
    let out = ["an error on stdout", "AZFUNCJSONLOG:{}"].map(str::to_owned);
    let err = ["all is well", "deprecated: a WARNing", ""];
    let rig = Rig::new().await;
    rig.startup(&Startup::Print(out.to_vec(), err.map(str::to_owned).to_vec()));
    let host = rig.start().await;
    let expected = [
        ("an error on stdout", Level::Information),
        ("AZFUNCJSONLOG:{}", Level::Information),
        ("all is well", Level::Error),
        ("deprecated: a WARNing", Level::Warning),
    ];
    for (text, level) in expected {
        let line = host.wait_for_line(text, LIMIT).await.unwrap();
        assert_eq!((line.text.as_str(), line.level), (text, level));
    }
    assert!(host.lines().iter().any(|line| line.text.is_empty() && line.level == Level::Error));
}

#[tokio::test]
async fn a_connection_that_is_not_the_emulators_is_refused_with_the_cure() {
    let cases = [
        (
            "AzureWebJobsStorage",
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net",
        ),
        ("AzureWebJobsStorage", "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/storage)"),
        ("AzureWebJobsStorage__accountName", "shop"),
    ];
    for (name, value) in cases {
        let rig = Rig::new().await;
        let mut options = rig.options();
        options.settings = [(name.to_owned(), value.to_owned())].into();
        let error = format!("{:#}", LocalHost::start(options).await.unwrap_err());
        let expected =
            ["'AzureWebJobsStorage'", "works over the emulator only", "UseDevelopmentStorage=true", "func start"];
        assert!(expected.iter().all(|text| error.contains(text)) && !error.contains("c2VjcmV0"), "{value}: {error}");
    }
    let rig = Rig::new().await;
    let error = LocalHost::start(Options { app_root: rig.path().to_owned(), ..Options::default() }).await.unwrap_err();
    assert!(format!("{error:#}").contains("AzureWebJobsStorage"), "{error:#}");
}
