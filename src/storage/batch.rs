//! The multipart form of an [entity group
//! transaction](https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions).
//!
//! The client writes it with bare line feeds and without the closing delimiter, and it reads an answer by looking for
//! what it hopes to find, so that a refused, a truncated and an empty answer all look like a success. Here the request
//! is made strict, and an answer counts only when it is complete and has one success for each operation.

use super::Error;
use bytes::Bytes;
use serde::Deserialize;

/// The most operations one transaction can have.
pub const MAX_OPERATIONS: usize = 100;

/// Counts the operations in a request body.
#[must_use]
pub fn count_operations(body: &str) -> usize {
    body.lines().filter(|line| *line == "Content-Type: application/http").count()
}

/// Gives a body CRLF line ends and the closing delimiter. Entities are JSON without line breaks, so every line
/// feed is one of the multipart form; the two Unicode line separators, at which some servers break lines too, are
/// escaped.
#[must_use]
pub fn to_strict_multipart(body: &str) -> Bytes {
    let mut strict = String::with_capacity(body.len() + body.len() / 16);
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        strict.push_str(line);
        let is_unclosed_end = lines.peek().is_none() && !line.ends_with("--");
        strict.push_str(if is_unclosed_end { "--\r\n" } else { "\r\n" });
    }
    escape_line_separators(strict).into()
}

/// Nearly no text has one: then it is only looked through.
fn escape_line_separators(json: String) -> String {
    match json.contains(['\u{2028}', '\u{2029}']) {
        true => json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"),
        false => json,
    }
}

/// Checks that all `operations` of a transaction were applied.
///
/// # Errors
///
/// [`Error::Refused`] with the status and code of the operation that was refused, or [`Error::Garbled`] when the answer
/// does not say what happened to each of them.
pub fn check_answer(content_type: &str, body: &[u8], operations: usize) -> Result<(), Error> {
    let garbled = |what: &str| Error::Garbled(format!("the answer to a batch {what}"));
    let body = std::str::from_utf8(body).map_err(|_| garbled("is not text"))?;
    let boundary = content_type.split("boundary=").nth(1).ok_or_else(|| garbled("has no boundary"))?;
    let closing = format!("--{}--", boundary.split(';').next().unwrap_or_default().trim_matches(['"', ' ']));
    if body.trim_end().lines().next_back() != Some(closing.as_str()) {
        return Err(garbled("is truncated"));
    }
    let parts = body.split("\nHTTP/1.1 ").skip(1);
    let mut applied = 0;
    for part in parts {
        let status = part.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| garbled("has no status"))?;
        if !(200..300).contains(&status) {
            return Err(refused(status, part));
        }
        applied += 1;
    }
    if applied == operations { Ok(()) } else { Err(garbled(&format!("reports {applied} of {operations} operations"))) }
}

/// The error of the one operation that was refused: nothing of the transaction was applied.
fn refused(status: u16, part: &str) -> Error {
    let error = part.lines().find_map(|line| serde_json::from_str::<ODataError>(line).ok());
    let (code, message) = error.map_or_else(Default::default, ODataError::into_code_and_message);
    // The message begins with the index of the operation: "1:The specified entity already exists."
    let operation = message.split_once(':').and_then(|(index, _)| index.parse().ok());
    Error::Refused { status, code, operation, retry_after: None }
}

/// The [error body](https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2#error-response) of the
/// Table service.
#[derive(Debug, Deserialize)]
pub(super) struct ODataError {
    #[serde(rename = "odata.error")]
    error: ODataErrorContent,
}

#[derive(Debug, Deserialize)]
struct ODataErrorContent {
    code: String,
    #[serde(default)]
    message: ODataErrorMessage,
}

#[derive(Debug, Default, Deserialize)]
struct ODataErrorMessage {
    #[serde(default)]
    value: String,
}

impl ODataError {
    pub(super) fn into_code_and_message(self) -> (String, String) {
        (self.error.code, self.error.message.value)
    }
}
