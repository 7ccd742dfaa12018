//! Modules, and what each has to wait for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tree_sitter::Node;

use super::{
    Result,
    evaluate::{Locals, Unit},
    source::{assigned, named},
};

const MODULE: [&str; 4] = ["dependsOn", "name", "params", "scope"];

/// One use of a module.
pub(crate) struct Module {
    pub(crate) name: String,
    /// What it is deployed into; null when it does not say.
    pub(crate) scope: Value,
    /// The modules that it says it depends on, or uses an output of.
    pub(crate) waits_for: BTreeSet<String>,
}

impl Unit<'_> {
    /// The module that is declared, unless its condition does not hold.
    pub(super) fn module(&self, declaration: Node<'_>) -> Result<Option<Module>> {
        let Some((node, body)) = self.module_body(declaration)? else { return Ok(None) };
        let mut waits_for = BTreeSet::new();
        self.modules_in(node, &mut waits_for);
        let name = self.source.declared_name(declaration).to_owned();
        Ok(Some(Module { name, scope: body.get("scope").cloned().unwrap_or_default(), waits_for }))
    }

    /// Collects the modules that an expression names.
    fn modules_in(&self, node: Node<'_>, found: &mut BTreeSet<String>) {
        let parts = match node.kind() {
            // Neither the name of a property nor that of a member is the name of a module.
            "object_property" => assigned(node).into_iter().collect(),
            "member_expression" => named(node).into_iter().take(1).collect(),
            _ => named(node),
        };
        let name = self.source.text(node);
        if node.kind() == "identifier" && self.source.find("module_declaration", name).is_some() {
            found.insert(name.to_owned());
        }
        parts.into_iter().for_each(|part| self.modules_in(part, found));
    }

    fn module_body<'tree>(&self, declaration: Node<'tree>) -> Result<Option<(Node<'tree>, Map<String, Value>)>> {
        let mut body = assigned(declaration).ok_or_else(|| self.source.error(declaration, "it has no body"))?;
        if body.kind() == "if_statement" {
            let Some(inner) = self.if_true(body)? else { return Ok(None) };
            body = inner;
        }
        let Value::Object(values) = self.evaluate(body, &Locals::new())? else {
            return Err(self.source.error(declaration, "this is no object"));
        };
        match values.keys().find(|name| !MODULE.contains(&name.as_str())) {
            Some(unknown) => Err(self.source.error(declaration, format_args!("a module has no {unknown}"))),
            None => Ok(Some((body, values))),
        }
    }

    /// Does something in a module, unless its condition does not hold.
    pub(super) fn in_module(&self, declaration: Node<'_>, act: impl FnOnce(&Unit<'_>) -> Result<()>) -> Result<()> {
        let parts = named(declaration);
        let file =
            parts.iter().find(|part| part.kind() == "string").map(|file| self.source.text(*file).trim_matches('\''));
        let Some((_, body)) = self.module_body(declaration)? else { return Ok(()) };
        let parameters = body.get("params").and_then(Value::as_object).cloned().unwrap_or_default();
        let source = self.sources.get(file.unwrap_or_default())?;
        let unit = Unit { sources: self.sources, source, parameters: &parameters };
        unit.check_parameters().map_err(|error| self.source.error(declaration, error))?;
        act(&unit)
    }

    /// What an expression sees of a module; nothing when its condition does not hold.
    pub(super) fn outputs(&self, declaration: Node<'_>) -> Result<Value> {
        let mut value = Value::Null;
        self.in_module(declaration, |unit| {
            value = json!({ "outputs": unit.all_outputs()? });
            Ok(())
        })?;
        Ok(value)
    }
}
