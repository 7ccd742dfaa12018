//! The functions of the language that the files use. What depends on the subscription is made up.
//! <https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions>

use serde_json::{Value, json};

use super::Result;

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    match (name, arguments) {
        ("deployer", []) => Ok(json!({ "objectId": "the-deployer" })),
        ("subscription", []) => Ok(json!({ "id": "/subscriptions/s", "subscriptionId": "s" })),
        ("tenant", []) => Ok(json!({ "tenantId": "t" })),
        ("toLower", [Value::String(text)]) => Ok(text.to_lowercase().into()),
        // Thirteen characters, always.
        ("uniqueString", [_, ..]) => Ok("abcdefghijklm".into()),
        ("guid", [_, ..]) if arguments.iter().all(Value::is_string) => {
            Ok(format!("guid({})", Value::from(arguments)).into())
        }
        ("subscriptionResourceId", [Value::String(resource_type), Value::String(name)]) => {
            Ok(format!("{resource_type}:{name}").into())
        }
        ("empty", [Value::String(text)]) => Ok(text.is_empty().into()),
        ("union", [Value::Object(one), Value::Object(other)]) => {
            Ok(one.clone().into_iter().chain(other.clone()).collect())
        }
        _ => Err(format!("{name}() is not known with these arguments")),
    }
}
