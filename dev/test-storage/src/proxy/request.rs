//! A storage request, and what it is about: tests count by that.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request as HttpRequest,
    body::{Body, Incoming},
    header::{HeaderName, HeaderValue},
};
use quick_xml::escape::unescape;

use crate::kind::Kind;

/// A request that passed, whatever became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The operation.
    pub kind: Kind,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Returns the text of the message that the request puts on a queue.
    #[must_use]
    pub fn message_text(&self) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let (_, text) = body.split_once("<MessageText>")?;
        Some(unescape(text.split_once("</MessageText>")?.0).ok()?.into_owned())
    }
}

/// A request of which the head and at least half of the body have arrived.
pub(super) struct Arriving {
    request: Request,
    rest: Incoming,
}

impl Arriving {
    /// Reads no further than needed, because what the proxy has read, its client has sent.
    pub(super) async fn half(request: HttpRequest<Incoming>) -> Result<Self> {
        let (head, rest) = request.into_parts();
        let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let request = Request {
            method: head.method.to_string(),
            kind: Kind::of(head.method.as_str(), &target),
            headers: head.headers.iter().map(header).collect(),
            body: Bytes::new(),
            target,
        };
        // Of a body that does not tell its length, this is all.
        let half = rest.size_hint().exact().map_or(u64::MAX, |length| length.div_ceil(2));
        let mut arriving = Self { request, rest };
        arriving.read_to(half).await?;
        Ok(arriving)
    }

    pub(super) fn so_far(&self) -> &Request {
        &self.request
    }

    /// Reads the rest of the request, unless it is to be cut where it is.
    pub(super) async fn read(mut self, is_cut: bool) -> Result<Request> {
        if !is_cut {
            self.read_to(u64::MAX).await?;
        }
        Ok(self.request)
    }

    async fn read_to(&mut self, length: u64) -> Result<()> {
        let mut body = self.request.body.to_vec();
        while (body.len() as u64) < length
            && let Some(frame) = self.rest.frame().await
        {
            body.extend(frame?.into_data().unwrap_or_default());
        }
        self.request.body = body.into();
        Ok(())
    }
}
