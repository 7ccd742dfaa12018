//! What is deployed, and how: the package, the infrastructure and the pipelines, held against the code they are for.
//!
//! None of it can be run without an Azure subscription. So everything that can be known without one is known here: what
//! is in the package and whether it runs, what the handler would read from the settings of the infrastructure, which
//! names and properties the files use.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its tests")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

mod alerts;
mod bicep;
mod costs;
mod evaluator;
mod funcignore;
mod infrastructure;
mod pipelines;
mod rights;
mod scripts;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod package;
mod resource_types;

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
