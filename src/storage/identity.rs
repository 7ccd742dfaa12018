//! Who the handler is to the storage service when the settings hold no key: nothing secret is stored then, and access
//! is a matter of [roles](https://learn.microsoft.com/azure/storage/common/storage-auth-aad).
//!
//! | members of the connection | identity, here and for the host |
//! |---|---|
//! | `credential` is `managedidentity` | the managed identity with this `clientId`, or the system-assigned one |
//! | `tenantId`, `clientId`, `clientSecret` | that service principal |
//! | none of these | what the host's *default* credential finds first, see below |
//!
//! The default credential is a long chain. Of it the handler has what a Function App and a developer need: the service
//! principal of `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`; in a Function App the managed identity
//! (of `clientId`, else of `AZURE_CLIENT_ID`); elsewhere whoever is signed in to the Azure CLI, or to the Azure
//! Developer CLI.

use super::settings::{Fault, Section};
use azure_core::auth::Secret;
use std::collections::BTreeMap;

/// The names under which the host may know the managed identity.
const CLIENT_IDS: [&str; 2] = ["clientId", "managedIdentityClientId"];

/// What the host can do and this program cannot: the member, and what to do instead.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("managedIdentityResourceId", "name the identity by its client id, in AzureWebJobsStorage__clientId"),
    ("managedIdentityObjectId", "name the identity by its client id, in AzureWebJobsStorage__clientId"),
    ("clientCertificate", "use a managed identity"),
    ("tokenFilePath", "use a managed identity"),
    ("serviceConnectionId", "use a managed identity"),
];

/// Somebody who may have access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The identity that the platform vouches for.
    Managed {
        /// Of a user-assigned identity; without it, the system-assigned one.
        client_id: Option<String>,
    },
    /// An application with a password of its own.
    ServicePrincipal {
        /// Where it is registered.
        tenant_id: String,
        /// What it is registered as.
        client_id: String,
        /// Its password.
        secret: Secret,
    },
    /// Whoever is signed in on this machine.
    Developer {
        /// In which tenant; without it, the one that was chosen when signing in.
        tenant_id: Option<String>,
    },
}

impl Identity {
    /// Reads the members of the connection, and what the platform and the developer set beside it.
    pub(super) fn from_section(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Result<Self, Fault> {
        if let Some((member, instead)) = UNSUPPORTED.into_iter().find(|(member, _)| section.get(member).is_some()) {
            return Err(Fault::Unsupported(section.name(member), instead));
        }
        match section.get("credential") {
            Some((_, value)) if value.eq_ignore_ascii_case("managedidentity") => managed(section, settings),
            Some((setting, _)) => Err(Fault::Unsupported(setting.to_owned(), "the one value known is managedidentity")),
            None => service_principal(section, settings).unwrap_or_else(|| fallback(section, settings)),
        }
    }
}

fn value<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    settings.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn managed(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Result<Identity, Fault> {
    if section.get("clientSecret").is_some() {
        return Err(Fault::Unsupported(section.name("clientSecret"), "a managed identity has no secret"));
    }
    check_platform(settings)?;
    Ok(Identity::Managed { client_id: client_id(section)? })
}

/// The platform sets [both or
/// none](https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference).
fn check_platform(settings: &BTreeMap<String, String>) -> Result<(), Fault> {
    match (value(settings, "IDENTITY_ENDPOINT"), value(settings, "IDENTITY_HEADER")) {
        (Some(_), None) => Err(Fault::Missing("IDENTITY_HEADER".to_owned())),
        (None, Some(_)) => Err(Fault::Missing("IDENTITY_ENDPOINT".to_owned())),
        _ => Ok(()),
    }
}

fn client_id(section: &Section<'_>) -> Result<Option<String>, Fault> {
    let [id, other] = CLIENT_IDS.map(|member| section.get(member));
    match (id, other) {
        (Some((setting, id)), Some((other, other_id))) if id != other_id => {
            Err(Fault::Twice(setting.to_owned(), other.to_owned()))
        }
        (id, other) => Ok(id.or(other).map(|(_, id)| id.to_owned())),
    }
}

/// The service principal of the connection, or of the environment. Half of one is a fault in the connection, and none
/// in the environment, which is there for other programs too.
fn service_principal(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Option<Result<Identity, Fault>> {
    let principal = |tenant_id: &str, client_id: &str, secret: &str| Identity::ServicePrincipal {
        tenant_id: tenant_id.to_owned(),
        client_id: client_id.to_owned(),
        secret: Secret::new(secret.to_owned()),
    };
    if let Some((_, secret)) = section.get("clientSecret") {
        let member = |member| section.get(member).map(|(_, id)| id).ok_or_else(|| Fault::Missing(section.name(member)));
        let tenant_and_client = member("tenantId").and_then(|tenant| Ok((tenant, member("clientId")?)));
        return Some(tenant_and_client.map(|(tenant, client)| principal(tenant, client, secret)));
    }
    let [tenant, client, secret] =
        ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"].map(|name| value(settings, name));
    Some(Ok(principal(tenant?, client?, secret?)))
}

fn fallback(section: &Section<'_>, settings: &BTreeMap<String, String>) -> Result<Identity, Fault> {
    check_platform(settings)?;
    let client_id = client_id(section)?;
    if value(settings, "IDENTITY_ENDPOINT").is_some() {
        let client_id = client_id.or_else(|| value(settings, "AZURE_CLIENT_ID").map(str::to_owned));
        return Ok(Identity::Managed { client_id });
    }
    let tenant_id = section.get("tenantId").map(|(_, tenant)| tenant).or_else(|| value(settings, "AZURE_TENANT_ID"));
    Ok(Identity::Developer { tenant_id: tenant_id.map(str::to_owned) })
}
