//! `cargo send` as a process of its own: what gets on the queue, and what it says when nothing does.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind the development commands")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use test_storage::{Account, Service, azurite};

/// Runs it with an input, and returns what it prints, on either stream.
fn send(account: &Account, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dev"));
    command.arg("send").args(arguments);
    if !arguments.contains(&"--connection") {
        command.args(["--connection", &account.connection_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn a_message_comes_from_the_command_line_a_file_or_standard_input() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        file.display().to_string()
    };
    let plain = file("plain", "{\r\n  \"id\": \"Zoë\"\r\n}\r\n".as_bytes());
    let marked = file("marked", "\u{feff}{\"id\":1}\n".as_bytes());
    let wide = file("wide", &utf16("{\"id\":\"Zoë\"}\r\n"));
    let cases: [(&[&str], &[u8], &str); 8] = [
        (&[r#"{"id":1}"#], b"", r#"{"id":1}"#),
        (&["-1"], b"", "-1"),
        (&["a \u{1b}[2J b", "--base64"], b"", "YSAbWzJKIGI="),
        (&["-"], b"from a pipe\n", "from a pipe"),
        (&["-"], &utf16("from PowerShell\r\n"), "from PowerShell"),
        (&["--file", &plain], b"", "{\r\n  \"id\": \"Zoë\"\r\n}"),
        (&["--file", &marked], b"", r#"{"id":1}"#),
        (&["--file", &wide], b"", "{\"id\":\"Zoë\"}"),
    ];
    for (arguments, input, expected) in cases {
        let (sent, said) = send(&account, arguments, input);
        assert!(sent && said.starts_with("Put on queue 'orders'") && !said.contains('\u{1b}'), "{arguments:?}: {said}");
        let queued: Vec<_> = account.peek("orders").await.unwrap().into_iter().map(|message| message.text).collect();
        assert_eq!(queued, [expected], "{arguments:?}");
        account.clear_queue("orders").await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_with_its_cure() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let (large, larger) = ("x".repeat(65_537), "x".repeat(49_153));
    let wrong_key = account.connection_string().replace(account.key(), "d3Jvbmc=");
    let [queues, blobs] = [Service::Queue, Service::Blob].map(|service| account.endpoint(service).to_owned());
    let blobs = account.connection_string().replace(&queues, &blobs);
    let nobody = account.connection_string().replace("http://127.0.0.1:", "http://127.0.0.1:1");
    let real = "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net";
    let cases: [(&[&str], &[u8], &[&str]); 13] = [
        (&["a\u{1}b"], b"", &["character 2", "U+0001", "\\u0001", "--base64"]),
        (&["\u{ffff}"], b"", &["character 1", "U+FFFF"]),
        (&[&large], b"", &["65537 bytes; a queue takes 65536"]),
        (&["--base64", &larger], b"", &["65540 bytes as base64"]),
        (&["x", "--queue", "Orders"], b"", &["--queue 'Orders'", "lower-case"]),
        (&["--file", "/nowhere/order.json"], b"", &["--file /nowhere/order.json"]),
        (&["-"], b"\xff\xffx", &["standard input is neither UTF-8 nor UTF-16"]),
        (&["-"], b"{\0}\0", &["standard input is neither UTF-8 nor UTF-16", "save it as UTF-8"]),
        (&[], b"", &["required", "--file"]),
        (&["x", "--connection", real], b"", &["--connection", "emulator", "UseDevelopmentStorage=true"]),
        (&["x", "--connection", &wrong_key], b"", &["refuses the key"]),
        (&["x", "--connection", &nobody], b"", &["no storage there", "cargo start", "--connection"]),
        (&["x", "--connection", &blobs], b"", &["does not take it: is it Azurite?"]),
    ];
    for (arguments, input, expected) in cases {
        let (sent, said) = send(&account, arguments, input);
        assert!(!sent && expected.iter().all(|text| said.contains(text)), "{expected:?}: {said}");
        assert!(!said.contains("c2VjcmV0"), "{said}");
    }
    assert!(account.peek("orders").await.unwrap().is_empty());
}
