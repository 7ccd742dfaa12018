//! Works out what `infra/*.bicep` would deploy: as much of the language as these files use, and an error for the rest.
//!
//! The compiler is in no registry of packages, so it cannot be part of the gate. This reads the files by the published
//! grammar and evaluates every expression in them, with made-up values for what Azure alone knows. An unknown name, a
//! missing or superfluous parameter, an output that is not there: all of them are errors here too.
//! <https://learn.microsoft.com/azure/azure-resource-manager/bicep/file>

mod deployment;
mod evaluate;
mod functions;
mod modules;
mod source;

pub(crate) use deployment::{Deployment, Resource};
pub(crate) use source::Sources;

/// What is wrong, and where.
pub(crate) type Result<T> = std::result::Result<T, String>;
