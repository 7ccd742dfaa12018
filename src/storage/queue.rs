//! The requests this project makes of a queue: [put a
//! message](https://learn.microsoft.com/rest/api/storageservices/put-message), receive, peek and delete some, and count them.
//!
//! What is put never expires: the default of the service is to drop a message after seven days.

use super::{
    Account, Error,
    service::{Service, options},
};
use azure_core::{
    HttpClient, Method, Response, StatusCode,
    headers::{HeaderName, Headers},
};
use azure_storage::clients::ServiceType;
use base64::{Engine, prelude::BASE64_STANDARD};
use quick_xml::{Reader, escape::unescape, events::Event};
use std::{sync::Arc, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

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

    /// Decodes a message; one that is not in this encoding stays as it is.
    #[must_use]
    pub fn decode(self, message: String) -> String {
        let decoded = match self {
            Self::Base64 => BASE64_STANDARD.decode(&message).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
            Self::None => None,
        };
        decoded.unwrap_or(message)
    }
}

/// A message as it was received or seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Id, which it keeps at every delivery.
    pub id: String,
    /// Right to delete it. Empty when it was only seen.
    pub pop_receipt: String,
    /// Time at which it was put, by the clock of the service.
    pub inserted: Option<OffsetDateTime>,
    /// Text on the queue.
    pub text: String,
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
    service: Service,
    name: String,
}

impl Queue {
    /// The queue `name` of `account`, reached through `connection`.
    #[must_use]
    pub fn new(account: &Account, name: &str, connection: Arc<dyn HttpClient>) -> Self {
        let service = Service::new(account, (ServiceType::Queue, &account.endpoints.queues), options(connection));
        Self { service, name: name.to_owned() }
    }

    /// Name of the queue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a message on the queue, as it is; creates the queue when there is none.
    ///
    /// # Errors
    ///
    /// The message is not on the queue, unless the error [may be applied](Error::may_be_applied).
    pub async fn put(&self, message: &str) -> Result<(), Error> {
        match self.put_hidden(message, Duration::ZERO).await {
            Err(error) if error.has_code("QueueNotFound") => {
                self.create().await?;
                self.put_hidden(message, Duration::ZERO).await
            }
            result => result,
        }
    }

    /// Creates the queue unless it is there, and says whether it is new.
    ///
    /// # Errors
    ///
    /// The queue may not be there.
    pub async fn create(&self) -> Result<bool, Error> {
        match self.send((Method::Put, &[]), &[], String::new()).await {
            Err(error) if error.has_code("QueueAlreadyExists") => Ok(false),
            response => Ok(response?.status() == StatusCode::Created),
        }
    }

    /// Puts a message on the queue, which has to be there, to be seen after this time, in whole seconds.
    ///
    /// # Errors
    ///
    /// The message is not on the queue, unless the error [may be applied](Error::may_be_applied).
    pub async fn put_hidden(&self, message: &str, invisible: Duration) -> Result<(), Error> {
        let seconds = invisible.as_secs().to_string();
        let hidden = [("messagettl", "-1"), ("visibilitytimeout", &seconds)];
        let query = if invisible.is_zero() { &hidden[..1] } else { &hidden };
        self.send((Method::Post, &["messages"]), query, body(message)).await.map(drop)
    }

    /// Receives up to 32 messages, which nobody else sees for this time, in whole seconds. A queue that is not there has
    /// none.
    ///
    /// # Errors
    ///
    /// Some may have been received all the same: they come back.
    pub async fn receive(&self, invisible: Duration) -> Result<Vec<ReceivedMessage>, Error> {
        self.messages(&[("numofmessages", "32"), ("visibilitytimeout", &invisible.as_secs().to_string())]).await
    }

    /// Looks at the message that is received next.
    ///
    /// # Errors
    ///
    /// The service did not say.
    pub async fn peek(&self) -> Result<Option<ReceivedMessage>, Error> {
        Ok(self.messages(&[("peekonly", "true")]).await?.into_iter().next())
    }

    /// Looks at up to 32 messages, those that are received next.
    ///
    /// # Errors
    ///
    /// The service did not say.
    pub async fn peek_some(&self) -> Result<Vec<ReceivedMessage>, Error> {
        self.messages(&[("peekonly", "true"), ("numofmessages", "32")]).await
    }

    /// Lets a message that was received be seen again at once. One that is gone, or that came back meanwhile, is left alone.
    ///
    /// # Errors
    ///
    /// It may still be hidden, and comes back by itself.
    pub async fn release(&self, message: &ReceivedMessage) -> Result<(), Error> {
        self.settle((Method::Put, message), &[("visibilitytimeout", "0")]).await
    }

    async fn messages(&self, query: &[(&str, &str)]) -> Result<Vec<ReceivedMessage>, Error> {
        let response = match self.send((Method::Get, &["messages"]), query, String::new()).await {
            Err(error) if error.has_code("QueueNotFound") => return Ok(Vec::new()),
            response => response?,
        };
        let xml = response.into_body().collect().await?;
        let messages = std::str::from_utf8(&xml).ok().and_then(|xml| received_messages(xml).ok());
        messages.ok_or_else(|| Error::Garbled("no list of messages".to_owned()))
    }

    /// Deletes a message that was received. One that is gone, or that came back meanwhile, is left alone.
    ///
    /// # Errors
    ///
    /// It may still be there.
    pub async fn delete(&self, message: &ReceivedMessage) -> Result<(), Error> {
        self.settle((Method::Delete, message), &[]).await
    }

    /// Does something with a message that was received, by its pop receipt.
    async fn settle(&self, (method, message): (Method, &ReceivedMessage), query: &[(&str, &str)]) -> Result<(), Error> {
        let query = [&[("popreceipt", message.pop_receipt.as_str())], query].concat();
        match self.send((method, &["messages", &message.id]), &query, String::new()).await {
            Err(error) if !error.has_code("MessageNotFound") && !error.has_code("PopReceiptMismatch") => Err(error),
            _ => Ok(()),
        }
    }

    /// Counts the messages, about, those that cannot be seen included. A queue that is not there has none.
    ///
    /// # Errors
    ///
    /// The service did not say.
    pub async fn length(&self) -> Result<u64, Error> {
        let response = match self.send((Method::Get, &[]), &[("comp", "metadata")], String::new()).await {
            Err(error) if error.has_code("QueueNotFound") => return Ok(0),
            response => response?,
        };
        let count = response.headers().get_optional_str(&HeaderName::from_static("x-ms-approximate-messages-count"));
        count.and_then(|count| count.parse().ok()).ok_or_else(|| Error::Garbled("no count of messages".to_owned()))
    }

    async fn send(
        &self,
        (method, path): (Method, &[&str]),
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Response, Error> {
        let mut url = self.service.url(&[&[self.name.as_str()], path].concat())?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.service.send((method, url), Headers::new(), body).await
    }
}

/// Reads [the messages of an
/// answer](https://learn.microsoft.com/rest/api/storageservices/get-messages#response-body), their texts to the last blank.
fn received_messages(xml: &str) -> Result<Vec<ReceivedMessage>, quick_xml::Error> {
    let mut reader = Reader::from_str(xml);
    let mut messages = Vec::new();
    loop {
        match (reader.read_event()?, messages.last_mut()) {
            (Event::Start(element), _) if element.name().as_ref() == b"QueueMessage" => {
                messages.push(ReceivedMessage::default());
            }
            (Event::Start(element), Some(message)) => {
                let text = unescape(&reader.read_text(element.name())?)?.into_owned();
                match element.name().as_ref() {
                    b"MessageId" => message.id = text,
                    b"PopReceipt" => message.pop_receipt = text,
                    b"InsertionTime" => message.inserted = OffsetDateTime::parse(&text, &Rfc2822).ok(),
                    b"MessageText" => message.text = text,
                    _ => {}
                }
            }
            (Event::Eof, _) => return Ok(messages),
            _ => {}
        }
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
    use time::macros::datetime;

    #[test]
    fn a_message_is_escaped_once() {
        let expected = "<QueueMessage><MessageText>&lt;a&gt; &amp;amp;&#13;\n</MessageText></QueueMessage>";
        assert_eq!(body("<a> &amp;\r\n"), expected);
    }

    #[test]
    fn the_messages_of_an_answer_are_read_to_the_last_blank() {
        let message = "<QueueMessage><MessageId>5b0c</MessageId><InsertionTime>Sat, 21 Nov 2026 10:20:00 GMT</InsertionTime><PopReceipt>Ag=</PopReceipt><DequeueCount>1</DequeueCount><MessageText> &lt;a&gt; &amp;amp;&#13;\n</MessageText></QueueMessage>";
        let xml = format!(
            "\u{feff}<?xml version=\"1.0\"?><QueueMessagesList>{message}<QueueMessage><MessageId>6</MessageId><MessageText /></QueueMessage></QueueMessagesList>"
        );
        let read = received_messages(&xml).unwrap();
        let expected = ReceivedMessage {
            id: "5b0c".to_owned(),
            pop_receipt: "Ag=".to_owned(),
            inserted: Some(datetime!(2026-11-21 10:20 UTC)),
            text: " <a> &amp;\r\n".to_owned(),
        };
        assert_eq!(read, [expected, ReceivedMessage { id: "6".to_owned(), ..ReceivedMessage::default() }]);
        assert_eq!(received_messages("<?xml version=\"1.0\"?><QueueMessagesList />").unwrap(), []);
    }

    proptest! {
        #[test]
        fn a_message_fits_when_its_body_does(parts in prop::collection::vec(("[&<>\ra€]", 20_000_usize..28_000), 0..4)) {
            let message: String = parts.iter().map(|(character, count)| character.repeat(*count)).collect();
            prop_assert_eq!(fits(&message, 0), message.len() <= MAX_MESSAGE && body(&message).len() <= MAX_BODY);
        }
    }
}
