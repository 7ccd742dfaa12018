//! The identity of the handler when the settings hold no key: nothing secret is stored then, and access is a matter of
//! [roles](https://learn.microsoft.com/azure/storage/common/storage-auth-aad).
//!
//! | members of the connection | identity, here and for the host |
//! |---|---|
//! | `credential` is `managedidentity` | the managed identity with this `clientId`, or the system-assigned one |
//! | `tenantId`, `clientId`, `clientSecret` | that service principal |
//! | none of these | the first one that the host's *default* credential finds, see below |
//!
//! The default credential is a long chain. The handler has those of its links that a Function App and a developer need:
//! the service principal of `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`; in a Function App the managed
//! identity (of `clientId`, else of `AZURE_CLIENT_ID`); elsewhere whoever is signed in to the Azure CLI, or to the Azure
//! Developer CLI.

use super::section::{Fault, Section, value};
use azure_core_1::credentials::Secret;
use std::collections::BTreeMap;

/// Members for what the host can do and this program cannot.
const UNSUPPORTED: [&str; 5] = [
    "managedIdentityResourceId",
    "managedIdentityObjectId",
    "clientCertificate",
    "tokenFilePath",
    "serviceConnectionId",
];

/// Somebody who may have access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The identity that the platform vouches for.
    Managed {
        /// Client id of a user-assigned identity; without it, the system-assigned one.
        client_id: Option<String>,
    },
    /// An application with a password of its own.
    ServicePrincipal {
        /// Tenant in which it is registered.
        tenant_id: String,
        /// Id under which it is registered.
        client_id: String,
        /// Its password.
        secret: Secret,
    },
    /// The person who is signed in on this machine, in the tenant that was chosen when signing in.
    Developer,
}

impl Identity {
    /// Reads the members of the connection, and what the platform and the developer set beside it.
    pub(super) fn from_section(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Result<Self, Fault> {
        if let Some(setting) = UNSUPPORTED.iter().find_map(|member| section.get(member)) {
            return Err(setting.fault("is not supported here: use a managed identity, named by its client id"));
        }
        let client_id = section.get("clientId").map(|setting| setting.value.to_owned());
        match (section.get("credential"), section.get("clientSecret")) {
            (Some(credential), _) if !credential.value.eq_ignore_ascii_case("managedidentity") => {
                Err(credential.fault("is not supported here: the one value known is managedidentity"))
            }
            (Some(_), Some(secret)) => Err(secret.fault("is not supported here: a managed identity has no secret")),
            (Some(_), None) => has_platform(settings).map(|_| Self::Managed { client_id }),
            (None, Some(secret)) => {
                let (tenant, client) = (section.require("tenantId")?, section.require("clientId")?);
                Ok(service_principal(tenant.value, client.value, secret.value))
            }
            (None, None) => default_identity(client_id, settings),
        }
    }
}

fn service_principal(tenant_id: &str, client_id: &str, secret: &str) -> Identity {
    let secret = Secret::new(secret.to_owned());
    Identity::ServicePrincipal { tenant_id: tenant_id.to_owned(), client_id: client_id.to_owned(), secret }
}

/// Finds who the host's default credential would be. A service principal that is half there belongs to other programs.
fn default_identity(client_id: Option<String>, settings: &BTreeMap<String, String>) -> Result<Identity, Fault> {
    let names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"];
    match names.map(|name| value(settings, name)) {
        [Some(tenant), Some(client), Some(secret)] => Ok(service_principal(tenant, client, secret)),
        [_, client, _] if has_platform(settings)? => {
            Ok(Identity::Managed { client_id: client_id.or_else(|| client.map(str::to_owned)) })
        }
        _ => Ok(Identity::Developer),
    }
}

/// Tells whether this is a Function App: the platform sets [both or
/// none](https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference).
fn has_platform(settings: &BTreeMap<String, String>) -> Result<bool, Fault> {
    match (value(settings, "IDENTITY_ENDPOINT"), value(settings, "IDENTITY_HEADER")) {
        (Some(_), None) => Err(Fault::missing("IDENTITY_HEADER")),
        (None, Some(_)) => Err(Fault::missing("IDENTITY_ENDPOINT")),
        (endpoint, _) => Ok(endpoint.is_some()),
    }
}
