//! Evaluates `infra/*.bicep`: as much of the language as these files use, and an error for the rest.
//!
//! `ci.yml` asks the real compiler, which few machines have. This stands in for it everywhere, and says beyond it what
//! would be deployed, so that the tests can hold that against the code. It reads the files by the published grammar and
//! evaluates every expression in them, with made-up values for what only Azure knows. An unknown name, a missing or
//! superfluous parameter, an output that is not there: these are errors here too.
//! <https://learn.microsoft.com/azure/azure-resource-manager/bicep/file>

mod functions;
mod source;
mod expressions;
mod modules;
mod resources;
mod deployment;

pub(crate) use deployment::Deployment;
pub(crate) use resources::Resource;
pub(crate) use source::Sources;

/// An error says what is wrong, and where.
pub(crate) type Result<T> = std::result::Result<T, String>;
