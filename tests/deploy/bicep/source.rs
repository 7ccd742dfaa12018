//! The files, parsed.

use std::{collections::BTreeMap, fs, path::Path};

use tree_sitter::{Node, Parser, Tree};

use super::Result;

/// All files of a folder, by name.
pub(crate) struct Sources(BTreeMap<String, Source>);

/// One file.
pub(crate) struct Source {
    pub(crate) name: String,
    text: String,
    tree: Tree,
}

impl Sources {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut sources = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".bicep") {
                let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
                sources.insert(name.clone(), Source::parse(name, text)?);
            }
        }
        Ok(Self(sources))
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Result<Self> {
        let parse = |(name, text): &(&str, &str)| Ok(((*name).to_owned(), Source::parse(*name, *text)?));
        files.iter().map(parse).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Source> {
        self.0.get(name).ok_or_else(|| format!("there is no {name}"))
    }
}

impl Source {
    fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self> {
        let (name, text) = (name.into(), text.into());
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_bicep::LANGUAGE.into()).map_err(|error| error.to_string())?;
        let tree = parser.parse(&text, None).ok_or("the parser gave up")?;
        let source = Self { name, text, tree };
        match source.fault(source.tree.root_node()) {
            None => Ok(source),
            Some(node) => Err(source.error(node, "this is not Bicep")),
        }
    }

    /// The innermost node that the grammar does not allow.
    fn fault<'tree>(&self, node: Node<'tree>) -> Option<Node<'tree>> {
        if !node.has_error() && !node.is_missing() {
            return None;
        }
        children(node).into_iter().find_map(|child| self.fault(child)).or(Some(node))
    }

    pub(crate) fn text(&self, node: Node<'_>) -> &str {
        &self.text[node.byte_range()]
    }

    /// The declarations of a kind.
    pub(crate) fn declarations(&self, kind: &str) -> Vec<Node<'_>> {
        children(self.tree.root_node()).into_iter().filter(|node| node.kind() == kind).collect()
    }

    /// The name of a declaration.
    pub(crate) fn declared_name(&self, declaration: Node<'_>) -> &str {
        children(declaration)
            .into_iter()
            .find(|child| child.kind() == "identifier")
            .map_or("", |child| self.text(child))
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Node<'_>> {
        self.declarations(kind).into_iter().find(|node| self.declared_name(*node) == name)
    }

    pub(crate) fn error(&self, node: Node<'_>, text: impl std::fmt::Display) -> String {
        let start = self.text(node).lines().next().unwrap_or_default();
        format!("{}:{}: {text}: {start}", self.name, node.start_position().row + 1)
    }
}

pub(crate) fn children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.children(&mut cursor).collect()
}

/// Without punctuation and comments.
pub(crate) fn named(node: Node<'_>) -> Vec<Node<'_>> {
    children(node).into_iter().filter(|child| child.is_named() && child.kind() != "comment").collect()
}

/// What a declaration or a property is set to.
pub(crate) fn assigned(node: Node<'_>) -> Option<Node<'_>> {
    let is_set = children(node).iter().any(|child| matches!(child.kind(), "=" | ":"));
    let last = children(node).into_iter().rfind(|child| child.kind() != "comment");
    last.filter(|_| is_set)
}
