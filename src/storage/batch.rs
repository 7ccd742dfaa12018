//! The multipart form of an [entity group
//! transaction](https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions).
//!
//! It is written and read here and not by the table client, which writes it with bare line feeds and without the closing
//! delimiter, and which reads an answer by looking for what it hopes to find, so that a refused, a truncated and an empty
//! answer all look like a success. An answer counts only when it is complete and has one success for each operation.

use super::Error;
use azure_core::Url;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most operations one transaction can have.
pub const MAX_OPERATIONS: usize = 100;

/// Writes the insert of an entity into the table at `url`.
///
/// # Errors
///
/// The entity has no JSON form.
pub fn insert(url: &Url, entity: &impl Serialize) -> Result<String, Error> {
    let entity =
        serde_json::to_string(entity).map_err(|_| Error::Unsendable("an entity that is not JSON".to_owned()))?;
    let headers = "accept: application/json;odata=fullmetadata\r\ncontent-type: application/json";
    Ok(operation("POST", url, &[headers, "\r\n\r\n", &escape_line_separators(entity)]))
}

/// Writes the delete of the entity at `url`, provided that it is still of this version.
#[must_use]
pub fn delete(url: &Url, etag: &str) -> String {
    operation("DELETE", url, &["accept: application/json;odata=minimalmetadata\r\nif-match: ", etag, "\r\n"])
}

fn operation(method: &str, url: &Url, rest: &[&str]) -> String {
    let head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    [&[head, method, " ", url.as_str(), " HTTP/1.1\r\n"], rest, &["\r\n"]].concat().concat()
}

/// Escapes the two characters at which some servers break lines too. Nearly no text has their first byte.
fn escape_line_separators(json: String) -> String {
    match json.as_bytes().contains(&0xe2) {
        true => json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"),
        false => json,
    }
}

/// Returns the `Content-Type` of a transaction, and its body.
#[must_use]
pub fn request(boundary: Uuid, operations: &[String]) -> (String, String) {
    let delimiter = format!("--changeset_{boundary}\r\n");
    let begin = format!("--batch_{boundary}\r\nContent-Type: multipart/mixed; boundary=changeset_{boundary}\r\n\r\n");
    let end = format!("--changeset_{boundary}--\r\n--batch_{boundary}--\r\n");
    let parts = operations.iter().flat_map(|operation| [&delimiter, operation]);
    let body: Vec<&str> = [&begin].into_iter().chain(parts).chain([&end]).map(String::as_str).collect();
    (format!("multipart/mixed; boundary=batch_{boundary}"), body.concat())
}

/// Checks that all `operations` of a transaction were applied. Returns the `ETag` of each, where the service gives it.
///
/// # Errors
///
/// [`Error::Refused`] with the status and code of the operation that was refused, or [`Error::Garbled`] when the answer
/// does not say what happened to each of them.
pub fn check_answer(content_type: &str, body: &[u8], operations: usize) -> Result<Vec<Option<String>>, Error> {
    let garbled = |what: &str| Error::Garbled(format!("the answer to a batch {what}"));
    let body = std::str::from_utf8(body).map_err(|_| garbled("is not text"))?;
    let boundary = content_type.split("boundary=").nth(1).ok_or_else(|| garbled("has no boundary"))?;
    let closing = format!("--{}--", boundary.split(';').next().unwrap_or_default().trim_matches(['"', ' ']));
    if body.trim_end().lines().next_back() != Some(closing.as_str()) {
        return Err(garbled("is truncated"));
    }
    let mut etags = Vec::with_capacity(operations);
    // An entity is one line, which begins with a brace: no other line is content.
    let mut lines = body.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            let status =
                rest.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| garbled("has no status"))?;
            if !(200..300).contains(&status) {
                return Err(refused(status, lines));
            }
            etags.push(None);
        } else if let (Some(value), Some(etag)) = (line.strip_prefix("ETag:"), etags.last_mut()) {
            *etag = Some(value.trim().to_owned());
        }
    }
    let applied = etags.len();
    if applied == operations {
        Ok(etags)
    } else {
        Err(garbled(&format!("reports {applied} of {operations} operations")))
    }
}

/// The error of the one operation that was refused: nothing of the transaction was applied.
fn refused<'a>(status: u16, mut lines: impl Iterator<Item = &'a str>) -> Error {
    let error = lines.find_map(|line| serde_json::from_str::<ODataError>(line).ok());
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
