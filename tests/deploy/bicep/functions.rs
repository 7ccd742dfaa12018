//! The functions of the language that the files use. What depends on the subscription is made up.
//! <https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions>

use serde_json::{Value, json};

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("deployer", []) => Ok(json!({ "objectId": "the-deployer" })),
        ("subscription", []) => Ok(json!({ "id": "/subscriptions/s", "subscriptionId": "s" })),
        ("tenant", []) => Ok(json!({ "tenantId": "t" })),
        ("toLower", [Value::String(text)]) => Ok(text.to_lowercase().into()),
        // Thirteen characters, always.
        ("uniqueString", [_, ..]) => Ok("abcdefghijklm".into()),
        ("guid", [_, ..]) => Ok(format!("guid({})", texts(arguments)?.join(",")).into()),
        ("subscriptionResourceId", [Value::String(kind), Value::String(name)]) => Ok(format!("{kind}:{name}").into()),
        ("empty", [Value::String(text)]) => Ok(text.is_empty().into()),
        ("empty", [Value::Array(list)]) => Ok(list.is_empty().into()),
        ("union", [Value::Object(one), Value::Object(other)]) => {
            Ok(Value::Object(one.clone().into_iter().chain(other.clone()).collect()))
        }
        _ => Err(format!("{name}() is not known with these arguments")),
    }
}

fn texts(values: &[Value]) -> Result<Vec<&str>, String> {
    values.iter().map(|value| value.as_str().ok_or_else(|| format!("{value} is no string"))).collect()
}
