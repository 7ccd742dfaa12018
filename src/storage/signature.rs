//! The [Shared Key](https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key) signature of the
//! requests that an order makes.
//!
//! `azure_storage` makes the same one, but it decodes the key every time, and composes the text of an error for every header
//! that a request does not have. That would be a tenth of an order's processor time.

use super::transport::header;
use azure_core::{
    Request,
    headers::{CONTENT_LENGTH, CONTENT_TYPE, MS_DATE, VERSION},
};
use azure_storage::{StorageCredentials, StorageCredentialsInner, clients::ServiceType};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The key of an account. It does not print itself.
#[derive(Debug)]
pub(super) struct SharedKey {
    account: String,
    key: Hmac<Sha256>,
}

impl SharedKey {
    /// Takes the key out of a credential that is one.
    pub(super) fn of(credential: &StorageCredentials) -> Option<Self> {
        let credential = credential.0.try_read()?;
        let StorageCredentialsInner::Key(account, key) = &*credential else { return None };
        let key = Hmac::new_from_slice(&BASE64_STANDARD.decode(key.secret()).ok()?).ok()?;
        Some(Self { account: account.clone(), key })
    }

    /// Returns the `Authorization` of a request, in which nothing that is signed may change afterwards.
    pub(super) fn authorization(&self, kind: ServiceType, request: &Request) -> String {
        let mut key = self.key.clone();
        key.update(text_to_sign(&self.account, kind, request).as_bytes());
        format!("SharedKey {}:{}", self.account, BASE64_STANDARD.encode(key.finalize().into_bytes()))
    }
}

fn text_to_sign(account: &str, kind: ServiceType, request: &Request) -> String {
    let [length, content_type, date, version] = [CONTENT_LENGTH, CONTENT_TYPE, MS_DATE, VERSION]
        .map(|name| header(request.headers(), &name).unwrap_or_default());
    let (method, url) = (request.method().as_ref(), request.url());
    let path = url.path();
    if matches!(kind, ServiceType::Table) {
        return format!("{method}\n\n{content_type}\n{date}\n/{account}{path}");
    }
    let length = if length == "0" { "" } else { length };
    let mut parameters: Vec<_> = url.query_pairs().map(|(name, value)| format!("\n{name}:{value}")).collect();
    parameters.sort_unstable();
    let headers = format!("x-ms-date:{date}\nx-ms-version:{version}");
    format!("{method}\n\n\n{length}\n\n{content_type}\n\n\n\n\n\n\n{headers}\n/{account}{path}{}", parameters.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use azure_core::{
        ClientOptions, Context, HttpClient, Method, Response, RetryOptions, TransportOptions, Url,
        error::ErrorKind,
        headers::{AUTHORIZATION, Headers},
    };
    use azure_storage::clients::{finalize_request, new_pipeline_from_options};
    use std::sync::{Arc, Mutex};

    /// Keeps the authorization of the last request.
    #[derive(Debug, Default)]
    struct Kept(Mutex<String>);

    #[async_trait]
    impl HttpClient for Kept {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
            *self.0.lock().unwrap() = header(request.headers(), &AUTHORIZATION).unwrap().to_owned();
            Err(azure_core::Error::message(ErrorKind::Other, "kept"))
        }
    }

    #[tokio::test]
    async fn the_signature_is_the_one_that_the_client_makes() {
        let credential = StorageCredentials::access_key("shop", "a2V5".to_owned());
        let kept = Arc::new(Kept::default());
        let options =
            ClientOptions::default().transport(TransportOptions::new(kept.clone())).retry(RetryOptions::none());
        let pipeline = new_pipeline_from_options(options, credential.clone());
        for (kind, method, url, body) in [
            (ServiceType::Table, Method::Post, "https://shop.table.core.windows.net/$batch", "--batch_1"),
            (ServiceType::Table, Method::Delete, "http://127.0.0.1:1/shop/t(PartitionKey='a~b',RowKey='c%20d')", ""),
            (
                ServiceType::Queue,
                Method::Post,
                "http://127.0.0.1:1/shop/q/messages?visibilitytimeout=7&messagettl=-1",
                "Zoë",
            ),
            (ServiceType::Queue, Method::Get, "https://shop.queue.core.windows.net/q?comp=metadata", ""),
            (
                ServiceType::Queue,
                Method::Delete,
                "https://shop.queue.core.windows.net/q/messages/1?popreceipt=Ag%3D%2B+",
                "",
            ),
            (ServiceType::Queue, Method::Put, "https://shop.queue.core.windows.net/q", ""),
        ] {
            let mut headers = Headers::new();
            headers.insert(CONTENT_TYPE, "multipart/mixed; boundary=batch_1");
            let mut request = finalize_request(Url::parse(url).unwrap(), method, headers, Some(body.into())).unwrap();
            let own = SharedKey::of(&credential).unwrap().authorization(kind, &request);
            let mut context = Context::new();
            context.insert(kind);
            let _ = pipeline.send(&context, &mut request).await;
            assert_eq!(own, *kept.0.lock().unwrap(), "{url}");
        }
    }
}
