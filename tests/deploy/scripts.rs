//! The scripts in `infra/`, run against an Azure CLI that is made up.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use handler::idempotency::Key;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::root;

/// Makes the command of a script, with `cli` as the Azure CLI and `state` as the folder in which that keeps its state.
fn script(name: &str, cli: &str, state: &Path) -> Command {
    let az = state.join("az");
    fs::write(&az, cli).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([state.to_owned()].into_iter().chain(env::split_paths(&path)));
    let mut command = Command::new(root().join("infra").join(name));
    command.arg("stshop").env("PATH", path.unwrap()).env("STATE", state);
    command
}

/// A CLI that logs its calls. It accepts a message at the `ACCEPTED_AT`th request and knows the record at the `KNOWN_AT`th.
const SMOKE_TEST_CLI: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$STATE/calls"
case "$*" in
*"message put"*) verb='message put' needed=$ACCEPTED_AT answer= ;;
*"entity show"*) verb='entity show' needed=$KNOWN_AT answer='{"status":"accepted"}' ;;
*) exit 2 ;;
esac
if [ "$(grep -c "$verb" "$STATE/calls")" -lt "$needed" ]; then
    echo "ERROR: not this $verb" >&2
    exit 3
fi
echo "$answer"
"#;

/// Runs the smoke test; returns its output and the calls it made.
fn smoke_test(accepted_at: u32, known_at: u32) -> (Output, Vec<String>) {
    let state = TempDir::new().unwrap();
    let output = script("smoke-test.sh", SMOKE_TEST_CLI, state.path())
        .envs([("ACCEPTED_AT", accepted_at.to_string()), ("KNOWN_AT", known_at.to_string())])
        .envs([("SMOKE_TEST_ATTEMPTS", "4"), ("SMOKE_TEST_PAUSE", "0")])
        .output()
        .unwrap();
    let calls = fs::read_to_string(state.path().join("calls")).unwrap().lines().map(str::to_owned).collect();
    (output, calls)
}

#[test]
fn the_smoke_test_waits_for_the_record_of_its_own_order() {
    let (output, calls) = smoke_test(2, 3);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Committed: {\"status\":\"accepted\"}\n"));
    let [put, again, looks @ ..] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((put, looks.len()), (again, 3), "{calls:?}");
    assert!(calls.iter().all(|call| call.contains(" --account-name stshop --auth-mode login ")), "{calls:?}");
    assert!(put.contains("--queue-name orders "), "{put}");
    let message = put.split_once("--content ").unwrap().1.split(' ').next().unwrap();
    let message: Value = serde_json::from_str(message).unwrap();
    let key = Key::new("orders", message["id"].as_str().unwrap());
    for look in looks {
        let place = format!("--partition-key {} --row-key {} ", key.partition_key(), key.record_row_key());
        assert!(look.contains("--table-name idempotency ") && look.contains(&place), "{look}: not {place}");
    }
}

#[test]
fn the_smoke_test_fails_with_the_last_answer_when_it_has_waited_long_enough() {
    for (accepted_at, known_at, calls, answer) in
        [(1, 99, 5, "ERROR: not this entity show"), (99, 1, 4, "ERROR: not this message put")]
    {
        let (output, made) = smoke_test(accepted_at, known_at);
        assert_eq!((output.status.code(), made.len()), (Some(1), calls));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("Given up after 4 attempts") && errors.contains(answer), "{errors}");
    }
}

/// Two queues, of which `orders-quarantine` hides what was taken from it. An argument that begins with `@` names a file, as
/// for the real one. It does not do what `refused` says.
const PUT_BACK_CLI: &str = r#"#!/bin/sh
verb=$3
for argument; do
    case $argument in
    --content=*) content=${argument#*=} ;;
    --id=*) id=${argument#*=} ;;
    --pop-receipt=*) receipt=${argument#*=} ;;
    esac
done
case "$*" in *" --account-name stshop --auth-mode login "*) ;; *) exit 2 ;; esac
echo "$verb" >> "$STATE/calls"
[ "$verb" != "$(cat "$STATE/refused")" ] || { echo "ERROR: not this $verb" >&2; exit 3; }
case "$*" in
"storage message get --queue-name orders-quarantine --num-messages 1 --visibility-timeout 300 "*)
    next=$(ls "$STATE/poison" | head -n 1)
    [ -n "$next" ] || { echo '[]'; exit; }
    mv "$STATE/poison/$next" "$STATE/hidden/$next"
    cat "$STATE/hidden/$next" ;;
"storage message put --queue-name orders "*)
    case $content in @*) if [ -f "${content#@}" ]; then content=$(cat "${content#@}"); fi ;; esac
    printf %s "$content" > "$STATE/orders/$(ls "$STATE/orders" | wc -l)" ;;
"storage message delete --queue-name orders-quarantine "*)
    [ "$receipt" = "receipt of $id" ] && rm "$STATE/hidden/$id" ;;
*) exit 2 ;;
esac
"#;

/// The result of putting messages back.
struct PutBack {
    output: Output,
    calls: Vec<String>,
    orders: Vec<String>,
    hidden: usize,
    left: usize,
}

fn put_back(messages: &[&str], limit: Option<&str>, refused: &str) -> PutBack {
    let state = TempDir::new().unwrap();
    let folder = |name: &str| state.path().join(name);
    for name in ["poison", "hidden", "orders"] {
        fs::create_dir(folder(name)).unwrap();
    }
    fs::write(folder("refused"), refused).unwrap();
    for (id, content) in messages.iter().enumerate() {
        let id = id.to_string();
        let (reason, message) = content.split_once('|').unwrap_or(("exhausted", content));
        let content = json!({ "reason": reason, "message": message }).to_string();
        let answer = json!([{ "id": id, "popReceipt": format!("receipt of {id}"), "content": content }]);
        fs::write(folder("poison").join(id), answer.to_string()).unwrap();
    }
    let output = script("put-back.sh", PUT_BACK_CLI, state.path()).args(limit).output().unwrap();
    let count = |name| fs::read_dir(folder(name)).unwrap().count();
    let read = |path| fs::read_to_string(path).unwrap();
    PutBack {
        output,
        calls: read(folder("calls")).lines().map(str::to_owned).collect(),
        orders: (0..count("orders")).map(|number| read(folder("orders").join(number.to_string()))).collect(),
        hidden: count("hidden"),
        left: count("poison"),
    }
}

#[test]
fn messages_are_put_back_character_for_character_until_none_is_left() {
    let messages = [
        r#"{"id":"order-123","amount":42}"#,
        "  {\"id\":\t\"it's \\\"quoted\\\" \\u00e9\\n\",\t\"note\": \"$HOME `id` * %s\"}  ",
        "ördér 💶 \u{2028}",
        "two lines\nand ends\n\n",
        "--help",
        "@/etc/passwd",
        "a=@b",
        "",
    ];
    let result = put_back(&messages, None, "");
    assert!(result.output.status.success(), "{:?}", result.output);
    assert_eq!(result.orders, messages);
    assert_eq!((result.left, result.hidden), (0, 0));
    assert_eq!(result.calls, [["get", "put", "delete"].repeat(messages.len()), vec!["get"]].concat());
    assert!(String::from_utf8_lossy(&result.output.stdout).contains("Put back: 8."));
}

#[test]
fn only_what_is_exhausted_is_put_back() {
    let result = put_back(&["conflict|one", "two", "missing_id|three"], None, "");
    assert_eq!((result.orders, result.hidden, result.left), (vec!["two".to_owned()], 2, 0));
}

#[test]
fn a_message_that_was_not_put_is_not_deleted() {
    let result = put_back(&["one", "two"], None, "put");
    assert_eq!((result.output.status.code(), result.calls), (Some(1), ["get", "put"].map(str::to_owned).to_vec()));
    assert_eq!((result.left, result.hidden, result.orders.len()), (1, 1, 0));
    let errors = String::from_utf8_lossy(&result.output.stderr);
    assert!(errors.contains("not this put") && errors.contains("again in 300 s"), "{errors}");
}

#[test]
fn a_message_that_was_not_deleted_ends_the_putting_back() {
    let result = put_back(&["one", "two"], None, "delete");
    assert_eq!((result.output.status.code(), result.orders), (Some(1), vec!["one".to_owned()]));
    assert_eq!((result.left, result.hidden), (1, 1));
    assert!(String::from_utf8_lossy(&result.output.stderr).contains("in orders-quarantine as well"));
}

#[test]
fn no_more_is_put_back_than_was_asked_for() {
    let result = put_back(&["one", "two", "three"], Some("2"), "");
    assert!(result.output.status.success(), "{:?}", result.output);
    assert_eq!((result.orders.len(), result.left, result.calls.len()), (2, 1, 6));
    assert!(String::from_utf8_lossy(&result.output.stdout).contains("There may be more"));
}
