//! A storage account: the endpoints of its services, and the credential that opens them.
//!
//! The clients of tables and queues take one; [`connection`](crate::connection) makes it of the settings.

use azure_core::Url;
use azure_storage::{CloudLocation, StorageCredentials};

/// A storage account. The credential does not print itself.
#[derive(Debug, Clone)]
pub struct Account {
    /// The endpoints of its services.
    pub endpoints: Endpoints,
    /// A key, a shared access signature, or access tokens.
    pub credential: StorageCredentials,
}

/// The endpoints of the services of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Endpoint of the Table service.
    pub tables: Url,
    /// Endpoint of the Queue service.
    pub queues: Url,
}

impl Endpoints {
    /// Whether they are the emulator's: plain http is allowed to no other service.
    #[must_use]
    pub fn are_of_the_emulator(&self) -> bool {
        self.tables.scheme() == "http" && self.queues.scheme() == "http"
    }
}

impl Account {
    pub(super) fn tables(&self) -> CloudLocation {
        // A slash at the end would become an empty path segment in every request.
        let uri = self.endpoints.tables.as_str().trim_end_matches('/').to_owned();
        // The name of the account is only signed, and stands in the credential.
        CloudLocation::Custom { account: String::new(), uri }
    }

    pub(super) fn credential(&self) -> StorageCredentials {
        self.credential.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_of_the_table_endpoint_does_not_become_a_part_of_the_path() {
        for endpoint in ["http://127.0.0.1:10002/devstoreaccount1/", "http://127.0.0.1:10002/devstoreaccount1"] {
            let url: Url = endpoint.parse().unwrap();
            let endpoints = Endpoints { tables: url.clone(), queues: url };
            let account = Account { endpoints, credential: StorageCredentials::anonymous() };
            let CloudLocation::Custom { uri, .. } = account.tables() else { panic!("{:?}", account.tables()) };
            assert_eq!(uri, "http://127.0.0.1:10002/devstoreaccount1");
        }
    }
}
