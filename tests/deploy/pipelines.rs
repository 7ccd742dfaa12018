//! The workflows, held against what they use.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

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
    let checks = runs(gate);
    let place = |part: &str| checks.iter().position(|command| command.contains(part)).unwrap();
    assert!(place("az bicep build --file infra/main.bicep") < place(".ci/run"), "the compiler is not part of .ci/run");
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
    // What GitHub vouches with is valid for five minutes, so the smoke test has to have its token before.
    assert!(place("get-access-token --scope https://storage.azure.com/.default") < place("config-zip"));
    assert!(place("config-zip") < place("infra/smoke-test.sh"));
    let slow = steps(job).iter().find(|step| step["name"] == "Deploy").unwrap();
    assert!(slow["timeout-minutes"].as_u64() < job["timeout-minutes"].as_u64());
    assert!(slow["timeout-minutes"].is_u64());
    assert!(commands[place("config-zip")].contains("--src dist/handler.zip"));
    let gate = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(gate.contains("cargo package-app") && gate.contains("--test deploy -- --ignored"));
}

/// The deployment for this repository, as GitHub names it in its tokens.
fn deployed_from(repository: &str) -> Deployment {
    let parameters = json!({ "environmentName": "orders", "location": "x", "githubRepository": repository });
    Deployment::of(&root().join("infra"), &parameters).unwrap()
}

#[test]
fn the_deployment_has_an_identity_and_no_secret() {
    let (text, deploy) = workflow("deploy.yml");
    let variables: BTreeSet<_> = text.split("vars.").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    let deployment = deployed_from("example/orders");
    let outputs: BTreeSet<_> = deployment.outputs.keys().map(String::as_str).collect();
    assert_eq!(variables, outputs);
    assert!(!text.contains("secrets."));
    let permissions = &deploy["jobs"]["deploy"]["permissions"];
    assert_eq!(*permissions, json!({ "contents": "read", "id-token": "write" }));
}

/// Repositories have had their numbers in the subject since July 2026, older ones have not.
#[test]
fn the_identity_trusts_what_github_says_of_the_job() {
    let (_, deploy) = workflow("deploy.yml");
    let environment = deploy["jobs"]["deploy"]["environment"].as_str().unwrap();
    for repository in ["example/orders", "example@583231/orders@1296269"] {
        let resources = deployed_from(repository).resources;
        let trust = resources.iter().find(|resource| resource.id.contains("federatedIdentityCredentials")).unwrap();
        assert_eq!(trust.body["properties"]["subject"], format!("repo:{repository}:environment:{environment}"));
    }
}

#[test]
fn the_documentation_asks_github_for_the_subject_and_protects_the_environment() {
    let text = fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    let chapter = text.split_once("\n## C. With GitHub Actions\n").unwrap().1.split("\n## ").next().unwrap();
    let (_, deploy) = workflow("deploy.yml");
    let environment = deploy["jobs"]["deploy"]["environment"].as_str().unwrap();
    assert!(chapter.contains("/actions/oidc/customization/sub") && chapter.contains(".sub_claim_prefix"));
    assert!(chapter.contains(&format!("environments/{environment}")), "{environment}");
    for tag in deploy["on"]["push"]["tags"].as_array().unwrap() {
        assert!(chapter.contains(&format!("-f 'name={}' -f type=tag", tag.as_str().unwrap())), "{tag}");
    }
    let outputs = deployed_from("example/orders").outputs;
    assert!(outputs.keys().all(|name| chapter.contains(name.as_str())));
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("AADSTS700213"));
}
