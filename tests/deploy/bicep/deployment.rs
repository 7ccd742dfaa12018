//! Resources and modules.

use std::path::Path;

use serde_json::{Map, Value, json};
use tree_sitter::Node;

use super::{
    Result,
    evaluate::{Locals, Unit, is_true},
    modules::Module,
    source::{Sources, assigned, children, named},
};

/// What would be deployed.
pub(crate) struct Deployment {
    pub(crate) resources: Vec<Resource>,
    /// The resources that are only referred to.
    pub(crate) references: Vec<Resource>,
    pub(crate) modules: Vec<Module>,
    pub(crate) outputs: Map<String, Value>,
}

/// One resource, with the values of all its properties.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Where it is declared.
    pub(crate) place: String,
    /// Its type, with the version.
    pub(crate) kind: String,
    /// What the made-up Azure calls it: type and name, those of its parents included.
    pub(crate) id: String,
    /// True when it is only referred to.
    pub(crate) is_existing: bool,
    pub(crate) body: Map<String, Value>,
}

impl Deployment {
    /// Evaluates `main.bicep` in `folder` and everything in its modules.
    pub(crate) fn of(folder: &Path, parameters: &Value) -> Result<Self> {
        Self::of_sources(&Sources::read(folder)?, parameters)
    }

    pub(crate) fn of_sources(sources: &Sources, parameters: &Value) -> Result<Self> {
        let parameters = parameters.as_object().cloned().unwrap_or_default();
        let unit = Unit { sources, source: sources.get("main.bicep")?, parameters: &parameters };
        unit.check_parameters()?;
        let mut resources = Vec::new();
        unit.deploy(&mut resources)?;
        let (references, resources): (Vec<_>, Vec<_>) =
            resources.into_iter().partition(|resource: &Resource| resource.is_existing);
        for reference in &references {
            if !resources.iter().any(|other| other.id == reference.id) {
                return Err(format!("{}: nothing deploys {}", reference.place, reference.id));
            }
        }
        let modules = unit.source.declarations("module_declaration").into_iter().map(|module| unit.module(module));
        let modules = modules.filter_map(Result::transpose).collect::<Result<_>>()?;
        let outputs = unit.all_outputs()?;
        Ok(Self { resources, references, modules, outputs })
    }
}

impl Unit<'_> {
    fn deploy(&self, deployed: &mut Vec<Resource>) -> Result<()> {
        for declaration in self.source.declarations("resource_declaration") {
            deployed.extend(self.resources(declaration, None, &Locals::new())?);
        }
        for module in self.source.declarations("module_declaration") {
            self.in_module(module, |unit| unit.deploy(deployed))?;
        }
        Ok(())
    }

    /// The resource that is declared, or each of them, and what is nested in it.
    fn resources(&self, declaration: Node<'_>, parent: Option<&Resource>, locals: &Locals) -> Result<Vec<Resource>> {
        let body = assigned(declaration).ok_or_else(|| self.source.error(declaration, "it has no body"))?;
        let one = |body: Node<'_>, locals: &Locals| {
            let values = self.evaluate(body, locals)?;
            let resource = self.resource(declaration, values, parent)?;
            let nested = nested(body).into_iter().map(|inner| self.resources(inner, Some(&resource), locals));
            let nested: Vec<_> = nested.collect::<Result<_>>()?;
            Ok([resource].into_iter().chain(nested.into_iter().flatten()).collect::<Vec<_>>())
        };
        let found = match body.kind() {
            "for_statement" => self.each(body, locals, one)?,
            "if_statement" => self.if_true(body)?.map(|body| one(body, locals)).transpose()?.into_iter().collect(),
            _ => vec![one(body, locals)?],
        };
        Ok(found.into_iter().flatten().collect())
    }

    fn resource(&self, declaration: Node<'_>, values: Value, parent: Option<&Resource>) -> Result<Resource> {
        let Value::Object(mut body) = values else { return Err(self.source.error(declaration, "this is no object")) };
        let text = named(declaration).into_iter().find(|part| part.kind() == "string");
        let text = text.map(|text| self.source.text(text).trim_matches('\'')).unwrap_or_default();
        let kind = match parent.and_then(|parent| parent.kind.split_once('@')) {
            Some((outer, version)) => format!("{outer}/{text}@{version}"),
            None => text.to_owned(),
        };
        let outer = body.remove("parent");
        let outer = parent.map(|parent| parent.id.as_str()).or_else(|| outer.as_ref()?["id"].as_str());
        let name = body.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| self.source.error(declaration, "it has no name"))?;
        let names = match outer.and_then(|id| id.split_once(':')) {
            Some((_, names)) => format!("{names}/{name}"),
            None => name.to_owned(),
        };
        let id = format!("{}:{names}", kind.split('@').next().unwrap_or_default());
        let place = self.source.error(declaration, "resource");
        let is_existing = children(declaration).iter().any(|child| child.kind() == "existing");
        Ok(Resource { place, kind, id, is_existing, body })
    }

    /// The body behind a condition, when it holds.
    pub(super) fn if_true<'tree>(&self, node: Node<'tree>) -> Result<Option<Node<'tree>>> {
        let parts = named(node);
        let [condition, body] = parts.as_slice() else { return Err(self.source.error(node, "no condition")) };
        Ok(is_true(&self.evaluate(*condition, &Locals::new())?).then_some(*body))
    }

    /// What an expression sees of a resource: what was written, what Azure adds, and what is nested in it.
    pub(super) fn resource_value(&self, declaration: Node<'_>) -> Result<Value> {
        let all = self.resources(declaration, None, &Locals::new())?;
        let is_loop = assigned(declaration).is_some_and(|body| body.kind() == "for_statement");
        let values = all.iter().map(Resource::value);
        if is_loop {
            return Ok(Value::Array(values.collect()));
        }
        let Some(resource) = all.first() else { return Ok(Value::Null) };
        self.with_nested(declaration, resource)
    }

    fn with_nested(&self, declaration: Node<'_>, resource: &Resource) -> Result<Value> {
        let mut value = resource.value();
        for inner in assigned(declaration).map(nested).unwrap_or_default() {
            let nested = self.resources(inner, Some(resource), &Locals::new())?;
            if let Some(nested) = nested.first() {
                value[self.source.declared_name(inner)] = self.with_nested(inner, nested)?;
            }
        }
        Ok(value)
    }

    pub(super) fn all_outputs(&self) -> Result<Map<String, Value>> {
        let output = |node: Node<'_>| {
            let value = assigned(node).ok_or_else(|| self.source.error(node, "it has no value"))?;
            Ok((self.source.declared_name(node).to_owned(), self.evaluate(value, &Locals::new())?))
        };
        self.source.declarations("output_declaration").into_iter().map(output).collect()
    }

    pub(super) fn check_parameters(&self) -> Result<()> {
        let declared = self.source.declarations("parameter_declaration");
        let name = |node: &Node<'_>| self.source.declared_name(*node).to_owned();
        let is_given = |node: &&Node<'_>| self.parameters.contains_key(&name(node)) || assigned(**node).is_some();
        if let Some(missing) = declared.iter().find(|node| !is_given(node)) {
            return Err(format!("the parameter {} of {} is not given", name(missing), self.source.name));
        }
        let unknown = self.parameters.keys().find(|given| !declared.iter().any(|node| name(node) == **given));
        unknown.map_or(Ok(()), |unknown| Err(format!("{} has no parameter {unknown}", self.source.name)))
    }
}

/// The declarations inside the body of another one.
fn nested(body: Node<'_>) -> Vec<Node<'_>> {
    named(body).into_iter().flat_map(named).filter(|node| node.kind() == "resource_declaration").collect()
}

impl Resource {
    /// Its type, without the version.
    pub(crate) fn short_kind(&self) -> &str {
        self.kind.split('@').next().unwrap_or_default()
    }

    /// Its name, without those of its parents.
    pub(crate) fn name(&self) -> &str {
        self.body.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    fn value(&self) -> Value {
        let mut value = Value::Object(self.body.clone());
        value["id"] = self.id.clone().into();
        for (name, added) in self.added_by_azure() {
            value["properties"][name] = added;
        }
        value
    }

    /// The properties that are known only when it is there.
    fn added_by_azure(&self) -> Vec<(&'static str, Value)> {
        let name = self.name();
        let endpoint = |service: &str| format!("https://{name}.{service}.core.windows.net/");
        match self.short_kind() {
            "Microsoft.Storage/storageAccounts" => vec![(
                "primaryEndpoints",
                json!({ "blob": endpoint("blob"), "queue": endpoint("queue"), "table": endpoint("table") }),
            )],
            "Microsoft.ManagedIdentity/userAssignedIdentities" => vec![
                ("principalId", format!("principal of {name}").into()),
                ("clientId", format!("client of {name}").into()),
            ],
            "Microsoft.Insights/components" => vec![("ConnectionString", format!("connection of {name}").into())],
            _ => vec![],
        }
    }
}
