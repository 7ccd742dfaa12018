//! The endpoints of a storage account.
//!
//! Plain http is for this machine, and for an endpoint that somebody wrote down as such: that of an emulator in a container,
//! for example. Everything that is sent there can be read on its way, a signature included.

use super::section::{Fault, Setting};
use azure_core::Url;
use std::net::IpAddr;

/// Reads the URL of an endpoint.
pub(super) fn parse(setting: Setting<'_>, allows_http: bool) -> Result<Url, Fault> {
    let is_endpoint = |url: &Url| {
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && is_anonymous && url.query().is_none() && url.fragment().is_none()
    };
    let invalid = || setting.fault("is not an https URL of a server, with nothing after its path");
    let url = Url::parse(setting.value).ok().filter(is_endpoint).ok_or_else(invalid)?;
    if url.scheme() == "https" || allows_http || is_loopback(&url) {
        Ok(url)
    } else {
        Err(setting.fault(
            "is plain http, which is allowed on this machine only, and where a connection string names the endpoint",
        ))
    }
}

/// Makes the endpoint of `service` from the name of the account and the `suffix` of its cloud.
pub(super) fn of_account(account: Setting<'_>, service: &str, protocol: &str, suffix: &str) -> Result<Url, Fault> {
    let name = account.value;
    if !(3..=24).contains(&name.len()) || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(account.fault("is not the name of a storage account: 3 to 24 letters and digits"));
    }
    let value = format!("{protocol}://{name}.{service}.{suffix}");
    parse(Setting { name: &format!("the {service} endpoint of {}", account.name), value: &value }, false)
}

/// Whether an endpoint is surely not Azure's.
pub(super) fn is_emulator(endpoint: &Url) -> bool {
    endpoint.scheme() == "http" || is_loopback(endpoint)
}

fn is_loopback(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("localhost", true),
            ("[::1]", true),
            ("azurite", false),
            ("10.0.0.4", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(&format!("http://{host}:10002/a")).unwrap()), expected, "{host}");
        }
    }
}
