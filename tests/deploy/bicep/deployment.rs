//! A whole deployment.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Result, expressions::Template, modules::Module, resources::Resource, source::Sources};

/// Everything that would be deployed.
pub(crate) struct Deployment {
    pub(crate) resources: Vec<Resource>,
    /// The resources that are only referred to.
    pub(crate) existing: Vec<Resource>,
    pub(crate) modules: Vec<Module>,
    pub(crate) outputs: Map<String, Value>,
}

impl Deployment {
    /// Evaluates `main.bicep` in `folder` and everything in its modules.
    pub(crate) fn of(folder: &Path, parameters: &Value) -> Result<Self> {
        Self::of_sources(&Sources::read(folder)?, parameters)
    }

    pub(crate) fn of_sources(sources: &Sources, parameters: &Value) -> Result<Self> {
        let parameters = parameters.as_object().cloned().unwrap_or_default();
        let main = Template { sources, source: sources.get("main.bicep")?, parameters };
        main.check_parameters()?;
        let mut all = Vec::new();
        main.add_resources(&mut all)?;
        let (existing, resources): (Vec<_>, Vec<_>) = all.into_iter().partition(|resource| resource.is_existing);
        let is_deployed = |resource: &&Resource| resources.iter().any(|other| other.id == resource.id);
        if let Some(missing) = existing.iter().find(|resource| !is_deployed(resource)) {
            return Err(format!("{}: nothing deploys {}", missing.place, missing.id));
        }
        Ok(Self { modules: main.modules()?, outputs: main.outputs()?, resources, existing })
    }
}
