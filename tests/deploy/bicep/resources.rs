//! Resources, and what Azure makes of them.

use serde_json::{Map, Value, json};
use tree_sitter::Node;

use super::{
    Result,
    expressions::{LoopVariables, Template},
    source::{assigned, children, named_children},
};

/// One resource, with the values of all its properties.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// The file and line of its declaration.
    pub(crate) place: String,
    /// `type@version`, as the declaration has it.
    pub(crate) versioned_type: String,
    /// Its made-up resource id: `type:name`, with the names of its parents.
    pub(crate) id: String,
    /// Whether it is `existing`: referred to, and deployed elsewhere.
    pub(crate) is_existing: bool,
    pub(crate) body: Map<String, Value>,
    /// The resources that are declared in its body, by symbolic name.
    nested: Vec<(String, Self)>,
}

impl Template<'_> {
    /// Adds all resources of the file and of its modules.
    pub(super) fn add_resources(&self, found: &mut Vec<Resource>) -> Result<()> {
        for declaration in self.source.declarations("resource_declaration") {
            self.resources(declaration, None, &LoopVariables::new())?.iter().for_each(|each| each.add_to(found));
        }
        for module in self.source.declarations("module_declaration") {
            if let Some(template) = self.module_template(module)? {
                template.add_resources(found)?;
            }
        }
        Ok(())
    }

    /// The resource that is declared: none when its condition does not hold, and one for each turn of a loop.
    fn resources(
        &self,
        declaration: Node<'_>,
        parent: Option<&Resource>,
        variables: &LoopVariables,
    ) -> Result<Vec<Resource>> {
        let Some(body) = self.body(declaration)? else { return Ok(vec![]) };
        let turns = match body.kind() {
            "for_statement" => self.turns(body, variables)?,
            _ => vec![(body, variables.clone())],
        };
        let resource = |(body, variables): (Node<'_>, LoopVariables)| {
            let mut resource = self.resource(declaration, self.evaluate(body, &variables)?, parent)?;
            for inner in named_children(body).into_iter().flat_map(named_children) {
                if inner.kind() == "resource_declaration" {
                    let nested = self.resources(inner, Some(&resource), &variables)?;
                    let name = self.source.symbolic_name(inner);
                    resource.nested.extend(nested.into_iter().map(|nested| (name.to_owned(), nested)));
                }
            }
            Ok(resource)
        };
        turns.into_iter().map(resource).collect()
    }

    /// The body of a loop, with the variables of each turn.
    fn turns<'tree>(
        &self,
        statement: Node<'tree>,
        variables: &LoopVariables,
    ) -> Result<Vec<(Node<'tree>, LoopVariables)>> {
        let [names, list, body] = named_children(statement)[..] else { unreachable!() };
        let names = if names.kind() == "for_loop_parameters" { named_children(names) } else { vec![names] };
        let Value::Array(items) = self.evaluate(list, variables)? else {
            return Err(self.source.error(list, "this is no array"));
        };
        let turn = |(index, item): (usize, Value)| {
            let names = names.iter().map(|name| self.source.text(*name).to_owned());
            (body, names.zip([item, index.into()]).collect())
        };
        Ok(items.into_iter().enumerate().map(turn).collect())
    }

    fn resource(&self, declaration: Node<'_>, body: Value, parent: Option<&Resource>) -> Result<Resource> {
        let Value::Object(mut body) = body else { return Err(self.source.error(declaration, "this is no object")) };
        let quoted = self.source.quoted(declaration);
        let versioned_type = match parent.and_then(|parent| parent.versioned_type.split_once('@')) {
            Some((outer, version)) => format!("{outer}/{quoted}@{version}"),
            None => quoted.to_owned(),
        };
        let named_parent = body.remove("parent");
        let outer = parent.map(|parent| parent.id.as_str()).or_else(|| named_parent.as_ref()?["id"].as_str());
        let name = body.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| self.source.error(declaration, "it has no name"))?;
        let outer_names = outer.and_then(|id| id.split_once(':')).map(|(_, names)| format!("{names}/"));
        let names = outer_names.unwrap_or_default() + name;
        Ok(Resource {
            place: self.source.place(declaration),
            id: format!("{}:{names}", versioned_type.split('@').next().unwrap()),
            versioned_type,
            is_existing: children(declaration).iter().any(|child| child.kind() == "existing"),
            body,
            nested: vec![],
        })
    }

    /// A resource as an expression sees it, an array of them for a loop; null when its condition does not hold.
    pub(super) fn resource_value(&self, declaration: Node<'_>) -> Result<Value> {
        let resources = self.resources(declaration, None, &LoopVariables::new())?;
        let mut values = resources.iter().map(Resource::value);
        let is_loop = assigned(declaration).unwrap().kind() == "for_statement";
        Ok(if is_loop { values.collect() } else { values.next().unwrap_or_default() })
    }
}

impl Resource {
    /// Its type, without the version.
    pub(crate) fn resource_type(&self) -> &str {
        self.versioned_type.split('@').next().unwrap()
    }

    /// Its name, without those of its parents.
    pub(crate) fn name(&self) -> &str {
        self.body["name"].as_str().unwrap()
    }

    fn add_to(&self, found: &mut Vec<Self>) {
        found.push(self.clone());
        self.nested.iter().for_each(|(_, nested)| nested.add_to(found));
    }

    fn value(&self) -> Value {
        let mut value = Value::Object(self.body.clone());
        value["id"] = self.id.clone().into();
        for (name, added) in self.added_by_azure() {
            value["properties"][name] = added;
        }
        for (symbolic_name, nested) in &self.nested {
            value[symbolic_name] = nested.value();
        }
        value
    }

    /// The properties that are known only when it is there.
    fn added_by_azure(&self) -> Vec<(&'static str, Value)> {
        let name = self.name();
        let endpoint = |service: &str| format!("https://{name}.{service}.core.windows.net/");
        match self.resource_type() {
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
