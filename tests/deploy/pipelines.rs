//! The workflows, held against what they use, and the smoke test, run against an Azure CLI that is made up.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use handler::{idempotency::Key, order};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{bicep::Deployment, root};

fn workflow(name: &str) -> (String, Value) {
    let text = fs::read_to_string(root().join(".github/workflows").join(name)).unwrap();
    let parsed = serde_saphyr::from_str(&text).unwrap();
    (text, parsed)
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_array().unwrap()
}

fn step<'a>(job: &'a Value, action: &str) -> &'a Value {
    let uses = |step: &&Value| step["uses"].as_str().is_some_and(|uses| uses.starts_with(action));
    steps(job).iter().find(uses).unwrap()
}

fn runs(job: &Value) -> Vec<&str> {
    steps(job).iter().filter_map(|step| step["run"].as_str()).collect()
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    for name in ["ci.yml", "deploy.yml"] {
        let (text, _) = workflow(name);
        for line in text.lines().filter(|line| line.contains("uses: ") && !line.contains("uses: ./")) {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{name}: no version: {line}"));
            let commit = action.rsplit('@').next().unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {line}");
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}: {line}");
        }
    }
}

#[test]
fn what_passed_the_gate_is_what_is_deployed() {
    let (_, ci) = workflow("ci.yml");
    let gate = &ci["jobs"]["gate"];
    assert!(runs(gate).contains(&".ci/run"));
    assert_eq!(step(gate, "actions/upload-artifact")["with"]["path"], "dist/handler.zip");
    let (_, deploy) = workflow("deploy.yml");
    assert_eq!(deploy["jobs"]["gate"]["uses"], "./.github/workflows/ci.yml");
    let job = &deploy["jobs"]["deploy"];
    assert_eq!(job["needs"], "gate");
    let artifact = &step(job, "actions/download-artifact")["with"];
    assert_eq!(artifact["name"], step(gate, "actions/upload-artifact")["with"]["name"]);
    assert_eq!(artifact["path"], "dist");
    let commands = runs(job);
    assert!(!commands.iter().any(|command| command.contains("cargo")), "it builds nothing");
    let place = |part: &str| commands.iter().position(|command| command.contains(part)).unwrap();
    assert!(place("sha256sum --check") < place("config-zip"));
    assert!(place("config-zip") < place("infra/smoke-test.sh"));
    assert!(commands[place("config-zip")].contains("--src dist/handler.zip"));
    let gate = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(gate.contains("cargo package-app") && gate.contains("--test deploy -- --ignored"));
}

#[test]
fn the_deployment_has_an_identity_and_no_secret() {
    let (text, deploy) = workflow("deploy.yml");
    let parameters = json!({ "environmentName": "orders", "location": "x", "githubRepository": "example/orders" });
    let deployment = Deployment::of(&root().join("infra"), &parameters).unwrap();
    let variables: BTreeSet<_> = text.split("vars.").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    let outputs: BTreeSet<_> = deployment.outputs.keys().map(String::as_str).collect();
    assert_eq!(variables, outputs);
    assert!(!text.contains("secrets."));
    let job = &deploy["jobs"]["deploy"];
    assert_eq!(job["permissions"], json!({ "contents": "read", "id-token": "write" }));
    let trust =
        deployment.resources.iter().find(|resource| resource.id.contains("federatedIdentityCredentials")).unwrap();
    let environment = job["environment"].as_str().unwrap();
    assert_eq!(trust.body["properties"]["subject"], format!("repo:example/orders:environment:{environment}"));
}

/// An Azure CLI that writes down what it is asked, and knows a record from the third question on.
const CLI: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$CALLS"
case "$*" in
*"message put"*) ;;
*"entity show"*)
    if [ "$(grep -c 'entity show' "$CALLS")" -lt "$KNOWN_AT" ]; then
        echo 'ERROR: The specified resource does not exist. ErrorCode:ResourceNotFound' >&2
        exit 3
    fi
    echo '{"status":"accepted"}' ;;
*) exit 2 ;;
esac
"#;

/// Runs the smoke test; returns what came of it and what it asked for.
fn smoke_test(known_at: u32) -> (Output, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let (cli, calls) = (folder.path().join("az"), folder.path().join("calls"));
    fs::write(&cli, CLI).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        env::join_paths([folder.path().to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
    let output = Command::new(root().join("infra/smoke-test.sh"))
        .arg("stshop")
        .env("PATH", path.unwrap())
        .envs([("CALLS", calls.to_str().unwrap()), ("KNOWN_AT", &known_at.to_string())])
        .envs([("SMOKE_TEST_ATTEMPTS", "4"), ("SMOKE_TEST_PAUSE", "0")])
        .output()
        .unwrap();
    let calls = fs::read_to_string(calls).unwrap().lines().map(str::to_owned).collect();
    (output, calls)
}

#[test]
fn the_smoke_test_waits_for_the_record_of_its_own_order() {
    let (output, calls) = smoke_test(3);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [put, looks @ ..] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(looks.len(), 3, "{calls:?}");
    assert!(put.contains("--account-name stshop --auth-mode login") && put.contains("--queue-name orders"), "{put}");
    let message: Value = serde_json::from_str(put.split_once("--content ").unwrap().1).unwrap();
    let key = Key::new(order::SCOPE, message["id"].as_str().unwrap());
    for look in looks {
        let place = format!("--partition-key {} --row-key {} ", key.partition_key(), key.record_row_key());
        assert!(look.contains("--table-name idempotency ") && look.contains(&place), "{look}: not {place}");
    }
}

#[test]
fn the_smoke_test_fails_with_the_last_answer_when_no_record_comes() {
    let (output, calls) = smoke_test(99);
    assert_eq!((output.status.code(), calls.len()), (Some(1), 5));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("No record after 4 attempts") && errors.contains("ResourceNotFound"), "{errors}");
}
