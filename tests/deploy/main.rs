//! What is deployed, and how: the package, the infrastructure and the pipelines, held against the code they are for.
//!
//! None of it can be run without an Azure subscription. So everything that can be known without one is known here: what
//! is in the package and whether it runs, what the handler would read from the settings of the infrastructure, which
//! names and properties the files use.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its tests")]
#![allow(clippy::unwrap_used, reason = "clippy's leave for tests does not reach the functions beside them")]

mod bicep;
mod resource_types;
mod mistakes;
mod infrastructure;
mod rights;
mod alerts;
mod scripts;
mod pipelines;
mod funcignore;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod package;

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
