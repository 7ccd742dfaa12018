//! `infra/*.bicep` and `azure.yaml`, held against the code and against what Azure knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use handler::{
    config::{BadSettings, Config},
    connection::{Connection, Credential, Identity},
};
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    bicep::{Deployment, Resource, Sources},
    resource_types::ResourceTypes,
    root,
};

/// With everything that can be switched on.
pub(crate) fn deployment() -> Deployment {
    deploy(&everything())
}

fn everything() -> Value {
    json!({
        "environmentName": "orders",
        "location": "westeurope",
        "alertEmail": "shop@example.com",
        "githubRepository": "example/orders",
    })
}

pub(crate) fn deploy(parameters: &Value) -> Deployment {
    Deployment::of(&root().join("infra"), parameters).unwrap()
}

/// The resources of a type, of which there has to be one.
pub(crate) fn of_type<'a>(deployment: &'a Deployment, resource_type: &str) -> Vec<&'a Resource> {
    let resources = deployment.resources.iter();
    let found: Vec<_> = resources.filter(|resource| resource.resource_type() == resource_type).collect();
    assert!(!found.is_empty(), "{resource_type}");
    found
}

pub(crate) fn only<'a>(deployment: &'a Deployment, resource_type: &str) -> &'a Resource {
    let found = of_type(deployment, resource_type);
    assert_eq!(found.len(), 1, "{resource_type}");
    found[0]
}

pub(crate) fn names(resources: &[&Resource]) -> BTreeSet<String> {
    resources.iter().map(|resource| resource.name().to_owned()).collect()
}

fn app_settings(deployment: &Deployment) -> BTreeMap<String, String> {
    let config = only(deployment, "Microsoft.Web/sites/config");
    assert_eq!(config.name(), "appsettings");
    let settings = config.body["properties"].as_object().unwrap().iter();
    settings.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
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
        for resource in &deployment.existing {
            assert!(types.describes(&resource.versioned_type), "{}: {}", resource.place, resource.versioned_type);
        }
    }
}

/// The subscription is what the files are deployed to, and nothing but the group is for it.
#[test]
fn each_module_is_deployed_into_the_group_and_after_what_it_needs() {
    let deployment = deployment();
    let group = &only(&deployment, "Microsoft.Resources/resourceGroups").id;
    let modules: BTreeMap<_, Vec<_>> = deployment
        .modules
        .iter()
        .inspect(|module| assert_eq!(module.scope["id"], **group, "{}", module.symbolic_name))
        .map(|module| (module.symbolic_name.as_str(), module.depends_on.iter().map(String::as_str).collect()))
        .collect();
    let expected = [
        ("access", vec!["identity", "monitoring", "storage"]),
        ("app", vec!["access"]),
        ("identity", vec![]),
        ("monitoring", vec![]),
        ("pipeline", vec!["app"]),
        ("storage", vec![]),
    ];
    assert_eq!(modules, BTreeMap::from(expected));
    // `what-if` skips a module that waits for an output; these are known to Azure alone.
    let text = fs::read_to_string(root().join("infra/main.bicep")).unwrap();
    let outputs = Regex::new(r"(\w+)!?\.outputs\.\w+").unwrap();
    let used: Vec<_> = outputs.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert_eq!(used, ["identity", "pipeline"]);
}

/// The settings of the Function App as the handler reads them.
fn config(deployment: &Deployment) -> Config {
    config_with(app_settings(deployment)).unwrap()
}

fn config_with(mut settings: BTreeMap<String, String>) -> Result<Config, BadSettings> {
    let by_the_platform = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "7072"),
        ("FUNCTIONS_APP_ROOT_PATH", root().to_str().unwrap()),
        ("IDENTITY_ENDPOINT", "http://localhost:8081/msi/token"),
        ("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"),
    ];
    settings.extend(by_the_platform.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Config::from_settings(&settings)
}

/// A misspelled one would be there without effect.
#[test]
fn each_setting_of_the_app_is_read_by_the_host_or_the_handler() {
    let settings = app_settings(&deployment());
    let effect = |settings: &BTreeMap<_, _>| format!("{:?}", config_with(settings.clone()));
    let is_read = |name: &str| {
        let changed = settings.clone().into_iter().chain([(name.to_owned(), "0".to_owned())]);
        effect(&changed.collect()) != effect(&settings)
    };
    let settings_of_the_host = settings.iter().filter(|(name, _)| !is_read(name));
    let expected = [
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "ClientId=client of id-jefxxitjqkfhk;Authorization=AAD"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "connection of appi-jefxxitjqkfhk"),
        // Seen to have this effect on the real host, and none with another spelling of `ApplicationInsights`.
        ("AzureFunctionsJobHost__logging__ApplicationInsights__logLevel__Function", "Warning"),
        ("AzureFunctionsJobHost__logging__ApplicationInsights__samplingSettings__excludedTypes", "Trace;Exception"),
        ("AzureWebJobsStorage__blobServiceUri", "https://stjefxxitjqkfhk.blob.core.windows.net/"),
    ];
    assert!(settings_of_the_host.map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
}

/// A shorter retention or another table would make the app forget ids.
#[test]
fn a_setting_stays_as_it_is_in_azure_unless_the_deployment_is_given_another() {
    let in_azure = [
        ("IDEMPOTENCY_TTL_HOURS", "2160"),
        ("IDEMPOTENCY_TABLE", "mine"),
        ("EVENTS_QUEUE", "mine"),
        ("RUST_LOG", "warn"),
        ("MINE", "x"),
        ("AzureWebJobsStorage__clientId", "of an identity that is gone"),
    ];
    let mut sources = Sources::read(&root().join("infra")).unwrap();
    sources.app_settings.extend(in_azure.map(|(name, value)| (name.to_owned(), value.into())));
    let mut parameters = everything();
    parameters["appSettings"] = json!({ "RUST_LOG": "info", "APPLICATIONINSIGHTS_CONNECTION_STRING": "yours" });
    let fresh = deployment();
    let mut expected = app_settings(&fresh);
    expected.extend(in_azure.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let given = [
        ("RUST_LOG", "info"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "yours"),
        ("AzureWebJobsStorage__clientId", "client of id-jefxxitjqkfhk"),
    ];
    expected.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(app_settings(&Deployment::of_sources(&sources, &parameters).unwrap()), expected);
    let site = &only(&fresh, "Microsoft.Web/sites").body["properties"]["siteConfig"];
    assert!(site.get("appSettings").is_none(), "a list in the site replaces all settings before they can be kept");
}

/// A second app beside the first would not know its records.
#[test]
fn another_spelling_of_name_and_region_is_the_same_app() {
    let app = |name, region| {
        let deployment = deploy(&json!({ "environmentName": name, "location": region }));
        only(&deployment, "Microsoft.Web/sites").name().to_owned()
    };
    let own = app("orders", "westeurope");
    for (name, region) in [("Orders", "westeurope"), ("orders", "West Europe"), ("ORDERS", "WestEurope")] {
        assert_eq!(app(name, region), own, "{name} in {region}");
    }
    assert!(app("order", "westeurope") != own && app("orders", "northeurope") != own);
}

#[test]
fn the_records_outlive_a_data_centre_and_a_slip_of_the_hand() {
    let deployment = deployment();
    let account = only(&deployment, "Microsoft.Storage/storageAccounts");
    assert_eq!(account.body["sku"]["name"], "Standard_ZRS");
    let lock = &only(&deployment, "Microsoft.Authorization/locks").body;
    assert_eq!((&lock["scope"]["id"], &lock["properties"]["level"]), (&json!(account.id), &json!("CanNotDelete")));
}

#[test]
fn the_handler_understands_its_settings_and_finds_what_they_name() {
    let deployment = deployment();
    let config = config(&deployment);
    let tables = of_type(&deployment, "Microsoft.Storage/storageAccounts/tableServices/tables");
    assert_eq!(names(&tables), BTreeSet::from([config.app.table]));
    let queues = names(&of_type(&deployment, "Microsoft.Storage/storageAccounts/queueServices/queues"));
    let trigger = config.app.trigger;
    let expected = [trigger.poison_queue(), trigger.quarantine_queue(), trigger.queue, config.app.events_queue];
    assert_eq!(queues, BTreeSet::from(expected));
}

#[test]
fn host_and_handler_reach_the_account_by_the_identity_of_the_app() {
    let deployment = deployment();
    let settings = app_settings(&deployment);
    assert!(!settings.contains_key("AzureWebJobsStorage"), "a connection string would win over the identity");
    for service in ["blob", "queue", "table"] {
        let endpoint = format!("https://stjefxxitjqkfhk.{service}.core.windows.net/");
        assert_eq!(settings[&format!("AzureWebJobsStorage__{service}ServiceUri")], endpoint);
    }
    assert_eq!(settings["AzureWebJobsStorage__credential"], "managedidentity");
    let id = "client of id-jefxxitjqkfhk";
    assert_eq!(settings["AzureWebJobsStorage__clientId"], id);
    let Connection { endpoints, credential } = config(&deployment).connection;
    let Credential::Entra(identity) = credential else { panic!("it has a key") };
    assert_eq!(identity, Identity::Managed { client_id: Some(id.to_owned()) });
    assert_eq!(endpoints.tables.host_str(), Some("stjefxxitjqkfhk.table.core.windows.net"));
    assert_eq!(endpoints.queues.host_str(), Some("stjefxxitjqkfhk.queue.core.windows.net"));
    for binding in json_file("queue_with_idempotency/function.json")["bindings"].as_array().unwrap() {
        assert_eq!(binding["connection"], "AzureWebJobsStorage");
    }
    let account = &only(&deployment, "Microsoft.Storage/storageAccounts").body["properties"];
    assert_eq!((&account["allowSharedKeyAccess"], &account["allowBlobPublicAccess"]), (&json!(false), &json!(false)));
    assert_eq!(account["supportsHttpsTrafficOnly"], true);
}

/// Some settings are refused by Flex Consumption: <https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan>.
#[test]
fn the_app_is_a_custom_handler_on_flex_consumption() {
    let deployment = deployment();
    let app = &only(&deployment, "Microsoft.Web/sites").body;
    let config = &app["properties"]["functionAppConfig"];
    assert_eq!(config["runtime"], json!({ "name": "custom", "version": "1.0" }));
    assert_eq!(only(&deployment, "Microsoft.Web/serverfarms").body["sku"]["name"], "FC1");
    for refused in ["ftpsState", "linuxFxVersion"] {
        assert!(app["properties"]["siteConfig"].get(refused).is_none(), "{refused}");
    }
    assert_eq!(app["identity"]["type"], "UserAssigned");
    let identity = "Microsoft.ManagedIdentity/userAssignedIdentities:id-jefxxitjqkfhk";
    assert!(app["identity"]["userAssignedIdentities"].get(identity).is_some());
    let storage = &config["deployment"]["storage"];
    assert_eq!(
        (&storage["type"], &storage["authentication"]["type"]),
        (&json!("blobContainer"), &json!("UserAssignedIdentity"))
    );
    assert_eq!(storage["authentication"]["userAssignedIdentityResourceId"], identity);
    let container = only(&deployment, "Microsoft.Storage/storageAccounts/blobServices/containers").name();
    assert_eq!(storage["value"], format!("https://stjefxxitjqkfhk.blob.core.windows.net/{container}"));
    for name in app_settings(&deployment).keys() {
        let is_refused = ["FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "ENABLE_ORYX_BUILD"];
        let is_refused =
            is_refused.contains(&name.as_str()) || ["WEBSITE_", "SCM_"].iter().any(|own| name.starts_with(own));
        assert!(!is_refused, "{name}");
        assert!(!name.contains(':'), "{name}: Linux has no such names");
    }
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
