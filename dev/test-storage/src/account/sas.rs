//! One account SAS for everything: <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The version that added the encryption scope, the last change of the text to sign.
const VERSION: &str = "2020-12-06";
/// Longer than any run of a development tool.
const EXPIRY: &str = "2099-12-31T00:00:00Z";
const PERMISSIONS: &str = "rwdlacup";

/// Signs the query string that opens the blob, queue and table service of an account, with all permissions.
pub(super) fn account_sas(account: &str, key: &str) -> Result<String> {
    let key = STANDARD.decode(key).context("an account key is base64")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).context("unusable account key")?;
    // name, permissions, services, resource types, start, expiry, address, protocol, version, encryption scope
    mac.update(format!("{account}\n{PERMISSIONS}\nbqt\nsco\n\n{EXPIRY}\n\nhttps,http\n{VERSION}\n\n").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    // Of the base64 alphabet only these three mean something in a query.
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    Ok(format!("sv={VERSION}&ss=bqt&srt=sco&sp={PERMISSIONS}&se={EXPIRY}&spr=https,http&sig={signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_computed_independently() {
        // Python: base64(hmac_sha256(key, text_to_sign)), then urllib.parse.quote(…, safe="").
        let sas = account_sas("devstoreaccount1", crate::EMULATOR_KEY).unwrap();
        assert!(sas.ends_with("&sig=XqVfd4xY5S5fFpDGm2pPL5K9hpg0bktwuzHcgOfujWs%3D"), "{sas}");
    }
}
