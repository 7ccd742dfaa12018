//! `infra/*.bicep` and `azure.yaml`, held against the code and against what Azure knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use handler::{
    config::Config,
    storage::{AccountSettings, identity::Identity},
};
use serde_json::{Value, json};

use crate::{
    bicep::{Deployment, Resource, Sources},
    resource_types::ResourceTypes,
    root,
};

const BLOB_OWNER: &str = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b";
const QUEUE_CONTRIBUTOR: &str = "974c5e8b-45b9-4653-ba55-5f855dd0fb88";
const QUEUE_SENDER: &str = "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a";
const TABLE_CONTRIBUTOR: &str = "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3";
const TABLE_READER: &str = "76199698-9eea-4c19-bc75-cec21354c6b6";
const METRICS_PUBLISHER: &str = "3913510d-42f4-4e42-8a64-420c390055eb";
const WEBSITE_CONTRIBUTOR: &str = "de139f84-1756-47ae-9be6-808fbbe84772";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

const APP: &str = "principal of id-abcdefghijklm";
const ACCOUNT: &str = "Microsoft.Storage/storageAccounts:stabcdefghijklm";

/// With everything that can be switched on.
fn deployment() -> Deployment {
    deploy(&json!({
        "environmentName": "orders",
        "location": "westeurope",
        "alertEmail": "shop@example.com",
        "githubRepository": "example/orders",
    }))
}

fn deploy(parameters: &Value) -> Deployment {
    Deployment::of(&root().join("infra"), parameters).unwrap()
}

fn of_kind<'a>(deployment: &'a Deployment, kind: &str) -> Vec<&'a Resource> {
    let found: Vec<_> = deployment.resources.iter().filter(|resource| resource.short_kind() == kind).collect();
    assert!(!found.is_empty(), "{kind}");
    found
}

fn only<'a>(deployment: &'a Deployment, kind: &str) -> &'a Resource {
    let found = of_kind(deployment, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn names(resources: &[&Resource]) -> BTreeSet<String> {
    resources.iter().map(|resource| resource.name().to_owned()).collect()
}

fn app_settings(deployment: &Deployment) -> BTreeMap<String, String> {
    let app = only(deployment, "Microsoft.Web/sites");
    let settings = app.body["properties"]["siteConfig"]["appSettings"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let settings: Vec<_> = settings.iter().map(|setting| (text(&setting["name"]), text(&setting["value"]))).collect();
    let unique: BTreeMap<_, _> = settings.iter().cloned().collect();
    assert_eq!(unique.len(), settings.len(), "a setting is there twice");
    unique
}

fn json_file(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

#[test]
fn everything_said_about_a_resource_is_known_to_azure() {
    let types = ResourceTypes::load();
    for deployment in [deployment(), deploy(&json!({ "environmentName": "orders", "location": "westeurope" }))] {
        let faults: Vec<_> = deployment.resources.iter().flat_map(|resource| types.faults(resource)).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn each_setting_of_the_handler_is_set_or_comes_from_the_host() {
    let settings = app_settings(&deployment());
    let documented = include_str!("../../src/config.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    let documented: Vec<_> = documented.filter_map(|line| line.split('`').next()).collect();
    assert!(documented.len() > 5, "the table in src/config.rs has another form: {documented:?}");
    for name in documented {
        let is_from_the_host = name.starts_with("FUNCTIONS_") || name.starts_with("AzureFunctionsJobHost__");
        let is_connection = name.starts_with("AzureWebJobsStorage");
        assert!(is_from_the_host || is_connection || settings.contains_key(name), "{name}");
    }
}

/// What the handler makes of its environment in the Function App.
fn config(deployment: &Deployment) -> Config {
    let mut settings = app_settings(deployment);
    let by_the_platform = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "7072"),
        ("FUNCTIONS_APP_ROOT_PATH", root().to_str().unwrap()),
        ("IDENTITY_ENDPOINT", "http://localhost:8081/msi/token"),
        ("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"),
    ];
    settings.extend(by_the_platform.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Config::from_settings(&settings).unwrap()
}

#[test]
fn the_handler_understands_its_settings_and_finds_what_they_name() {
    let deployment = deployment();
    let config = config(&deployment);
    let tables = of_kind(&deployment, "Microsoft.Storage/storageAccounts/tableServices/tables");
    assert_eq!(names(&tables), BTreeSet::from([config.table]));
    let queues = names(&of_kind(&deployment, "Microsoft.Storage/storageAccounts/queueServices/queues"));
    let function = json_file("queue_with_idempotency/function.json");
    let bound = function["bindings"].as_array().unwrap().iter().map(|binding| binding["queueName"].as_str().unwrap());
    let bound: Vec<_> = bound.map(str::to_owned).collect();
    let [trigger, quarantine] = bound.as_slice() else { panic!("{bound:?}") };
    let poison = format!("{trigger}-poison");
    assert_eq!(queues, BTreeSet::from([trigger.clone(), poison, quarantine.clone(), config.events_queue]));
}

#[test]
fn host_and_handler_reach_the_account_by_the_identity_of_the_app() {
    let deployment = deployment();
    let settings = app_settings(&deployment);
    assert!(!settings.contains_key("AzureWebJobsStorage"), "a connection string would win over the identity");
    for service in ["blob", "queue", "table"] {
        let endpoint = format!("https://stabcdefghijklm.{service}.core.windows.net/");
        assert_eq!(settings[&format!("AzureWebJobsStorage__{service}ServiceUri")], endpoint);
    }
    assert_eq!(settings["AzureWebJobsStorage__credential"], "managedidentity");
    let id = "client of id-abcdefghijklm";
    assert_eq!(settings["AzureWebJobsStorage__clientId"], id);
    let AccountSettings::Keyless(endpoints, identity) = config(&deployment).account else { panic!("it has a key") };
    assert_eq!(identity, Identity::Managed { client_id: Some(id.to_owned()) });
    assert_eq!(endpoints.tables.host_str(), Some("stabcdefghijklm.table.core.windows.net"));
    assert_eq!(endpoints.queues.host_str(), Some("stabcdefghijklm.queue.core.windows.net"));
    let connections = ["queue_with_idempotency/function.json"].map(json_file);
    for binding in connections.iter().flat_map(|function| function["bindings"].as_array().unwrap()) {
        assert_eq!(binding["connection"], "AzureWebJobsStorage");
    }
    let account = &only(&deployment, "Microsoft.Storage/storageAccounts").body["properties"];
    assert_eq!((&account["allowSharedKeyAccess"], &account["allowBlobPublicAccess"]), (&json!(false), &json!(false)));
    assert_eq!(account["supportsHttpsTrafficOnly"], true);
}

/// What Flex Consumption does not accept: <https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan>.
#[test]
fn the_app_is_a_custom_handler_on_flex_consumption() {
    let deployment = deployment();
    let app = &only(&deployment, "Microsoft.Web/sites").body;
    let config = &app["properties"]["functionAppConfig"];
    assert_eq!(config["runtime"], json!({ "name": "custom", "version": "1.0" }));
    assert_eq!(only(&deployment, "Microsoft.Web/serverfarms").body["sku"]["name"], "FC1");
    assert_eq!(app["identity"]["type"], "UserAssigned");
    let identity = "Microsoft.ManagedIdentity/userAssignedIdentities:id-abcdefghijklm";
    assert!(app["identity"]["userAssignedIdentities"].get(identity).is_some());
    let storage = &config["deployment"]["storage"];
    assert_eq!(storage["authentication"]["userAssignedIdentityResourceId"], identity);
    let container = only(&deployment, "Microsoft.Storage/storageAccounts/blobServices/containers").name();
    assert_eq!(storage["value"], format!("https://stabcdefghijklm.blob.core.windows.net/{container}"));
    for name in ["ftpsState", "linuxFxVersion"] {
        assert!(app["properties"]["siteConfig"].get(name).is_none(), "{name}");
    }
    for name in app_settings(&deployment).keys() {
        let is_refused = ["FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "ENABLE_ORYX_BUILD"];
        let is_refused =
            is_refused.contains(&name.as_str()) || ["WEBSITE_", "SCM_"].iter().any(|own| name.starts_with(own));
        assert!(!is_refused, "{name}");
        assert!(!name.contains(':'), "{name}: Linux has no such names");
    }
}

/// Principal, role and scope of every assignment.
fn rights(deployment: &Deployment) -> BTreeSet<(String, String, String)> {
    let assignments = of_kind(deployment, "Microsoft.Authorization/roleAssignments");
    let right = |resource: &&Resource| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let properties = &resource.body["properties"];
        let role = text(&properties["roleDefinitionId"]);
        let role = role.strip_prefix("Microsoft.Authorization/roleDefinitions:").unwrap().to_owned();
        (text(&properties["principalId"]), role, text(&resource.body["scope"]["id"]))
    };
    let rights: BTreeSet<_> = assignments.iter().map(right).collect();
    assert_eq!(rights.len(), assignments.len(), "a right is given twice");
    assert_eq!(names(&assignments).len(), assignments.len(), "two assignments have the same name");
    rights
}

fn queue(name: &str) -> String {
    format!("Microsoft.Storage/storageAccounts/queueServices/queues:stabcdefghijklm/default/{name}")
}

#[test]
fn everybody_may_do_what_they_have_to_and_nothing_else() {
    let insights = "Microsoft.Insights/components:appi-abcdefghijklm".to_owned();
    let table = "Microsoft.Storage/storageAccounts/tableServices/tables:stabcdefghijklm/default/idempotency".to_owned();
    let (user, pipeline) = ("the-deployer", "principal of id-deploy-abcdefghijklm");
    let app = "Microsoft.Web/sites:func-abcdefghijklm".to_owned();
    let expected = [
        (APP, BLOB_OWNER, ACCOUNT.to_owned()),
        (APP, QUEUE_CONTRIBUTOR, queue("orders")),
        (APP, QUEUE_SENDER, queue("orders-poison")),
        (APP, QUEUE_SENDER, queue("orders-quarantine")),
        (APP, QUEUE_SENDER, queue("order-events")),
        (APP, TABLE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (APP, METRICS_PUBLISHER, insights),
        (user, QUEUE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (user, TABLE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (pipeline, WEBSITE_CONTRIBUTOR, app),
        (pipeline, READER, "Microsoft.Web/serverfarms:plan-func-abcdefghijklm".to_owned()),
        (pipeline, QUEUE_SENDER, queue("orders")),
        (pipeline, TABLE_READER, table),
    ];
    let expected: BTreeSet<_> =
        expected.into_iter().map(|(principal, role, scope)| (principal.to_owned(), role.to_owned(), scope)).collect();
    assert_eq!(rights(&deployment()), expected);
}

#[test]
fn what_is_not_asked_for_is_not_deployed() {
    let parameters = json!({ "environmentName": "orders", "location": "westeurope", "userPrincipalId": "" });
    let deployment = deploy(&parameters);
    assert!(rights(&deployment).iter().all(|(principal, ..)| principal == APP));
    let kinds: BTreeSet<_> = deployment.resources.iter().map(Resource::short_kind).collect();
    assert!(!kinds.contains("Microsoft.Insights/actionGroups"));
    assert_eq!(of_kind(&deployment, "Microsoft.ManagedIdentity/userAssignedIdentities").len(), 1);
    assert_eq!(deployment.outputs["AZURE_CLIENT_ID"], "");
    for rule in of_kind(&deployment, "Microsoft.Insights/scheduledQueryRules") {
        assert_eq!(rule.body["properties"]["actions"]["actionGroups"], json!([]));
    }
}

/// The alerts read the log, so they are worth as much as the lines that they look for.
#[test]
fn the_alerts_look_for_lines_that_are_written() {
    let deployment = deployment();
    let queries: Vec<_> = of_kind(&deployment, "Microsoft.Insights/scheduledQueryRules")
        .into_iter()
        .map(|rule| rule.body["properties"]["criteria"]["allOf"][0]["query"].as_str().unwrap().to_owned())
        .collect();
    let [poison, quarantine] = queries.as_slice() else { panic!("{queries:?}") };
    // The host's words: Message has reached MaxDequeueCount of 5. Moving message to queue 'orders-poison'.
    assert_eq!(poison, "traces | where message contains \"Moving message to queue 'orders-poison'\"");
    let (app, logging) = (include_str!("../../src/app.rs"), include_str!("../../src/logging.rs"));
    assert!(quarantine.contains("message startswith \"WARN\"") && logging.contains(r#"format!("{level} {line}")"#));
    assert!(quarantine.contains("\" reason=\"") && app.contains(r#"warn!("{} reason={}""#));
    assert!(quarantine.contains("\"function=queue_with_idempotency\"") && logging.contains(" function={function} "));
    let cap = &only(&deployment, "Microsoft.OperationalInsights/workspaces").body["properties"]["workspaceCapping"];
    assert!(cap["dailyQuotaGb"].as_u64().is_some_and(|cap| cap > 0));
}

/// azd fills the parameters from its environment, and finds the app by a tag.
#[test]
fn azd_finds_what_it_needs() {
    let deployment = deployment();
    let text = fs::read_to_string(root().join("azure.yaml")).unwrap();
    let project: Value = serde_saphyr::from_str(&text).unwrap();
    let services = project["services"].as_object().unwrap();
    let (name, service) = services.iter().next().unwrap();
    let app = &only(&deployment, "Microsoft.Web/sites").body;
    assert_eq!((services.len(), app["tags"]["azd-service-name"].as_str()), (1, Some(name.as_str())));
    assert!(deployment.resources.iter().all(|resource| match resource.body.get("tags") {
        Some(tags) => tags["azd-env-name"] == "orders",
        None => !resource.body.contains_key("location"),
    }));
    assert_eq!((&service["host"], &service["language"]), (&json!("function"), &json!("custom")));
    // azd takes it relative to the folder in which it runs.
    assert_eq!((&service["project"], &service["dist"]), (&json!("."), &json!("dist/handler.zip")));
    assert_eq!(service["hooks"]["prepackage"]["run"], "cargo package-app");
    assert_eq!(project["infra"], json!({ "provider": "bicep", "path": "infra", "module": "main" }));
    let given = json_file("infra/main.parameters.json");
    let mut parameters = serde_json::Map::new();
    for (name, parameter) in given["parameters"].as_object().unwrap() {
        let value = parameter["value"].as_str().unwrap();
        assert!(value.starts_with("${") && value.ends_with('}'), "{name}: azd would not replace {value}");
        parameters.insert(name.clone(), "x".into());
    }
    deploy(&Value::Object(parameters));
}

#[test]
fn a_mistake_is_an_error_and_its_place_is_named() {
    let check = |text: &str, expected: &str| {
        let good = "param name string\noutput name string = name\n";
        let sources = Sources::of(&[("main.bicep", text), ("good.bicep", good)]);
        let error = sources.and_then(|sources| Deployment::of_sources(&sources, &json!({}))).err().unwrap();
        assert!(error.contains(expected) && error.contains("main.bicep:"), "{text}: {error}");
    };
    check("param x string = {\n", "this is not Bicep");
    check("output x string = nowhere\n", "this name is not declared");
    check("output x string = frob('a')\n", "frob() is not known");
    check("module m 'good.bicep' = {\n  params: {}\n}\n", "the parameter name of good.bicep is not given");
    check("module m 'good.bicep' = {\n  params: { name: 'a', b: 'c' }\n}\n", "good.bicep has no parameter b");
    check("module m 'good.bicep' = {\n  parms: { name: 'a' }\n}\n", "a module has no parms");
    check(
        "module m 'good.bicep' = {\n  params: { name: 'a' }\n}\noutput x string = m.outputs.nam\n",
        "there is no nam",
    );
    check("resource r 'A/b@1' existing = {\n  name: 'x'\n}\n", "nothing deploys A/b:x");
    check("var v = { a: 1, a: 2 }\noutput x object = v\n", "it is there twice");
}

#[test]
fn a_property_that_azure_does_not_know_is_a_fault() {
    let check = |body: &str, expected: &str| {
        let text = format!("resource r 'Microsoft.Storage/storageAccounts@2025-06-01' = {{\n  name: 'x'\n{body}}}\n");
        let sources = Sources::of(&[("main.bicep", &text)]).unwrap();
        let deployment = Deployment::of_sources(&sources, &json!({})).unwrap();
        let faults = ResourceTypes::load().faults(&deployment.resources[0]).join("; ");
        assert!(faults.contains(expected), "{body}: {faults}");
    };
    let good = "  location: 'x'\n  kind: 'StorageV2'\n  sku: { name: 'Standard_LRS' }\n";
    check("  kind: 'StorageV2'\n  sku: { name: 'Standard_LRS' }\n", "/location is missing");
    check(&format!("{good}  color: 'red'\n"), "/color is not known");
    check(&good.replace("Standard_LRS", "Standard_XRS"), "/sku/name is \"Standard_XRS\", not one of");
    check(
        &format!("{good}  properties: {{ allowSharedKeyAcess: false }}\n"),
        "/properties/allowSharedKeyAcess is not known",
    );
    check(&format!("{good}  properties: {{ allowSharedKeyAccess: 'no' }}\n"), "is \"no\", not bool");
    check(
        &format!("{good}  properties: {{ networkAcls: {{ ipRules: [{{ valu: '1' }}] }} }}\n"),
        "ipRules/0/valu is not known",
    );
}
