//! The functions of the language that the files use. What depends on the subscription is made up.
//! <https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions>

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Result;

/// Calls a function; `app_settings` are those that the app has before the deployment.
pub(super) fn call(name: &str, arguments: &[Value], app_settings: &Map<String, Value>) -> Result<Value> {
    match (name, arguments) {
        ("deployer", []) => Ok(json!({ "objectId": "the-deployer" })),
        ("subscription", []) => Ok(json!({ "id": "/subscriptions/s", "subscriptionId": "s" })),
        ("tenant", []) => Ok(json!({ "tenantId": "t" })),
        ("toLower", [Value::String(text)]) => Ok(text.to_lowercase().into()),
        ("replace", [Value::String(text), Value::String(old), Value::String(new)]) => Ok(text.replace(old, new).into()),
        ("uniqueString", [_, ..]) => Ok(unique_string(arguments).into()),
        ("list", [Value::String(id), Value::String(_)]) if id.ends_with("/config/appsettings") => {
            Ok(json!({ "properties": app_settings }))
        }
        ("guid", [_, ..]) if arguments.iter().all(Value::is_string) => {
            Ok(format!("guid({})", Value::from(arguments)).into())
        }
        ("subscriptionResourceId", [Value::String(resource_type), Value::String(name)]) => {
            Ok(format!("{resource_type}:{name}").into())
        }
        ("empty", [Value::String(text)]) => Ok(text.is_empty().into()),
        ("union", [Value::Object(_), ..]) => Ok(arguments
            .iter()
            .filter_map(Value::as_object)
            .flatten()
            .map(|(name, value)| (name, value.clone()))
            .collect()),
        _ => Err(format!("{name}() is not known with these arguments")),
    }
}

/// Returns thirteen characters that depend on all the arguments, as Azure does.
fn unique_string(arguments: &[Value]) -> String {
    let digest = Sha256::digest(Value::from(arguments).to_string());
    digest.iter().take(13).map(|byte| char::from(b'a' + byte % 26)).collect()
}
