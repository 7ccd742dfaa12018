//! Expressions.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use tree_sitter::Node;

use super::{
    Result, functions,
    source::{Source, Sources, assigned, children, named},
};

/// A file with values for its parameters: what a name in it means follows from these.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) sources: &'a Sources,
    pub(super) source: &'a Source,
    pub(super) parameters: &'a Map<String, Value>,
}

/// The variables of the loops around an expression.
pub(super) type Locals = BTreeMap<String, Value>;

impl Unit<'_> {
    pub(super) fn evaluate(&self, node: Node<'_>, locals: &Locals) -> Result<Value> {
        let source = self.source;
        let at = |index: usize| named(node).get(index).copied().ok_or_else(|| source.error(node, "incomplete"));
        let of = |node| self.evaluate(node, locals);
        match node.kind() {
            "string" => self.string(node, locals),
            "number" => {
                source.text(node).parse::<Number>().map(Value::Number).map_err(|error| source.error(node, error))
            }
            "boolean" => Ok((source.text(node) == "true").into()),
            "null" => Ok(Value::Null),
            "array" => named(node).into_iter().map(of).collect::<Result<Vec<_>>>().map(Value::Array),
            "object" => self.object(node, locals),
            "parenthesized_expression" => of(at(0)?),
            "identifier" => self.symbol(source.text(node), locals).map_err(|error| source.error(node, error)),
            "call_expression" => {
                let arguments = named(at(1)?).into_iter().map(of).collect::<Result<Vec<_>>>()?;
                functions::call(source.text(at(0)?), &arguments).map_err(|error| source.error(node, error))
            }
            "member_expression" | "resource_expression" => {
                let member = source.text(at(1)?);
                let value = of(at(0)?)?;
                value.get(member).cloned().ok_or_else(|| source.error(node, format_args!("there is no {member}")))
            }
            "subscript_expression" => {
                let (value, index) = (of(at(0)?)?, of(at(1)?)?);
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                let item = index.and_then(|index| value.get(index));
                item.cloned().ok_or_else(|| source.error(node, "there is no such item"))
            }
            "ternary_expression" if is_true(&of(at(0)?)?) => of(at(1)?),
            "ternary_expression" => of(at(2)?),
            "unary_expression" if source.text(node).starts_with('!') => Ok((!is_true(&of(at(0)?)?)).into()),
            "for_statement" => self.each(node, locals, |node, locals| self.evaluate(node, locals)).map(Value::Array),
            kind => Err(source.error(node, format_args!("a {kind} is more than this test understands"))),
        }
    }

    fn string(&self, node: Node<'_>, locals: &Locals) -> Result<Value> {
        let mut text = String::new();
        for part in children(node) {
            match part.kind() {
                "'" => {}
                "string_content" => text.push_str(self.source.text(part)),
                "escape_sequence" => text.push_str(self.source.text(part).trim_start_matches('\\')),
                "interpolation" => {
                    // The grammar counts white space before it to the `${`.
                    let open = children(part).into_iter().next().map_or("", |open| self.source.text(open));
                    text.push_str(open.trim_end_matches("${"));
                    match named(part).first().map(|inner| self.evaluate(*inner, locals)).transpose()? {
                        Some(Value::String(inner)) => text.push_str(&inner),
                        Some(inner @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&inner.to_string()),
                        _ => return Err(self.source.error(part, "this is no text")),
                    }
                }
                kind => return Err(self.source.error(part, format_args!("{kind} in a string"))),
            }
        }
        Ok(text.into())
    }

    fn object(&self, node: Node<'_>, locals: &Locals) -> Result<Value> {
        let mut object = Map::new();
        for property in named(node) {
            let parts = named(property);
            let Some(key) = parts.first().filter(|key| key.kind() != "resource_declaration") else { continue };
            let name = match key.kind() {
                "string" => self.string(*key, locals)?.as_str().unwrap_or_default().to_owned(),
                _ => self.source.text(*key).to_owned(),
            };
            let value = assigned(property).ok_or_else(|| self.source.error(property, "it has no value"))?;
            if object.insert(name, self.evaluate(value, locals)?).is_some() {
                return Err(self.source.error(property, "it is there twice"));
            }
        }
        Ok(Value::Object(object))
    }

    /// Applies `body` to the body of a loop, for each turn.
    pub(super) fn each<T>(
        &self,
        node: Node<'_>,
        locals: &Locals,
        body: impl Fn(Node<'_>, &Locals) -> Result<T>,
    ) -> Result<Vec<T>> {
        let parts = named(node);
        let [variables, list, last] = parts.as_slice() else { return Err(self.source.error(node, "no such loop")) };
        let Value::Array(items) = self.evaluate(*list, locals)? else {
            return Err(self.source.error(*list, "no list"));
        };
        let names = if variables.kind() == "for_loop_parameters" { named(*variables) } else { vec![*variables] };
        let turn = |(index, item): (usize, Value)| {
            let values = names.iter().map(|name| self.source.text(*name).to_owned()).zip([item, index.into()]);
            let inner: Locals = locals.clone().into_iter().chain(values).collect();
            body(*last, &inner)
        };
        items.into_iter().enumerate().map(turn).collect()
    }

    fn symbol(&self, name: &str, locals: &Locals) -> Result<Value> {
        if let Some(value) = locals.get(name).or_else(|| self.parameters.get(name)) {
            return Ok(value.clone());
        }
        let none = Locals::new();
        for kind in ["variable_declaration", "parameter_declaration"] {
            if let Some(value) = self.source.find(kind, name).and_then(assigned) {
                return self.evaluate(value, &none);
            }
        }
        if let Some(resource) = self.source.find("resource_declaration", name) {
            return self.resource_value(resource);
        }
        if let Some(module) = self.source.find("module_declaration", name) {
            return self.outputs(module);
        }
        self.imported(name)?.ok_or_else(|| "this name is not declared".to_owned())
    }

    /// The value of a variable of another file.
    fn imported(&self, name: &str) -> Result<Option<Value>> {
        for import in self.source.declarations("import_functionality") {
            let parts = named(import);
            let Some((file, names)) = parts.split_last() else { continue };
            if names.iter().any(|node| self.source.text(*node) == name) {
                let file = self.string(*file, &Locals::new())?;
                let source = self.sources.get(file.as_str().unwrap_or_default())?;
                let exported = source.find("variable_declaration", name);
                exported.ok_or_else(|| format!("{} does not export {name}", source.name))?;
                let unit = Unit { source, ..*self };
                return unit.symbol(name, &Locals::new()).map(Some);
            }
        }
        Ok(None)
    }
}

pub(super) fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}
