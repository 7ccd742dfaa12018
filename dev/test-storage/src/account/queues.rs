//! Queue storage: <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_xml::{Reader, escape, events::Event};
use reqwest::Method;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{Account, Service, StorageError, send, text, unless};

/// A message as a receive or a peek returns it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message id, the same at every delivery.
    pub id: String,
    /// The text exactly as it lies on the queue.
    pub text: String,
    /// The dequeue count, this receive included; 0 in a peek before the first receive.
    pub dequeue_count: u32,
    /// The pop receipt, by which it is deleted or hidden; empty in a peek.
    pub pop_receipt: String,
    /// When it was put on the queue.
    pub inserted: OffsetDateTime,
    /// When it becomes visible again; in a peek the time of insertion.
    pub next_visible: OffsetDateTime,
    /// When the service drops it.
    pub expires: OffsetDateTime,
}

/// Decodes the text of a message that was put in base64, as the Functions host does by default.
#[must_use]
pub fn from_base64(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

impl Account {
    /// Creates a queue unless it exists.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached; so for everything below.
    pub async fn create_queue(&self, queue: &str) -> Result<(), StorageError> {
        let request = self.request(Method::PUT, Service::Queue, queue);
        unless(409, send(&format!("create queue {queue}"), request).await)
    }

    /// Puts a text on a queue as it is, creating the queue when it is missing, as the Functions host does.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn put(&self, queue: &str, message: &str) -> Result<(), StorageError> {
        match self.put_once(queue, message).await {
            Err(error) if error.status() == Some(404) => {
                self.create_queue(queue).await?;
                self.put_once(queue, message).await
            }
            other => other,
        }
    }

    async fn put_once(&self, queue: &str, message: &str) -> Result<(), StorageError> {
        let message = escape::escape(message);
        let request = self
            .request(Method::POST, Service::Queue, &format!("{queue}/messages"))
            .header("content-type", "application/xml")
            .body(format!("<QueueMessage><MessageText>{message}</MessageText></QueueMessage>"));
        send(&format!("put a message on queue {queue}"), request).await.map(drop)
    }

    /// Puts the base64 of a text on a queue, as Storage Explorer does unless told otherwise.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn put_base64(&self, queue: &str, message: &str) -> Result<(), StorageError> {
        self.put(queue, &STANDARD.encode(message)).await
    }

    /// Receives up to `max` messages and hides them for `visibility`.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn receive(&self, queue: &str, max: u32, visibility: Duration) -> Result<Vec<Received>, StorageError> {
        let operation = format!("receive from queue {queue}");
        let request = self
            .request(Method::GET, Service::Queue, &format!("{queue}/messages"))
            .query(&[("numofmessages", u64::from(max)), ("visibilitytimeout", visibility.as_secs())]);
        messages(&operation, &text(&operation, send(&operation, request).await?).await?)
    }

    /// Peeks at up to 32 visible messages; none when the queue is missing.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn peek(&self, queue: &str) -> Result<Vec<Received>, StorageError> {
        let operation = format!("peek into queue {queue}");
        let request = self
            .request(Method::GET, Service::Queue, &format!("{queue}/messages"))
            .query(&[("peekonly", "true"), ("numofmessages", "32")]);
        match send(&operation, request).await {
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(response) => messages(&operation, &text(&operation, response).await?),
        }
    }

    /// Deletes a received message.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn delete(&self, queue: &str, message: &Received) -> Result<(), StorageError> {
        let request = self
            .request(Method::DELETE, Service::Queue, &format!("{queue}/messages/{}", message.id))
            .query(&[("popreceipt", &message.pop_receipt)]);
        send(&format!("delete from queue {queue}"), request).await.map(drop)
    }

    /// Hides a received message for `visibility` from now; zero shows it at once.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn update_visibility(
        &self,
        queue: &str,
        message: &mut Received,
        visibility: Duration,
    ) -> Result<(), StorageError> {
        let request = self
            .request(Method::PUT, Service::Queue, &format!("{queue}/messages/{}", message.id))
            .query(&[
                ("popreceipt", message.pop_receipt.clone()),
                ("visibilitytimeout", visibility.as_secs().to_string()),
            ])
            .header("content-length", "0");
        let response = send(&format!("update visibility in queue {queue}"), request).await?;
        if let Some(receipt) = response.headers().get("x-ms-popreceipt").and_then(|value| value.to_str().ok()) {
            receipt.clone_into(&mut message.pop_receipt);
        }
        Ok(())
    }

    /// Counts the messages on a queue, hidden ones included; 0 when it is missing.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn queue_length(&self, queue: &str) -> Result<u64, StorageError> {
        let operation = format!("count queue {queue}");
        let request = self.request(Method::GET, Service::Queue, queue).query(&[("comp", "metadata")]);
        let response = match send(&operation, request).await {
            Err(error) if error.status() == Some(404) => return Ok(0),
            other => other?,
        };
        let count = response.headers().get("x-ms-approximate-messages-count").and_then(|value| value.to_str().ok());
        let count = count.and_then(|count| count.parse().ok());
        count.ok_or_else(|| StorageError::unexpected(&operation, "no message count"))
    }

    /// Removes every message of a queue.
    #[expect(clippy::missing_errors_doc, reason = "see `create_queue`")]
    pub async fn clear_queue(&self, queue: &str) -> Result<(), StorageError> {
        let request = self.request(Method::DELETE, Service::Queue, &format!("{queue}/messages"));
        unless(404, send(&format!("clear queue {queue}"), request).await)
    }
}

fn messages(operation: &str, xml: &str) -> Result<Vec<Received>, StorageError> {
    let elements = elements(xml).map_err(|error| StorageError::unexpected(operation, error.to_string()))?;
    elements.into_iter().map(|fields| message(operation, fields)).collect()
}

fn message(operation: &str, mut fields: BTreeMap<String, String>) -> Result<Received, StorageError> {
    let mut field = |name: &str| fields.remove(name);
    let time = |text: Option<String>| text.and_then(|text| OffsetDateTime::parse(&text, &Rfc2822).ok());
    let missing = |name: &str| StorageError::unexpected(operation, format!("no usable {name}"));
    let inserted = time(field("InsertionTime")).ok_or_else(|| missing("InsertionTime"))?;
    Ok(Received {
        id: field("MessageId").ok_or_else(|| missing("MessageId"))?,
        text: field("MessageText").unwrap_or_default(),
        dequeue_count: field("DequeueCount").and_then(|count| count.parse().ok()).unwrap_or(0),
        pop_receipt: field("PopReceipt").unwrap_or_default(),
        inserted,
        next_visible: time(field("TimeNextVisible")).unwrap_or(inserted),
        expires: time(field("ExpirationTime")).ok_or_else(|| missing("ExpirationTime"))?,
    })
}

// Event by event and not through serde, which trims text: a message is its exact characters.
fn elements(xml: &str) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    let mut reader = Reader::from_str(xml);
    let mut elements = Vec::new();
    let mut fields = BTreeMap::new();
    let mut content = String::new();
    loop {
        match reader.read_event()? {
            Event::Start(_) => content.clear(),
            Event::Text(part) => content.push_str(&part.into_inner()),
            Event::GeneralRef(name) => content.push_str(&format!("&{};", name.into_inner())),
            Event::End(tag) => {
                let name = tag.name().as_ref().to_owned();
                if name == "QueueMessage" {
                    elements.push(std::mem::take(&mut fields));
                }
                fields.insert(name, escape::unescape(&content)?.into_owned());
            }
            Event::Eof => return Ok(elements),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_to_the_character() {
        let xml = "<?xml version=\"1.0\"?><QueueMessagesList><QueueMessage><MessageId>1</MessageId>\
            <InsertionTime>Mon, 31 Aug 2026 10:15:30 GMT</InsertionTime>\
            <ExpirationTime>Mon, 07 Sep 2026 10:15:30 GMT</ExpirationTime><DequeueCount>3</DequeueCount>\
            <MessageText> {\"a\":\"&lt;&amp;&gt;&#13;\"}\n </MessageText></QueueMessage></QueueMessagesList>";
        let messages = messages("test", xml).unwrap();
        assert_eq!(messages[0].text, " {\"a\":\"<&>\r\"}\n ");
        assert_eq!(messages[0].dequeue_count, 3);
        assert_eq!(messages[0].inserted, time::macros::datetime!(2026-08-31 10:15:30 UTC));
    }

    #[test]
    fn an_empty_message_is_empty() {
        let xml = "<QueueMessagesList><QueueMessage><MessageId>1</MessageId>\
            <InsertionTime>Mon, 31 Aug 2026 10:15:30 GMT</InsertionTime>\
            <ExpirationTime>Mon, 07 Sep 2026 10:15:30 GMT</ExpirationTime><MessageText/>\
            </QueueMessage></QueueMessagesList>";
        assert_eq!(messages("test", xml).unwrap()[0].text, "");
    }
}
