//! Connection strings: an account with its key or a shared access signature.
//!
//! A [connection string](https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string) may also
//! say `UseDevelopmentStorage=true` for the emulator, which the host hands on unexpanded. Names are matched without
//! regard to case, as .NET does, and unknown ones are skipped.

use super::{
    endpoint,
    section::{Fault, Setting},
};
use crate::storage::{Account, account::Endpoints};
use azure_core::Url;
use azure_storage::StorageCredentials;
use base64::{Engine, prelude::BASE64_STANDARD};

/// The [well-known
/// account](https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key) of
/// the emulator: public, and of no use anywhere else.
const EMULATOR: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

/// Beginnings of what is often given instead of a connection string, and what is wrong with it.
const NO_STRINGS: [(&[&str], &str); 3] = [
    (&["\"", "'"], "is in quotation marks: remove them"),
    (
        &["@Microsoft.KeyVault("],
        "is a Key Vault reference, which Azure resolves for an identity that may read the secret",
    ),
    (&["https://", "http://"], "is a URL: write QueueEndpoint=…;TableEndpoint=…;SharedAccessSignature=… instead"),
];

fn begins(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
}

impl Account {
    /// Reads a connection string.
    ///
    /// # Errors
    ///
    /// The part that is wrong or missing, without its value.
    pub fn from_connection_string(text: &str) -> Result<Self, Fault> {
        if let Some((_, problem)) = NO_STRINGS.iter().find(|(starts, _)| starts.iter().any(|start| begins(text, start)))
        {
            return Err(Fault::new("it", *problem));
        }
        let pairs = Pairs::parse(text)?;
        match pairs.get("UseDevelopmentStorage") {
            Some(setting) if setting.value.eq_ignore_ascii_case("true") => return pairs.emulator(),
            Some(setting) => return Err(setting.fault("can only be true")),
            None => {}
        }
        let credential = pairs.credential()?;
        let [tables, queues] = [("TableEndpoint", "table"), ("QueueEndpoint", "queue")];
        Ok(Self {
            endpoints: Endpoints { tables: pairs.endpoint(tables)?, queues: pairs.endpoint(queues)? },
            credential,
        })
    }
}

/// The `Name=Value;…` pairs of a connection string.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn parse(text: &'a str) -> Result<Self, Fault> {
        let parts = text.split(';').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
        let pairs = parts.map(|(index, part)| {
            part.split_once('=').ok_or_else(|| Fault::new(format!("part {}", index + 1), "is not Name=Value"))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, name: &'static str) -> Option<Setting<'a>> {
        let pair = self.0.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        pair.map(|(_, value)| Setting { name, value: value.trim() })
    }

    fn value(&self, name: &'static str) -> Option<&'a str> {
        self.get(name).map(|setting| setting.value)
    }

    /// Makes the account of the emulator, on this machine or on the one that a setting names.
    fn emulator(&self) -> Result<Account, Fault> {
        const PROXY: &str = "DevelopmentStorageProxyUri";
        let (name, key) = EMULATOR;
        let proxy = self.get(PROXY).unwrap_or(Setting { name: PROXY, value: "http://127.0.0.1" });
        let base = endpoint::parse(proxy, true)?;
        let at = |port| {
            let mut url = base.clone();
            url.set_path(name);
            // It cannot fail: a URL of http has a port.
            let _ = url.set_port(Some(port));
            url
        };
        let endpoints = Endpoints { tables: at(10_002), queues: at(10_001) };
        Ok(Account { endpoints, credential: StorageCredentials::access_key(name, key.to_owned()) })
    }

    fn credential(&self) -> Result<StorageCredentials, Fault> {
        if let Some(key) = self.get("AccountKey") {
            let name = self.value("AccountName").ok_or_else(|| Fault::missing("AccountName"))?;
            BASE64_STANDARD.decode(key.value).map_err(|_| key.fault("is not base64"))?;
            return Ok(StorageCredentials::access_key(name, key.value.to_owned()));
        }
        let signature = self.get("SharedAccessSignature");
        let signature = signature.ok_or_else(|| Fault::missing("AccountKey or SharedAccessSignature"))?;
        let is_signed = signature.value.trim_start_matches('?').split('&').any(|pair| pair.starts_with("sig="));
        let credential = StorageCredentials::sas_token(signature.value).ok().filter(|_| is_signed);
        credential.ok_or_else(|| signature.fault("has no sig parameter"))
    }

    /// Reads the endpoint of a service, or makes it of the account's name.
    fn endpoint(&self, (setting, service): (&'static str, &str)) -> Result<Url, Fault> {
        if let Some(url) = self.get(setting) {
            return endpoint::parse(url, true);
        }
        let account = self.get("AccountName").ok_or_else(|| Fault::missing(setting))?;
        // Orders must not be remembered on this machine while they are queued in Azure, nor there under a key that all know.
        let others = ["TableEndpoint", "QueueEndpoint", "BlobEndpoint"].into_iter().filter_map(|other| self.get(other));
        let mut others = others.filter_map(|url| endpoint::parse(url, true).ok());
        if account.value == EMULATOR.0 || others.any(|url| endpoint::is_emulator(&url)) {
            return Err(Fault::missing(setting));
        }
        let protocol = self.value("DefaultEndpointsProtocol").unwrap_or("https");
        endpoint::of_account(account, service, protocol, self.value("EndpointSuffix").unwrap_or("core.windows.net"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a2V5";
    const MISSING: &str = "is not set, which is needed too";
    const INVALID: &str = "is not an https URL of a server, with nothing after its path";

    fn endpoints(connection: &str) -> Result<[String; 2], Fault> {
        let Endpoints { tables, queues } = Account::from_connection_string(connection)?.endpoints;
        Ok([tables, queues].map(|endpoint| endpoint.as_str().trim_end_matches('/').to_owned()))
    }

    #[test]
    fn connection_strings_lead_to_their_endpoints() {
        let china = format!("accountname=shop;accountkey={KEY};EndpointSuffix=core.chinacloudapi.cn;Unknown=1");
        let emulated = format!(
            "AccountName=test001;AccountKey={KEY};TableEndpoint=http://127.0.0.1:1/test001/;QueueEndpoint=http://127.0.0.1:2/test001"
        );
        for (connection, tables, queues) in [
            (
                "UseDevelopmentStorage=true",
                "http://127.0.0.1:10002/devstoreaccount1",
                "http://127.0.0.1:10001/devstoreaccount1",
            ),
            (
                &format!(
                    "AccountName={};AccountKey={};TableEndpoint=http://azurite:10002/devstoreaccount1;QueueEndpoint=http://azurite:10001/devstoreaccount1",
                    EMULATOR.0, EMULATOR.1
                ),
                "http://azurite:10002/devstoreaccount1",
                "http://azurite:10001/devstoreaccount1",
            ),
            (
                "usedevelopmentstorage=TRUE;DevelopmentStorageProxyUri=http://azurite",
                "http://azurite:10002/devstoreaccount1",
                "http://azurite:10001/devstoreaccount1",
            ),
            (
                &format!(
                    "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY};EndpointSuffix=core.windows.net"
                ),
                "https://shop.table.core.windows.net",
                "https://shop.queue.core.windows.net",
            ),
            (&china, "https://shop.table.core.chinacloudapi.cn", "https://shop.queue.core.chinacloudapi.cn"),
            (&emulated, "http://127.0.0.1:1/test001", "http://127.0.0.1:2/test001"),
            (
                "TableEndpoint=https://t.example/;QueueEndpoint=https://q.example/;SharedAccessSignature=sv=2022-11-02&sig=c2ln%3D",
                "https://t.example",
                "https://q.example",
            ),
        ] {
            assert_eq!(endpoints(connection), Ok([tables.to_owned(), queues.to_owned()]), "{connection}");
        }
    }

    #[test]
    fn a_bad_connection_string_is_refused_by_name_and_never_repeated() {
        let plain_http =
            "is plain http, which is allowed on this machine only, and where a connection string names the endpoint";
        for (connection, setting, problem) in [
            ("", "AccountKey or SharedAccessSignature", MISSING),
            ("SharedAccessSignature=sig=a;TableEndpoint=https://shop.example", "QueueEndpoint", MISSING),
            ("s3cret", "part 1", "is not Name=Value"),
            ("AccountName=shop;s3cret", "part 2", "is not Name=Value"),
            ("AccountName=shop", "AccountKey or SharedAccessSignature", MISSING),
            ("AccountName=shop;AccountKey=s3cret!", "AccountKey", "is not base64"),
            ("AccountKey=a2V5;TableEndpoint=https://shop.example", "AccountName", MISSING),
            (
                "AccountName=s3cret.example/;AccountKey=a2V5",
                "AccountName",
                "is not the name of a storage account: 3 to 24 letters and digits",
            ),
            ("AccountName=shop;AccountKey=a2V5;TableEndpoint=s3cret", "TableEndpoint", INVALID),
            ("AccountName=shop;AccountKey=a2V5;QueueEndpoint=ftp://shop.example", "QueueEndpoint", INVALID),
            (
                "AccountName=shop;AccountKey=a2V5;TableEndpoint=https://shop.example?sig=s3cret",
                "TableEndpoint",
                INVALID,
            ),
            (
                "AccountName=shop;AccountKey=a2V5;EndpointSuffix=example?s3cret",
                "the table endpoint of AccountName",
                INVALID,
            ),
            (
                "TableEndpoint=https://shop.example;SharedAccessSignature=s3cret",
                "SharedAccessSignature",
                "has no sig parameter",
            ),
            ("AccountName=devstoreaccount1;AccountKey=a2V5", "TableEndpoint", MISSING),
            ("AccountName=test001;AccountKey=a2V5;BlobEndpoint=http://azurite:10000/test001", "TableEndpoint", MISSING),
            ("UseDevelopmentStorage=yes", "UseDevelopmentStorage", "can only be true"),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=file:///s3cret",
                "DevelopmentStorageProxyUri",
                INVALID,
            ),
            (
                "DefaultEndpointsProtocol=http;AccountName=shop;AccountKey=a2V5",
                "the table endpoint of AccountName",
                plain_http,
            ),
            (
                "AccountName=devstoreaccount1;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1",
                "QueueEndpoint",
                MISSING,
            ),
            (
                "AccountName=devstoreaccount1;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1",
                "TableEndpoint",
                MISSING,
            ),
        ] {
            let fault = Account::from_connection_string(connection).unwrap_err();
            assert_eq!(fault, Fault::new(setting, problem), "{connection}");
        }
    }

    #[test]
    fn what_is_no_connection_string_at_all_is_recognized() {
        for (text, problem) in [
            ("\"UseDevelopmentStorage=true\"", NO_STRINGS[0].1),
            ("'AccountName=shop;AccountKey=s3cret'", NO_STRINGS[0].1),
            ("@microsoft.keyvault(SecretUri=https://shop.vault.azure.net/secrets/s3cret)", NO_STRINGS[1].1),
            ("https://shop.queue.core.windows.net/?sig=s3cret", NO_STRINGS[2].1),
        ] {
            assert_eq!(Account::from_connection_string(text).unwrap_err(), Fault::new("it", problem), "{text}");
        }
    }

    #[test]
    fn debug_output_holds_no_credential() {
        for connection in
            [&format!("AccountName=shop;AccountKey={KEY}"), "AccountName=shop;SharedAccessSignature=sig=a2V5"]
        {
            let printed = format!("{:?}", Account::from_connection_string(connection).unwrap());
            assert!(printed.contains("shop.table.core.windows.net") && !printed.contains(KEY), "{printed}");
        }
    }

    #[test]
    fn the_emulator_is_known_wherever_it_runs() {
        let (name, key) = EMULATOR;
        for (connection, expected) in [
            ("UseDevelopmentStorage=true".to_owned(), true),
            ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite".to_owned(), true),
            (
                format!(
                    "AccountName={name};AccountKey={key};TableEndpoint=http://azurite:10002/{name};QueueEndpoint=http://azurite:10001/{name}"
                ),
                true,
            ),
            (format!("AccountName=shop;AccountKey={KEY}"), false),
        ] {
            let account = Account::from_connection_string(&connection).unwrap();
            assert_eq!(account.endpoints.are_of_the_emulator(), expected, "{connection}");
        }
    }
}
