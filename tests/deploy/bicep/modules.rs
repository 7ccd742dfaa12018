//! Modules, and the modules that each has to wait for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tree_sitter::Node;

use super::{
    Result,
    expressions::{LoopVariables, Template},
    source::{assigned, named_children},
};

const PROPERTIES: [&str; 4] = ["dependsOn", "name", "params", "scope"];

/// One use of a module.
pub(crate) struct Module {
    pub(crate) symbolic_name: String,
    /// The resource group that it is deployed into; null when it names none.
    pub(crate) scope: Value,
    /// The modules that it names in `dependsOn` or uses an output of.
    pub(crate) depends_on: BTreeSet<String>,
}

impl<'a> Template<'a> {
    /// The modules whose condition holds.
    pub(super) fn modules(&self) -> Result<Vec<Module>> {
        let declarations = self.source.declarations("module_declaration").into_iter();
        declarations.filter_map(|declaration| self.module(declaration).transpose()).collect()
    }

    fn module(&self, declaration: Node<'_>) -> Result<Option<Module>> {
        let Some(body) = self.body(declaration)? else { return Ok(None) };
        let mut depends_on = BTreeSet::new();
        self.add_modules_in(body, &mut depends_on);
        let scope = self.module_properties(declaration, body)?.remove("scope").unwrap_or_default();
        Ok(Some(Module { symbolic_name: self.source.symbolic_name(declaration).to_owned(), scope, depends_on }))
    }

    /// Adds the modules that an expression names.
    fn add_modules_in(&self, node: Node<'_>, found: &mut BTreeSet<String>) {
        let parts = match node.kind() {
            // Neither the name of a property nor that of a member is the name of a module.
            "object_property" => assigned(node).into_iter().collect(),
            "member_expression" => vec![named_children(node)[0]],
            _ => named_children(node),
        };
        let name = self.source.text(node);
        if node.kind() == "identifier" && self.source.find("module_declaration", name).is_some() {
            found.insert(name.to_owned());
        }
        parts.into_iter().for_each(|part| self.add_modules_in(part, found));
    }

    fn module_properties(&self, declaration: Node<'_>, body: Node<'_>) -> Result<Map<String, Value>> {
        let Value::Object(properties) = self.evaluate(body, &LoopVariables::new())? else { unreachable!() };
        match properties.keys().find(|name| !PROPERTIES.contains(&name.as_str())) {
            Some(unknown) => Err(self.source.error(declaration, format_args!("a module has no {unknown}"))),
            None => Ok(properties),
        }
    }

    /// The file of a module with its parameters, unless its condition does not hold.
    pub(super) fn module_template(&self, declaration: Node<'_>) -> Result<Option<Self>> {
        let Some(body) = self.body(declaration)? else { return Ok(None) };
        let parameters = match self.module_properties(declaration, body)?.remove("params") {
            Some(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        let template = self.with(self.sources.get(self.source.quoted(declaration))?, parameters);
        template.check_parameters().map_err(|error| self.source.error(declaration, error))?;
        Ok(Some(template))
    }

    /// A module as an expression sees it; null when its condition does not hold.
    pub(super) fn module_value(&self, declaration: Node<'_>) -> Result<Value> {
        let template = self.module_template(declaration)?;
        template.map_or(Ok(Value::Null), |template| Ok(json!({ "outputs": template.outputs()? })))
    }

    pub(super) fn outputs(&self) -> Result<Map<String, Value>> {
        let output = |node: Node<'_>| {
            let value = self.evaluate(assigned(node).unwrap(), &LoopVariables::new())?;
            Ok((self.source.symbolic_name(node).to_owned(), value))
        };
        self.source.declarations("output_declaration").into_iter().map(output).collect()
    }

    pub(super) fn check_parameters(&self) -> Result<()> {
        let declared = self.source.declarations("parameter_declaration");
        let name = |node: &Node<'_>| self.source.symbolic_name(*node).to_owned();
        let is_given = |node: &&Node<'_>| self.parameters.contains_key(&name(node)) || assigned(**node).is_some();
        if let Some(missing) = declared.iter().find(|node| !is_given(node)) {
            return Err(format!("the parameter {} of {} is not given", name(missing), self.source.name));
        }
        let unknown = self.parameters.keys().find(|given| !declared.iter().any(|node| name(node) == **given));
        unknown.map_or(Ok(()), |unknown| Err(format!("{} has no parameter {unknown}", self.source.name)))
    }

    /// The body of a resource or a module, unless its condition does not hold.
    pub(super) fn body<'tree>(&self, declaration: Node<'tree>) -> Result<Option<Node<'tree>>> {
        let body = assigned(declaration).unwrap();
        if body.kind() != "if_statement" {
            return Ok(Some(body));
        }
        let [condition, body] = named_children(body)[..] else { unreachable!() };
        Ok((self.evaluate(condition, &LoopVariables::new())? == true).then_some(body))
    }
}
