//! The scripts in `infra/`, run against an Azure CLI that is made up.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use handler::idempotency::Key;
use serde_json::Value;
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
