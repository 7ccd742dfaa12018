//! The deployment: package, infrastructure, scripts and workflows, held against the code that they are for.
//!
//! None of it can be deployed without an Azure subscription. These tests check everything that can be known without one:
//! the content of the package and that it runs, the handler's reading of the settings in the infrastructure, and the
//! names and properties in the files.

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
