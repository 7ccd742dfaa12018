//! Expressions, and the names in them.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use tree_sitter::Node;

use super::{
    Result, functions,
    source::{Source, Sources, assigned, children, named_children},
};

/// A file with values for its parameters.
pub(super) struct Template<'a> {
    pub(super) sources: &'a Sources,
    pub(super) source: &'a Source,
    pub(super) parameters: Map<String, Value>,
}

/// The variables of the loop around an expression.
pub(super) type LoopVariables = BTreeMap<String, Value>;

impl<'a> Template<'a> {
    pub(super) fn evaluate(&self, node: Node<'_>, variables: &LoopVariables) -> Result<Value> {
        let source = self.source;
        let part = |index: usize| named_children(node)[index];
        let value_of = |node| self.evaluate(node, variables);
        match node.kind() {
            "string" => self.string(node, variables),
            "number" => Ok(source.text(node).parse::<Number>().unwrap().into()),
            "boolean" => Ok((source.text(node) == "true").into()),
            "array" => named_children(node).into_iter().map(value_of).collect(),
            "object" => self.object(node, variables),
            "parenthesized_expression" => value_of(part(0)),
            "identifier" => self.symbol(source.text(node), variables).map_err(|error| source.error(node, error)),
            "call_expression" => {
                let arguments = named_children(part(1)).into_iter().map(value_of).collect::<Result<Vec<_>>>()?;
                let settings = &self.sources.app_settings;
                functions::call(source.text(part(0)), &arguments, settings).map_err(|error| source.error(node, error))
            }
            "member_expression" | "resource_expression" => {
                let (value, member) = (value_of(part(0))?, source.text(part(1)));
                value.get(member).cloned().ok_or_else(|| source.error(node, format_args!("there is no {member}")))
            }
            "subscript_expression" => {
                let (value, index) = (value_of(part(0))?, value_of(part(1))?);
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                let item = index.and_then(|index| value.get(index));
                item.cloned().ok_or_else(|| source.error(node, "there is no such item"))
            }
            "ternary_expression" => value_of(part(if value_of(part(0))? == true { 1 } else { 2 })),
            "unary_expression" if source.text(node).starts_with('!') => Ok((value_of(part(0))? == false).into()),
            kind => Err(source.error(node, format_args!("a {kind} is more than this evaluates"))),
        }
    }

    fn string(&self, node: Node<'_>, variables: &LoopVariables) -> Result<Value> {
        let mut text = String::new();
        for part in children(node) {
            match part.kind() {
                // The grammar counts white space before it to a quote and to a `${`.
                "'" => text.push_str(self.source.text(part).trim_end_matches('\'')),
                "string_content" => text.push_str(self.source.text(part)),
                "escape_sequence" => text.push_str(self.source.text(part).trim_start_matches('\\')),
                "interpolation" => {
                    text.push_str(self.source.text(children(part)[0]).trim_end_matches("${"));
                    match self.evaluate(named_children(part)[0], variables)? {
                        Value::String(inner) => text.push_str(&inner),
                        _ => return Err(self.source.error(part, "this is no string")),
                    }
                }
                kind => return Err(self.source.error(part, format_args!("{kind} in a string"))),
            }
        }
        Ok(text.into())
    }

    fn object(&self, node: Node<'_>, variables: &LoopVariables) -> Result<Value> {
        let mut object = Map::new();
        for property in properties(node) {
            let name = match named_children(property)[0] {
                name if name.kind() == "string" => self.string(name, variables)?.as_str().unwrap().to_owned(),
                name => self.source.text(name).to_owned(),
            };
            let value = self.evaluate(assigned(property).unwrap(), variables)?;
            if object.insert(name, value).is_some() {
                return Err(self.source.error(property, "it is there twice"));
            }
        }
        Ok(object.into())
    }

    /// The value of a name: a variable, a parameter, a resource, a module or an import.
    fn symbol(&self, name: &str, variables: &LoopVariables) -> Result<Value> {
        if let Some(value) = variables.get(name).or_else(|| self.parameters.get(name)) {
            return Ok(value.clone());
        }
        for kind in ["variable_declaration", "parameter_declaration"] {
            if let Some(value) = self.source.find(kind, name).and_then(assigned) {
                return self.evaluate(value, &LoopVariables::new());
            }
        }
        if let Some(resource) = self.source.find("resource_declaration", name) {
            return self.resource_value(resource);
        }
        if let Some(module) = self.source.find("module_declaration", name) {
            return self.module_value(module);
        }
        self.imported(name)
    }

    /// The value of a variable of another file.
    fn imported(&self, name: &str) -> Result<Value> {
        for import in self.source.declarations("import_functionality") {
            if named_children(import).into_iter().any(|node| self.source.text(node) == name) {
                let source = self.sources.get(self.source.quoted(import))?;
                let exported = source.find("variable_declaration", name).and_then(assigned);
                let value = exported.ok_or_else(|| format!("{} does not export {name}", source.name))?;
                return self.with(source, Map::new()).evaluate(value, &LoopVariables::new());
            }
        }
        Err("this name is not declared".to_owned())
    }

    pub(super) fn with(&self, source: &'a Source, parameters: Map<String, Value>) -> Self {
        Self { sources: self.sources, source, parameters }
    }
}

/// The properties of an object, without the resources that are nested in it.
fn properties(object: Node<'_>) -> Vec<Node<'_>> {
    let is_resource = |property: &Node<'_>| named_children(*property)[0].kind() == "resource_declaration";
    named_children(object).into_iter().filter(|property| !is_resource(property)).collect()
}
