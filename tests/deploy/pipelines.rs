//! The workflows, held against what they use.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, process::Command};

use regex::Regex;
use serde_json::{Value, json};

use crate::{bicep::Deployment, infrastructure::deploy, root};

fn workflow(name: &str) -> Value {
    let text = fs::read_to_string(root().join(".github/workflows").join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_array().unwrap()
}

/// The position of the step that uses an action.
fn position(job: &Value, action: &str) -> usize {
    let uses = |step: &Value| step["uses"].as_str().is_some_and(|uses| uses.starts_with(action));
    steps(job).iter().position(uses).unwrap()
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    let pinned = Regex::new("^(\\./.+|[^@]+@[0-9a-f]{40})$").unwrap();
    for file in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let workflow = workflow(file.unwrap().file_name().to_str().unwrap());
        for job in workflow["jobs"].as_object().unwrap().values() {
            let steps = job["steps"].as_array().into_iter().flatten();
            for uses in steps.chain([job]).filter_map(|user| user["uses"].as_str()) {
                assert!(pinned.is_match(uses), "{uses}");
            }
        }
    }
}

/// Ends well only for a compiler that is content and silent: wrong properties are warnings, and those end with 0.
#[test]
fn a_warning_of_the_bicep_compiler_fails_the_gate() {
    let ci = workflow("ci.yml");
    let compile = steps(&ci["jobs"]["gate"]).iter().find(|step| step["name"] == "Compile the infrastructure").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let succeeds = |compiler: &str| {
        let bicep = folder.path().join("bicep");
        fs::write(&bicep, format!("#!/bin/sh\n[ \"$1 $2\" = 'build infra/main.bicep' ] || exit 2\n{compiler}\n"))
            .unwrap();
        fs::set_permissions(&bicep, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("bash");
        command.args(["-e", "-c", compile["run"].as_str().unwrap()]).env("RUNNER_TEMP", folder.path());
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).output().unwrap().status.success()
    };
    assert!(succeeds("exit 0"));
    assert!(!succeeds("echo 'Warning BCP037' >&2"));
    assert!(!succeeds("echo 'Warning BCP037'"));
    assert!(!succeeds("exit 1"));
}

/// Checks that `job` takes `file` from where `source` left it, and that it is the same.
#[track_caller]
fn check_taken(job: &Value, (source, name): (&Value, &str), file: &str) {
    let upload = &steps(source)[position(source, "actions/upload-artifact")]["with"];
    assert_eq!(upload["path"], file);
    let from = json!({ "name": upload["name"], "path": "dist" });
    let download = steps(job).iter().position(|step| step["with"] == from).unwrap();
    assert!(steps(job)[download]["uses"].as_str().unwrap().starts_with("actions/download-artifact@"));
    let check = &steps(job)[download + 1];
    assert_eq!(check["run"], format!(r#"echo "$SHA256  {file}" | sha256sum --check"#));
    assert_eq!(check["env"]["SHA256"], format!("${{{{ needs.{name}.outputs.sha256 }}}}"));
}

#[test]
fn what_passed_the_gate_is_what_is_released_and_deployed() {
    let ci = workflow("ci.yml");
    for (name, needs) in [("release", json!(["gate", "ops"])), ("deploy", json!("gate"))] {
        let workflow = workflow(&format!("{name}.yml"));
        assert_eq!(workflow["jobs"]["gate"]["uses"], "./.github/workflows/ci.yml");
        let job = &workflow["jobs"][name];
        assert_eq!(job["needs"], needs);
        check_taken(job, (&ci["jobs"]["gate"], "gate"), "dist/handler.zip");
    }
}

/// The package itself has nothing of it: see `a_package_has_the_app_and_nothing_else`.
#[test]
fn the_tool_of_the_operator_is_released_beside_the_package() {
    let release = workflow("release.yml");
    let (ops, job) = (&release["jobs"]["ops"], &release["jobs"]["release"]);
    assert_eq!((&ops["needs"], &ops["permissions"]), (&json!("gate"), &json!({ "contents": "read" })));
    assert!(steps(ops).iter().any(|step| step["run"] == "cargo package-app --ops"));
    check_taken(job, (ops, "ops"), "dist/ops");
    let attested = &steps(job)[position(job, "actions/attest@")]["with"]["subject-path"];
    assert_eq!(*attested, "dist/handler.zip\ndist/ops\n");
    // What is published, by the very commands, of which `gh` only says what it was given.
    let publish = steps(job).iter().find(|step| step["name"] == "Publish").unwrap()["run"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["handler.zip", "ops"] {
        fs::write(folder.path().join(file), file).unwrap();
    }
    let script = format!("gh() {{ printf '%s\n' \"$@\"; }}\n{publish}\ncat *.sha256 | sha256sum --check --quiet");
    let output = Command::new("bash").args(["-e", "-c", &script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let given = String::from_utf8(output.stdout).unwrap();
    // The package has its licences in it.
    for file in ["handler.zip", "handler.zip.sha256", "ops", "ops.sha256", "../LICENSE", "../THIRD-PARTY-NOTICES.txt"] {
        assert!(given.lines().any(|word| word == file), "{given}");
    }
}

/// GitHub's word for a job is valid for five minutes, and a deployment may take longer.
#[test]
fn the_smoke_test_has_its_token_before_the_deployment_begins() {
    let deploy = workflow("deploy.yml");
    let commands = steps(&deploy["jobs"]["deploy"]).iter().filter_map(|step| step["run"].as_str());
    let interesting = ["get-access-token", "config-zip", "infra/smoke-test.sh"];
    let order: Vec<_> = commands.filter_map(|run| interesting.into_iter().find(|part| run.contains(part))).collect();
    assert_eq!(order, interesting);
}

/// The deployment for this repository, as GitHub names it in its tokens.
fn deployed_from(repository: &str) -> Deployment {
    deploy(&json!({ "environmentName": "orders", "location": "x", "githubRepository": repository }))
}

#[test]
fn the_deployment_has_an_identity_and_no_secret() {
    let deploy = workflow("deploy.yml");
    let permissions = &deploy["jobs"]["deploy"]["permissions"];
    assert_eq!(*permissions, json!({ "contents": "read", "id-token": "write" }));
    let expressions = Regex::new(r"(vars|secrets)\.(\w+)").unwrap();
    let text = deploy.to_string();
    let used: BTreeSet<_> =
        expressions.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let outputs = deployed_from("example/orders").outputs;
    let expected = outputs.keys().map(|name| ("vars".to_owned(), name.clone()));
    assert_eq!(used, expected.collect());
}

/// Repositories have had their numbers in the subject since July 2026, older ones have not.
#[test]
fn the_identity_trusts_what_github_says_of_the_job() {
    let deploy = workflow("deploy.yml");
    let environment = deploy["jobs"]["deploy"]["environment"].as_str().unwrap();
    for repository in ["example/orders", "example@583231/orders@1296269"] {
        let resources = deployed_from(repository).resources;
        let trust = resources.iter().find(|resource| resource.id.contains("federatedIdentityCredentials")).unwrap();
        assert_eq!(trust.body["properties"]["subject"], format!("repo:{repository}:environment:{environment}"));
    }
}
