//! The one request this project makes of a queue: [put a
//! message](https://learn.microsoft.com/rest/api/storageservices/put-message).
//!
//! It goes through the pipeline of the table client, with its signature and our transport. Nothing is read from the
//! answer but its status, so no XML is parsed.

use super::{Account, Error, transport::Transport};
use azure_core::{
    ClientOptions, Context, HttpClient, Method, Pipeline, Request, RetryOptions, TransportOptions, Url,
    headers::Headers,
};
use azure_storage::clients::{ServiceType, finalize_request, new_pipeline_from_options};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::sync::Arc;

/// The most one message can hold, in bytes: [64
/// KiB](https://learn.microsoft.com/azure/storage/queues/scalability-targets).
pub const MAX_MESSAGE: usize = 65_536;

/// The most the body of a request to put a message can hold, in bytes. A message is escaped in it.
const MAX_BODY: usize = 131_584;

/// Elements around the message in that body.
const ELEMENTS: [&str; 2] = ["<QueueMessage><MessageText>", "</MessageText></QueueMessage>"];

/// Escapes of XML, the one of their own character first.
const ESCAPES: [(char, &str); 4] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('\r', "&#13;")];

/// Encoding of the messages on a queue, by its names in [`messageEncoding` of
/// `host.json`](https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#host-json).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageEncoding {
    /// Default of every function that is triggered by a queue.
    Base64,
    /// Default of the SDKs.
    None,
}

impl MessageEncoding {
    /// Encodes a message.
    #[must_use]
    pub fn encode(self, message: String) -> String {
        match self {
            Self::Base64 => BASE64_STANDARD.encode(message),
            Self::None => message,
        }
    }
}

/// Whether a message can be put on a queue, with so many bytes more.
#[must_use]
pub fn fits(message: &str, room: usize) -> bool {
    let escapes = |(character, escape): (char, &str)| message.matches(character).count() * (escape.len() - 1);
    let escaped: usize = message.len() + ESCAPES.into_iter().map(escapes).sum::<usize>();
    message.len() + room <= MAX_MESSAGE && escaped + room + ELEMENTS.concat().len() <= MAX_BODY
}

/// One queue.
#[derive(Debug)]
pub struct Queue {
    pipeline: Pipeline,
    endpoint: Url,
    name: String,
}

impl Queue {
    /// The queue `name` of `account`, reached through `connection`.
    #[must_use]
    pub fn new(account: &Account, name: &str, connection: Arc<dyn HttpClient>) -> Self {
        let transport = TransportOptions::new(Arc::new(Transport::new(connection)));
        let options = ClientOptions::default().transport(transport).retry(RetryOptions::none());
        Self {
            pipeline: new_pipeline_from_options(options, account.credential()),
            endpoint: account.queues().clone(),
            name: name.to_owned(),
        }
    }

    /// Puts a message on the queue, as it is, to stay there until it is taken; creates the queue when there is none.
    ///
    /// # Errors
    ///
    /// The message is not on the queue, unless the error [may be applied](Error::may_be_applied).
    pub async fn put(&self, message: &str) -> Result<(), Error> {
        match self.put_once(message).await {
            Err(error) if error.has_code("QueueNotFound") => match self.send(Method::Put, &[], String::new()).await {
                Err(error) if !error.has_code("QueueAlreadyExists") => Err(error),
                _ => self.put_once(message).await,
            },
            result => result,
        }
    }

    async fn put_once(&self, message: &str) -> Result<(), Error> {
        self.send(Method::Post, &["messages"], body(message)).await
    }

    async fn send(&self, method: Method, path: &[&str], body: String) -> Result<(), Error> {
        let mut url = self.endpoint.clone();
        let cannot_be_a_base = |()| Error::Unsendable("the queue endpoint has no path".to_owned());
        url.path_segments_mut().map_err(cannot_be_a_base)?.pop_if_empty().push(&self.name).extend(path);
        if !path.is_empty() {
            // The default is to drop a message after seven days.
            url.query_pairs_mut().append_pair("messagettl", "-1");
        }
        let mut request: Request = finalize_request(url, method, Headers::new(), Some(body.into()))?;
        let mut context = Context::new();
        context.insert(ServiceType::Queue);
        self.pipeline.send(&context, &mut request).await?;
        Ok(())
    }
}

/// Writes the body that puts a message. No message has what XML cannot hold at all, escaped or not: see
/// [`crate::json::xml_safe`].
fn body(message: &str) -> String {
    let escape = |text: String, (character, escape): (char, &str)| text.replace(character, escape);
    ELEMENTS.join(&ESCAPES.into_iter().fold(message.to_owned(), escape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_escaped_once() {
        let expected = "<QueueMessage><MessageText>&lt;a&gt; &amp;amp;&#13;\n</MessageText></QueueMessage>";
        assert_eq!(body("<a> &amp;\r\n"), expected);
    }

    proptest! {
        #[test]
        fn a_message_fits_when_its_body_does(parts in prop::collection::vec(("[&<>\ra€]", 20_000_usize..28_000), 0..4)) {
            let message: String = parts.iter().map(|(character, count)| character.repeat(*count)).collect();
            prop_assert_eq!(fits(&message, 0), message.len() <= MAX_MESSAGE && body(&message).len() <= MAX_BODY);
        }
    }
}
