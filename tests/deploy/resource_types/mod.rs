//! The properties of each type of resource: `resource_types.json`, which `generate.py` makes of Microsoft's libraries.

use serde_json::{Map, Value};

use crate::bicep::Resource;

const TYPES: &str = include_str!("resource_types.json");
/// The properties that Bicep itself gives a meaning.
const LANGUAGE: [&str; 3] = ["dependsOn", "name", "scope"];

/// The types of resources, and the models that they consist of.
pub(crate) struct ResourceTypes {
    resources: Value,
    models: Value,
}

impl ResourceTypes {
    pub(crate) fn load() -> Self {
        let mut types: Value = serde_json::from_str(TYPES).unwrap();
        Self { resources: types["resources"].take(), models: types["models"].take() }
    }

    /// Says whether a type is described in the version that is named with it.
    pub(crate) fn describes(&self, versioned_type: &str) -> bool {
        self.resources[versioned_type].is_string()
    }

    /// Lists everything in a resource that Azure would not know.
    pub(crate) fn faults(&self, resource: &Resource) -> Vec<String> {
        let Some(model) = self.resources[&resource.versioned_type].as_str() else {
            return vec![format!("{}: {} is not described", resource.place, resource.versioned_type)];
        };
        let mut body = resource.body.clone();
        body.retain(|name, _| !LANGUAGE.contains(&name.as_str()));
        let faults = self.of_model(&self.models[model], &body, "");
        faults.into_iter().map(|fault| format!("{}: {fault}", resource.place)).collect()
    }

    fn of_model(&self, model: &Value, values: &Map<String, Value>, path: &str) -> Vec<String> {
        let required = model["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing =
            required.filter(|name| !values.contains_key(*name)).map(|name| format!("{path}/{name} is missing"));
        let wrong = values.iter().flat_map(|(name, value)| {
            let path = format!("{path}/{name}");
            match model["properties"].get(name) {
                Some(kind) => self.of_value(kind, value, &path),
                None => vec![format!("{path} is not known")],
            }
        });
        missing.chain(wrong).collect()
    }

    fn of_value(&self, kind: &Value, value: &Value, path: &str) -> Vec<String> {
        match (kind, value) {
            (Value::Object(_), Value::Object(values)) => self.of_model(kind, values, path),
            (Value::Array(known), value) if known.contains(value) => vec![],
            (Value::Array(_), _) => vec![format!("{path} is {value}, not one of {kind}")],
            (Value::String(kind), _) => self.of_named(kind, value, path),
            _ => vec![format!("{path} is {value}, which is no object")],
        }
    }

    fn of_named(&self, kind: &str, value: &Value, path: &str) -> Vec<String> {
        let inner = Value::String(kind.trim_matches(['[', ']', '{', '}']).to_owned());
        let of_member = |name: &dyn std::fmt::Display, value| self.of_value(&inner, value, &format!("{path}/{name}"));
        match value {
            Value::Array(items) if kind.starts_with('[') => {
                items.iter().enumerate().flat_map(|(index, item)| of_member(&index, item)).collect()
            }
            Value::Object(values) if kind.starts_with('{') => {
                values.iter().flat_map(|(name, value)| of_member(name, value)).collect()
            }
            Value::Object(values) if self.models.get(kind).is_some() => self.of_model(&self.models[kind], values, path),
            _ if is_primitive(kind, value) => vec![],
            _ => vec![format!("{path} is {value}, not {kind}")],
        }
    }
}

fn is_primitive(kind: &str, value: &Value) -> bool {
    match kind {
        "str" => value.is_string(),
        "bool" => value.is_boolean(),
        "int" | "long" => value.is_i64(),
        "float" => value.is_number(),
        "object" => true,
        "duration" => value.as_str().is_some_and(|text| text.starts_with('P')),
        "iso-8601" => value.is_string(),
        _ => false,
    }
}
