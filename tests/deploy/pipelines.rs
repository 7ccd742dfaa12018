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
    let deployment = deployed_from("example/orders");
    let variables: BTreeSet<_> = text.split("vars.").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    let outputs: BTreeSet<_> = deployment.outputs.keys().map(String::as_str).collect();
    assert_eq!(variables, outputs);
    assert!(!text.contains("secrets."));
    let job = &deploy["jobs"]["deploy"];
    assert_eq!(job["permissions"], json!({ "contents": "read", "id-token": "write" }));
    let environment = job["environment"].as_str().unwrap();
    // The older names of repositories, and those with numbers: see docs/deploy.md.
    for repository in ["example/orders", "example@12345/orders@67890"] {
        let deployment = deployed_from(repository);
        let trust =
            deployment.resources.iter().find(|resource| resource.id.contains("federatedIdentityCredentials")).unwrap();
        assert_eq!(trust.body["properties"]["subject"], format!("repo:{repository}:environment:{environment}"));
    }
}

fn deployed_from(repository: &str) -> Deployment {
    let parameters = json!({ "environmentName": "orders", "location": "x", "githubRepository": repository });
    Deployment::of(&root().join("infra"), &parameters).unwrap()
}

/// An Azure CLI that writes down what it is asked. It accepts a message, and knows a record, when it has been asked so
/// often.
const CLI: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$CALLS"
case "$*" in
*"message put"*) verb='message put' needed=$ACCEPTED_AT answer= ;;
*"entity show"*) verb='entity show' needed=$KNOWN_AT answer='{"status":"accepted"}' ;;
*) exit 2 ;;
esac
if [ "$(grep -c "$verb" "$CALLS")" -lt "$needed" ]; then
    echo "ERROR: not this $verb" >&2
    exit 3
fi
echo "$answer"
"#;

/// Runs the smoke test; returns what came of it and what it asked for.
fn smoke_test(accepted_at: u32, known_at: u32) -> (Output, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let (cli, calls) = (folder.path().join("az"), folder.path().join("calls"));
    fs::write(&cli, CLI).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        env::join_paths([folder.path().to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
    let output = Command::new(root().join("infra/smoke-test.sh"))
        .arg("stshop")
        .env("PATH", path.unwrap())
        .env("CALLS", &calls)
        .envs([("ACCEPTED_AT", accepted_at.to_string()), ("KNOWN_AT", known_at.to_string())])
        .envs([("SMOKE_TEST_ATTEMPTS", "4"), ("SMOKE_TEST_PAUSE", "0")])
        .output()
        .unwrap();
    let calls = fs::read_to_string(calls).unwrap().lines().map(str::to_owned).collect();
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
    let key = Key::new(order::SCOPE, message["id"].as_str().unwrap());
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
