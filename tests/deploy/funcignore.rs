//! `.funcignore` as git would read it, which is how most tools do, and as Core Tools do.

use std::{collections::BTreeSet, fs};

use ignore::{WalkBuilder, gitignore::GitignoreBuilder};
use regex::Regex;

use crate::root;

/// Files that lie about in a folder that somebody works in.
const CLUTTER: [&str; 14] = [
    ".azure/dev/.env",
    ".env",
    ".vscode/settings.json",
    "__azurite_db_table__.json",
    "__queuestorage__/c0ffee",
    "azurite/debug.log",
    "bin/tool",
    "dev/handler",
    "dist/handler.zip",
    "infra/host.json",
    "local.settings.json",
    "node_modules/azurite/package.json",
    "src/queue_with_idempotency/function.json",
    "target/debug/handler",
];
/// Too large to walk through.
const SKIPPED: [&str; 4] = [".git", "dist", "node_modules", "target"];

fn files() -> BTreeSet<String> {
    let is_walked = |name: &std::ffi::OsStr| !SKIPPED.iter().any(|skipped| name == *skipped);
    let mut walk = WalkBuilder::new(root());
    walk.standard_filters(false).filter_entry(move |entry| is_walked(entry.file_name()));
    let files = walk.build().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
    let relative = files.map(|entry| entry.path().strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
    relative.chain(CLUTTER.map(str::to_owned)).chain(["handler".to_owned()]).collect()
}

/// The files that `cargo package-app` packs. The handler is copied here by hand; it is not there in a fresh clone.
fn package() -> BTreeSet<String> {
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let functions = folders.map(|folder| format!("{folder}/function.json"));
    let functions = functions.filter(|file| root().join(file).is_file());
    let others = ["LICENSE", "THIRD-PARTY-NOTICES.txt", "handler", "host.json"];
    functions.chain(others.map(str::to_owned)).collect()
}

fn funcignore() -> String {
    fs::read_to_string(root().join(".funcignore")).unwrap()
}

#[test]
fn git_would_leave_the_package() {
    let mut builder = GitignoreBuilder::new(root());
    for line in funcignore().lines() {
        builder.add_line(None, line).unwrap();
    }
    let ignore = builder.build().unwrap();
    let left: BTreeSet<_> =
        files().into_iter().filter(|file| !ignore.matched_path_or_any_parents(file, false).is_ignore()).collect();
    assert_eq!(left, package());
}

#[test]
fn core_tools_would_leave_the_package() {
    let ignore = CoreToolsIgnore::new(&funcignore());
    let left: BTreeSet<_> = files().into_iter().filter(|file| ignore.accepts(file)).collect();
    assert_eq!(left, package());
}

/// There is no way to say where a name ends: nothing of the kind may lie beside the files of the package.
#[test]
fn core_tools_would_also_leave_what_begins_like_a_file_of_the_package() {
    let ignore = CoreToolsIgnore::new(&funcignore());
    for file in ["handler.pdb", "handler-old", "host.json.bak"] {
        assert!(ignore.accepts(file), "{file}");
    }
    for file in ["handlers", "handler_old", "old-handler", "host.jsonc", "app/host.json"] {
        assert!(!ignore.accepts(file), "{file}");
    }
}

/// Core Tools know no folders and no `/` at the end. A pattern is a prefix of the path that ends where a word ends;
/// what one pattern with `!` brings back, no other takes away; `*` is at least one character.
/// <https://github.com/Azure/azure-functions-core-tools/blob/main/src/Cli/func/Common/GitIgnoreParser.cs>
struct CoreToolsIgnore {
    denied: Vec<Regex>,
    brought_back: Vec<Regex>,
}

impl CoreToolsIgnore {
    fn new(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (brought_back, denied): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('!'));
        let prefixes = |lines: Vec<&str>| lines.into_iter().map(|line| prefix(line.trim_start_matches('!'))).collect();
        Self { denied: prefixes(denied), brought_back: prefixes(brought_back) }
    }

    fn accepts(&self, path: &str) -> bool {
        let matches = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(path));
        matches(&self.brought_back) || !matches(&self.denied)
    }
}

fn prefix(pattern: &str) -> Regex {
    let escaped = regex::escape(pattern.strip_prefix('/').unwrap_or(pattern));
    let expression = escaped.replace(r"\*\*", ".+").replace(r"\*", "[^/]+");
    Regex::new(&format!(r"^(?:{expression})(?-u:\b)")).unwrap()
}

#[test]
fn core_tools_read_patterns_as_prefixes() {
    let ignore = CoreToolsIgnore::new("# all but\n.git*\nsrc\n/docs/**\n!src/keep\n");
    for (path, is_accepted) in [
        ("src/main.rs", false),
        ("src-old/main.rs", false),
        ("srcs/main.rs", true),
        ("app/src/main.rs", true),
        ("src/keep/a", true),
        (".gitignore", false),
        (".git", true),
        ("docs/a/b.md", false),
    ] {
        assert_eq!(ignore.accepts(path), is_accepted, "{path}");
    }
}
