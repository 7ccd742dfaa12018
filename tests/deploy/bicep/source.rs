//! The files, parsed.

use std::{collections::BTreeMap, fmt::Display, fs, path::Path};

use serde_json::{Map, Value};
use tree_sitter::{Node, Parser, Tree};

use super::Result;

/// All files of a folder.
pub(crate) struct Sources {
    /// By name.
    files: BTreeMap<String, Source>,
    /// The settings that the app has before the deployment.
    pub(crate) app_settings: Map<String, Value>,
}

/// One file.
pub(crate) struct Source {
    pub(crate) name: String,
    text: String,
    tree: Tree,
}

impl Sources {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = paths.filter_map(|path| {
            let name = path.file_name()?.to_str().filter(|name| name.ends_with(".bicep"))?;
            Some((name.to_owned(), fs::read_to_string(&path).unwrap()))
        });
        Self::parse(files)
    }

    /// Parses files, given as names and texts.
    pub(crate) fn parse(files: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let sources = files.into_iter().map(|(name, text)| Ok((name.clone(), Source::parse(name, text)?)));
        Ok(Self { files: sources.collect::<Result<_>>()?, app_settings: Map::new() })
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Source> {
        self.files.get(name).ok_or_else(|| format!("there is no {name}"))
    }
}

impl Source {
    fn parse(name: String, text: String) -> Result<Self> {
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_bicep::LANGUAGE.into()).unwrap();
        let tree = parser.parse(&text, None).unwrap();
        let source = Self { name, text, tree };
        match syntax_error(source.tree.root_node()) {
            None => Ok(source),
            Some(node) => Err(source.error(node, "this is not Bicep")),
        }
    }

    pub(crate) fn text(&self, node: Node<'_>) -> &str {
        &self.text[node.byte_range()]
    }

    /// The declarations of a kind, such as `resource_declaration`.
    pub(crate) fn declarations(&self, kind: &str) -> Vec<Node<'_>> {
        children(self.tree.root_node()).into_iter().filter(|node| node.kind() == kind).collect()
    }

    pub(crate) fn find(&self, kind: &str, symbolic_name: &str) -> Option<Node<'_>> {
        self.declarations(kind).into_iter().find(|node| self.symbolic_name(*node) == symbolic_name)
    }

    /// The name of a declaration in its file.
    pub(crate) fn symbolic_name(&self, declaration: Node<'_>) -> &str {
        let name = named_children(declaration).into_iter().find(|child| child.kind() == "identifier");
        self.text(name.unwrap())
    }

    /// The string behind the name of a declaration: the type of a resource, the file of a module.
    pub(crate) fn quoted(&self, declaration: Node<'_>) -> &str {
        let string = named_children(declaration).into_iter().find(|child| child.kind() == "string");
        self.text(string.unwrap()).trim_matches('\'')
    }

    pub(crate) fn error(&self, node: Node<'_>, problem: impl Display) -> String {
        format!("{}: {problem}: {}", self.place(node), self.text(node).lines().next().unwrap_or_default())
    }

    pub(crate) fn place(&self, node: Node<'_>) -> String {
        format!("{}:{}", self.name, node.start_position().row + 1)
    }
}

/// The innermost node that the grammar does not allow.
fn syntax_error(node: Node<'_>) -> Option<Node<'_>> {
    let is_wrong = node.has_error() || node.is_missing();
    is_wrong.then(|| children(node).into_iter().find_map(syntax_error).unwrap_or(node))
}

pub(crate) fn children(node: Node<'_>) -> Vec<Node<'_>> {
    node.children(&mut node.walk()).collect()
}

/// Without punctuation and comments.
pub(crate) fn named_children(node: Node<'_>) -> Vec<Node<'_>> {
    node.named_children(&mut node.walk()).filter(|child| child.kind() != "comment").collect()
}

/// The right side of a declaration or a property; a parameter may have none.
pub(crate) fn assigned(node: Node<'_>) -> Option<Node<'_>> {
    let is_assigned = children(node).iter().any(|child| matches!(child.kind(), "=" | ":"));
    named_children(node).pop().filter(|_| is_assigned)
}
