//! The [queue service](https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api): create and put. Of
//! a message only a hash of its event's id is kept, so that a million of them are few megabytes.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use quick_xml::escape::unescape;
use serde::Deserialize;

use super::respond;

const XML: (&str, &str) = ("content-type", "application/xml");

/// All queues.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<String, Queue>>);

#[derive(Default)]
struct Queue {
    messages: u64,
    events: HashSet<u64>,
}

/// What is on a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Messages.
    pub(crate) messages: u64,
    /// Different events among them.
    pub(crate) events: u64,
}

#[derive(Deserialize)]
struct Event {
    id: String,
}

impl Queues {
    pub(super) fn create(&self, name: &str) -> Result<Response<Full<Bytes>>> {
        self.lock().entry(name.to_owned()).or_default();
        respond(201, &[], String::new())
    }

    pub(super) fn put(&self, name: &str, body: &[u8]) -> Result<Response<Full<Bytes>>> {
        let event = event(std::str::from_utf8(body)?)?;
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&event.id);
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(name) else {
            let headers = [XML, ("x-ms-error-code", "QueueNotFound")];
            let error = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>QueueNotFound</Code></Error>";
            return respond(404, &headers, error.to_owned());
        };
        queue.messages += 1;
        queue.events.insert(hash);
        respond(201, &[XML], receipt())
    }

    pub(super) fn published(&self, name: &str) -> Published {
        let queues = self.lock();
        let published = |queue: &Queue| Published { messages: queue.messages, events: queue.events.len() as u64 };
        queues.get(name).map(published).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event that a message is about.
fn event(xml: &str) -> Result<Event> {
    let text = xml.split_once("<MessageText>").and_then(|(_, rest)| rest.split_once("</MessageText>"));
    let (text, _) = text.context("a message without a text")?;
    serde_json::from_str(&unescape(text)?).context("a message that is no event")
}

fn receipt() -> String {
    "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage>\
     <MessageId>5974b586-0df3-4e2d-ad0c-18e3892bfca2</MessageId>\
     <InsertionTime>Sat, 21 Nov 2026 10:20:00 GMT</InsertionTime>\
     <ExpirationTime>Fri, 31 Dec 9999 23:59:59 GMT</ExpirationTime><PopReceipt>AgAAAAMAAAAAAAAAmk9Pp3cZ3AE=</PopReceipt>\
     <TimeNextVisible>Sat, 21 Nov 2026 10:20:00 GMT</TimeNextVisible></QueueMessage></QueueMessagesList>"
        .to_owned()
}
