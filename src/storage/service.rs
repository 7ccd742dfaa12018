//! Requests to one service of an account that the table client does not make: they go through the same pipeline, with our
//! transport.

use super::{Account, Error, signature::SharedKey, transport::Transport};
use azure_core::{
    Body, ClientOptions, Context, HttpClient, Method, Pipeline, Response, RetryOptions, TransportOptions, Url,
    headers::{AUTHORIZATION, Headers},
};
use azure_storage::{
    StorageCredentials,
    clients::{ServiceType, finalize_request, new_pipeline_from_options},
};
use std::sync::Arc;

/// One service of an account.
#[derive(Debug)]
pub(super) struct Service {
    pipeline: Pipeline,
    /// When there is none, the pipeline knows what opens the service.
    key: Option<SharedKey>,
    endpoint: Url,
    kind: ServiceType,
}

/// Makes the options with which every client reaches its service through `connection`.
pub(super) fn options(connection: Arc<dyn HttpClient>) -> ClientOptions {
    let transport = TransportOptions::new(Arc::new(Transport::new(connection)));
    // The client's own retries would repeat writes that may have been applied.
    ClientOptions::default().transport(transport).retry(RetryOptions::none())
}

impl Service {
    /// The service of this kind at `endpoint`.
    pub(super) fn new(account: &Account, (kind, endpoint): (ServiceType, &Url), options: ClientOptions) -> Self {
        let key = SharedKey::of(&account.credential);
        let credential = if key.is_some() { StorageCredentials::anonymous() } else { account.credential() };
        Self { pipeline: new_pipeline_from_options(options, credential), key, endpoint: endpoint.clone(), kind }
    }

    /// Returns the URL of something in the service.
    pub(super) fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.endpoint.clone();
        let cannot_be_a_base = |()| Error::Unsendable("the endpoint has no path".to_owned());
        url.path_segments_mut().map_err(cannot_be_a_base)?.pop_if_empty().extend(path);
        Ok(url)
    }

    /// Makes a request.
    pub(super) async fn send(
        &self,
        (method, url): (Method, Url),
        headers: Headers,
        body: impl Into<Body>,
    ) -> Result<Response, Error> {
        let mut request = finalize_request(url, method, headers, Some(body.into()))?;
        if let Some(key) = &self.key {
            let authorization = key.authorization(self.kind, &request);
            request.insert_header(AUTHORIZATION, authorization);
        }
        let mut context = Context::new();
        context.insert(self.kind);
        Ok(self.pipeline.send(&context, &mut request).await?)
    }
}
