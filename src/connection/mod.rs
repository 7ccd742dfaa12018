//! The connection `AzureWebJobsStorage`: which storage account, and as whom, read as the host reads it, so that there is
//! one thing to configure.
//!
//! It is a connection string, or, without one, members that name the endpoints and the [`identity`] that has access:
//!
//! | member | meaning |
//! |---|---|
//! | `accountName` | the account, in the public cloud |
//! | `tableServiceUri`, `queueServiceUri` | its endpoints, in any cloud; they count where `accountName` is set too |

pub mod token_cache;
mod token_source;
pub mod identity;
mod connection_string;
mod endpoint;
pub(crate) mod section;

pub use identity::Identity;
pub use section::Fault;
pub use token_cache::{Clock, TokenCache};

use crate::storage::{Account, Error, account::Endpoints};
use azure_core::Url;
use azure_core_1::http::HttpClient;
use azure_storage::StorageCredentials;
use section::{Section, Setting};
use std::{collections::BTreeMap, sync::Arc};

const NEEDED: &str = "is not set: needed is a connection string, or AzureWebJobsStorage__accountName, or both \
                      AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri";

/// A storage account and how it is opened. Nothing is connected yet.
#[derive(Debug)]
pub struct Connection {
    /// The endpoints of the account.
    pub endpoints: Endpoints,
    /// The means that opens it.
    pub credential: Credential,
}

/// The means that opens a storage account.
#[derive(Debug)]
pub enum Credential {
    /// The key or the shared access signature of a connection string.
    SharedKeyOrSas(StorageCredentials),
    /// Access tokens of Microsoft Entra ID for an identity.
    Entra(Identity),
}

impl Connection {
    /// Reads the connection from `settings`, which are all of the environment.
    ///
    /// # Errors
    ///
    /// Every fault.
    pub fn from_settings(settings: &BTreeMap<String, String>) -> Result<Self, Vec<Fault>> {
        let section = Section::new(settings);
        let mut faults = section.contradictions();
        let connection = match section.connection_string() {
            Some(setting) => with_connection_string(setting).map_err(|fault| faults.push(fault)).ok(),
            None => with_identity(&section, settings, &mut |fault| faults.push(fault)),
        };
        // A bad name of the account is a fault of both endpoints.
        faults.dedup();
        connection.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// Makes the account, whose tokens come through `client` and expire by `clock`. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No token can ever be had for an identity like this.
    pub fn account(&self, client: Arc<dyn HttpClient>, clock: Clock) -> Result<Account, Error> {
        let credential = match &self.credential {
            Credential::SharedKeyOrSas(credential) => credential.clone(),
            Credential::Entra(identity) => {
                StorageCredentials::token_credential(Arc::new(TokenCache::new(identity, client, clock)?))
            }
        };
        Ok(Account { endpoints: self.endpoints.clone(), credential })
    }
}

fn with_connection_string(setting: Setting<'_>) -> Result<Connection, Fault> {
    let invalid = |fault: Fault| setting.fault(format!("is not a connection string: {fault}"));
    let Account { endpoints, credential } = Account::from_connection_string(setting.value).map_err(invalid)?;
    Ok(Connection { endpoints, credential: Credential::SharedKeyOrSas(credential) })
}

fn with_identity(
    section: &Section<'_>,
    settings: &BTreeMap<String, String>,
    mut keep: &mut dyn FnMut(Fault),
) -> Option<Connection> {
    if ["accountName", "tableServiceUri", "queueServiceUri"].iter().all(|member| section.get(member).is_none()) {
        keep(Fault::new("AzureWebJobsStorage", NEEDED));
        return None;
    }
    let tables = service_endpoint(section, "table").map_err(&mut keep).ok();
    let queues = service_endpoint(section, "queue").map_err(&mut keep).ok();
    let identity = Identity::from_section(section, settings).map_err(keep).ok();
    let endpoints = Endpoints { tables: tables?, queues: queues? };
    Some(Connection { endpoints, credential: Credential::Entra(identity?) })
}

/// Reads the endpoint of a service, or makes it of the account's name. The host knows no other cloud by name.
fn service_endpoint(section: &Section<'_>, service: &str) -> Result<Url, Fault> {
    let member = format!("{service}ServiceUri");
    match (section.get(&member), section.get("accountName")) {
        (None, Some(account)) => endpoint::of_account(account, service, "https", "core.windows.net"),
        _ => endpoint::parse(section.require(&member)?, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core_1::credentials::Secret;

    const KEY: &str = "AccountName=shop;AccountKey=a2V5";

    fn read(settings: &[(&str, &str)]) -> Result<Connection, Vec<Fault>> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Connection::from_settings(&settings.collect())
    }

    /// The settings of a Function App.
    fn in_azure<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let platform = [("IDENTITY_ENDPOINT", "http://localhost:8081/msi/token"), ("IDENTITY_HEADER", "853b9a84")];
        [&platform[..], settings].concat()
    }

    #[track_caller]
    fn check_endpoints(settings: &[(&str, &str)], tables: &str, queues: &str) {
        let endpoints = read(settings).unwrap().endpoints;
        assert_eq!((endpoints.tables.as_str(), endpoints.queues.as_str()), (tables, queues), "{settings:?}");
    }

    #[track_caller]
    fn check_identity(settings: &[(&str, &str)], expected: &Identity) {
        let settings = [&[("AzureWebJobsStorage__accountName", "shop")], settings].concat();
        let Credential::Entra(identity) = read(&settings).unwrap().credential else { panic!("{settings:?}") };
        assert_eq!(&identity, expected, "{settings:?}");
    }

    #[track_caller]
    fn check_faults(settings: &[(&str, &str)], expected: &[&str]) {
        let faults: Vec<_> = read(settings).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), expected.len(), "{settings:?}: {faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{settings:?}: {fault}");
            assert!(!fault.contains("s3cret") && !fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn the_account_is_named_or_its_endpoints_are() {
        let public = ("https://shop.table.core.windows.net/", "https://shop.queue.core.windows.net/");
        let tables = "AzureWebJobsStorage__tableServiceUri";
        let queues = "AzureWebJobsStorage__queueServiceUri";
        let name = ("AzureWebJobsStorage__accountName", "shop");
        for settings in [
            vec![name],
            vec![("AzureWebJobsStorage__accountName", " Shop ")],
            vec![("AzureWebJobsStorage:accountName", "shop")],
            vec![("azurewebjobsstorage__ACCOUNTNAME", "shop")],
            vec![("AzureWebJobsStorage", " "), name],
            vec![name, ("AzureWebJobsStorage:accountName", "shop")],
            vec![(tables, public.0), (queues, public.1)],
            vec![(tables, public.0), ("AzureWebJobsStorage:queueServiceUri", public.1)],
            vec![name, (tables, public.0)],
            vec![("AzureWebJobsStorage__accountName", "other"), (tables, public.0), (queues, public.1)],
            vec![name, ("AzureWebJobsStorage__blobServiceUri", "https://shop.blob.core.windows.net/")],
            vec![name, ("AzureWebJobsStorage__unknown", "1"), ("AzureWebJobsStorageOther", KEY)],
            vec![name, ("CUSTOMCONNSTR_Database", "s3cret"), ("AzureWebJobsFeatureFlags", "1")],
            vec![name, ("ConnectionStrings:AzureWebJobsStorageOther", KEY), ("BackupAzureWebJobsStorage", KEY)],
            vec![("ConnectionStrings__AzureWebJobsStorage__accountName", "shop")],
        ] {
            check_endpoints(&settings, public.0, public.1);
        }
        let china = ("https://shop.table.core.chinacloudapi.cn/", "https://shop.queue.core.chinacloudapi.cn/");
        check_endpoints(&[(tables, china.0), (queues, china.1)], china.0, china.1);
        let local = ("http://127.0.0.1:10002/devstoreaccount1", "http://localhost:10001/devstoreaccount1");
        check_endpoints(&[(tables, local.0), (queues, local.1)], local.0, local.1);
        let is_emulator = |tables_uri, queues_uri| {
            read(&[(tables, tables_uri), (queues, queues_uri)]).unwrap().endpoints.are_of_the_emulator()
        };
        assert!(is_emulator(local.0, local.1));
        assert!(!is_emulator(local.0, public.1) && !is_emulator(public.0, local.1));
    }

    #[test]
    fn a_connection_string_needs_nothing_else() {
        for connection in [KEY, "UseDevelopmentStorage=true", "AccountName=shop;SharedAccessSignature=sig=c2ln"] {
            for name in ["AzureWebJobsStorage", "AZUREWEBJOBSSTORAGE", "CUSTOMCONNSTR_AzureWebJobsStorage"] {
                let settings = in_azure(&[(name, connection), ("AzureWebJobsStorage__accountName", " ")]);
                let credential = read(&settings).unwrap().credential;
                assert!(matches!(credential, Credential::SharedKeyOrSas(_)), "{credential:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = "AzureWebJobsStorage is not set: needed is a connection string, or AzureWebJobsStorage__accountName, or \
                   both AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri";
        check_faults(&[], &[all]);
        check_faults(&[("AzureWebJobsStorage", " ")], &[all]);
        check_faults(&[("AzureWebJobsStorage__credential", "managedidentity")], &[all]);
        let [tables, queues] = ["https://shop.table.example", "https://shop.queue.example"];
        check_faults(
            &[("AzureWebJobsStorage__tableServiceUri", tables)],
            &["AzureWebJobsStorage__queueServiceUri is not set"],
        );
        check_faults(
            &[("AzureWebJobsStorage__queueServiceUri", queues)],
            &["AzureWebJobsStorage__tableServiceUri is not set"],
        );
        check_faults(&[("AzureWebJobsStorage__blobServiceUri", "https://shop.blob.example")], &[all]);
    }

    #[test]
    fn what_is_contradictory_is_named() {
        let name = ("AzureWebJobsStorage__accountName", "shop");
        check_faults(
            &[("AzureWebJobsStorage", KEY), name, ("AzureWebJobsStorage:credential", "managedidentity")],
            &["ignores AzureWebJobsStorage:credential and AzureWebJobsStorage__accountName"],
        );
        check_faults(
            &[name, ("AzureWebJobsStorage:accountName", "s3cret")],
            &["AzureWebJobsStorage:accountName and AzureWebJobsStorage__accountName are one setting"],
        );
        let other_names = [
            "ConnectionStrings:AzureWebJobsStorage",
            "ConnectionStrings__azurewebjobsstorage",
            "CUSTOMCONNSTR_AzureWebJobsStorage",
            "SQLAZURECONNSTR_AzureWebJobsStorage",
            "AzureWebJobsAzureWebJobsStorage",
        ];
        for other in other_names {
            let settings = [("AzureWebJobsStorage", KEY), (other, "AccountName=s3cret;AccountKey=a2V5")];
            let faults = read(&settings).unwrap_err();
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            let text = fault.to_string();
            assert!(text.contains(other) && text.contains("are one setting to the host"), "{text}");
            assert!(text.contains("AzureWebJobsStorage") && !text.contains("s3cret"), "{text}");
            check_faults(&[name, (other, KEY)], &["the host ignores AzureWebJobsStorage__accountName"]);
        }
        check_faults(
            &[name, ("AzureWebJobsAzureWebJobsStorage__accountName", "s3cret")],
            &["AzureWebJobsAzureWebJobsStorage__accountName and AzureWebJobsStorage__accountName are one setting"],
        );
        check_faults(
            &[name, ("AzureWebJobsStorage__clientId", "a"), ("AzureWebJobsStorage__managedIdentityClientId", "b")],
            &["AzureWebJobsStorage__clientId and AzureWebJobsStorage__managedIdentityClientId are one setting"],
        );
    }

    #[test]
    fn what_is_malformed_is_named_and_not_repeated() {
        for bad in ["ab", "s3cret.table.core.windows.net", "s3cret/", "shop-s3cret", &"a".repeat(25), "s3crét"] {
            check_faults(
                &[("AzureWebJobsStorage__accountName", bad)],
                &["AzureWebJobsStorage__accountName is not the name of a storage account"],
            );
        }
        let queues = ("AzureWebJobsStorage__queueServiceUri", "https://shop.queue.example");
        for (bad, expected) in [
            ("shop", "is not an https URL"),
            ("ftp://shop.example", "is not an https URL"),
            ("https://shop.example/?sig=s3cret", "is not an https URL"),
            ("https://s3cret@shop.example", "is not an https URL"),
            ("https://:s3cret@shop.example", "is not an https URL"),
            ("https://shop.example/#s3cret", "is not an https URL"),
            ("http://shop.table.core.windows.net", "is plain http"),
            ("http://azurite:10002/devstoreaccount1", "is plain http"),
            ("http://127.0.0.1.example.com", "is plain http"),
        ] {
            let expected = format!("AzureWebJobsStorage__tableServiceUri {expected}");
            check_faults(&[queues, ("AzureWebJobsStorage__tableServiceUri", bad)], &[&expected]);
        }
        check_faults(
            &[("AzureWebJobsStorage", "AccountName=shop;AccountKey=s3cret!")],
            &["AzureWebJobsStorage is not a connection string: AccountKey is not base64"],
        );
    }

    #[test]
    fn the_identity_is_the_one_that_the_host_has() {
        let managed = |id: Option<&str>| Identity::Managed { client_id: id.map(str::to_owned) };
        let credential = ("AzureWebJobsStorage__credential", "managedidentity");
        let client_id = ("AzureWebJobsStorage__clientId", "id-1");
        for credential in [credential, ("AzureWebJobsStorage:Credential", "ManagedIdentity")] {
            check_identity(&[credential], &managed(None));
            check_identity(&in_azure(&[credential]), &managed(None));
            check_identity(&in_azure(&[credential, client_id]), &managed(Some("id-1")));
            let other = ("AzureWebJobsStorage__managedIdentityClientId", "id-1");
            check_identity(&in_azure(&[credential, other]), &managed(Some("id-1")));
            check_identity(&in_azure(&[credential, client_id, other]), &managed(Some("id-1")));
            let environment = ("AZURE_CLIENT_ID", "id-2");
            check_identity(&in_azure(&[credential, environment]), &managed(None));
        }
        // Without `credential`, the default chain of the host.
        check_identity(&in_azure(&[]), &managed(None));
        check_identity(&in_azure(&[client_id]), &managed(Some("id-1")));
        check_identity(&in_azure(&[("AZURE_CLIENT_ID", "id-2")]), &managed(Some("id-2")));
        check_identity(&in_azure(&[client_id, ("AZURE_CLIENT_ID", "id-2")]), &managed(Some("id-1")));
        check_identity(&[], &Identity::Developer);
        check_identity(&[client_id], &Identity::Developer);
        for [one, other] in [
            [("AZURE_CLIENT_ID", "id-2"), ("AZURE_CLIENT_SECRET", "s3cret")],
            [("AZURE_TENANT_ID", "t-2"), ("AZURE_CLIENT_SECRET", "s3cret")],
            [("AZURE_TENANT_ID", "t-2"), ("AZURE_CLIENT_ID", "id-2")],
        ] {
            check_identity(&[one, other], &Identity::Developer);
        }
    }

    #[test]
    fn a_service_principal_needs_all_three_of_its_settings() {
        let [tenant, client, secret] = [
            ("AzureWebJobsStorage__tenantId", "t-1"),
            ("AzureWebJobsStorage__clientId", "id-1"),
            ("AzureWebJobsStorage__clientSecret", "s3cret"),
        ];
        let principal = |tenant: &str, client: &str| Identity::ServicePrincipal {
            tenant_id: tenant.to_owned(),
            client_id: client.to_owned(),
            secret: Secret::new("s3cret"),
        };
        let environment = [("AZURE_TENANT_ID", "t-2"), ("AZURE_CLIENT_ID", "id-2"), ("AZURE_CLIENT_SECRET", "s3cret")];
        check_identity(&[tenant, client, secret], &principal("t-1", "id-1"));
        check_identity(&in_azure(&[tenant, client, secret]), &principal("t-1", "id-1"));
        check_identity(&environment, &principal("t-2", "id-2"));
        check_identity(&in_azure(&environment), &principal("t-2", "id-2"));
        check_identity(&[&environment[..], &[tenant, client, secret]].concat(), &principal("t-1", "id-1"));
        let name = ("AzureWebJobsStorage__accountName", "shop");
        check_faults(&[name, client, secret], &["AzureWebJobsStorage__tenantId is not set"]);
        check_faults(&[name, tenant, secret], &["AzureWebJobsStorage__clientId is not set"]);
        let managed = ("AzureWebJobsStorage__credential", "managedidentity");
        check_faults(&[name, managed, secret], &["AzureWebJobsStorage__clientSecret is not supported here"]);
    }

    #[test]
    fn what_only_the_host_can_do_is_named() {
        let name = ("AzureWebJobsStorage__accountName", "shop");
        for credential in ["workloadidentity", "managedidentityasfederatedidentity", "azurepipelines", "managedidentiy"]
        {
            check_faults(
                &[name, ("AzureWebJobsStorage__credential", credential)],
                &["AzureWebJobsStorage__credential is not supported here: the one value known is managedidentity"],
            );
        }
        for member in ["managedIdentityResourceId", "managedIdentityObjectId", "clientCertificate", "tokenFilePath"] {
            let setting = format!("AzureWebJobsStorage__{member}");
            check_faults(&[name, (&setting, "s3cret")], &[&format!("{setting} is not supported here")]);
        }
        for credential in ["managedidentity", " "] {
            let credential = ("AzureWebJobsStorage__credential", credential);
            check_faults(
                &[name, credential, ("IDENTITY_ENDPOINT", "http://localhost:1/")],
                &["IDENTITY_HEADER is not set"],
            );
            check_faults(&[name, credential, ("IDENTITY_HEADER", "s3cret")], &["IDENTITY_ENDPOINT is not set"]);
        }
    }

    #[test]
    fn every_fault_is_reported() {
        check_faults(
            &[
                ("AzureWebJobsStorage__tableServiceUri", "shop"),
                ("AzureWebJobsStorage__queueServiceUri", "http://shop.example"),
                ("AzureWebJobsStorage__credential", "password"),
                ("AzureWebJobsStorage:credential", "secret"),
            ],
            &[
                "AzureWebJobsStorage:credential and AzureWebJobsStorage__credential",
                "AzureWebJobsStorage__tableServiceUri",
                "AzureWebJobsStorage__queueServiceUri",
                "AzureWebJobsStorage:credential",
            ],
        );
    }
}
