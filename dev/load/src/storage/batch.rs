//! [Entity group transactions](https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions):
//! the multipart request, and the answer that is a 202 whatever became of it.

use std::fmt::Write as _;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use super::{
    calls::key,
    respond,
    rows::{Key, Operation, Refusal, Row, Rows},
    table::{error, full_entity, location},
};

const BATCH: &str = "batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";
const CHANGE_SET: &str = "changesetresponse_2f6f4c11-6e0a-4a6e-9d6b-0f1f7a0a9c22";
const CONTENT_TYPE: &str = "multipart/mixed; boundary=batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";

/// One operation of the request, as far as it was read.
#[derive(Default)]
struct Part<'a> {
    url: &'a str,
    is_delete: bool,
    if_match: &'a str,
    wants_no_content: bool,
    entity: &'a str,
}

pub(super) fn answer(rows: &Rows, body: &str) -> Result<Response<Full<Bytes>>> {
    let parts = parts(body);
    let operations: Vec<_> = parts.iter().filter_map(operation).collect();
    if operations.len() != parts.len() || parts.is_empty() {
        return respond(400, &[], error("InvalidInput", "One of the request inputs is not valid."));
    }
    let answers: Vec<_> = match rows.apply(&operations)? {
        Ok(rows) => rows.iter().zip(&parts).map(|((key, row), part)| applied(part, key, row)).collect(),
        Err((index, refusal)) => vec![refused(index, &refusal)],
    };
    respond(202, &[("content-type", CONTENT_TYPE), ("cache-control", "no-cache")], multipart(&answers))
}

/// The operations of a request: each begins with a line like that of a request of its own.
fn parts(body: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for line in body.lines() {
        if let Some(request) = line.strip_suffix(" HTTP/1.1") {
            let (method, url) = request.split_once(' ').unwrap_or_default();
            parts.push(Part { url, is_delete: method == "DELETE", ..Part::default() });
        } else if let Some(part) = parts.last_mut() {
            read_line(part, line);
        }
    }
    parts
}

fn read_line<'a>(part: &mut Part<'a>, line: &'a str) {
    if line.starts_with('{') {
        part.entity = line;
    } else if let Some((name, value)) = line.split_once(':') {
        match name {
            _ if name.eq_ignore_ascii_case("if-match") => part.if_match = value.trim(),
            _ if name.eq_ignore_ascii_case("prefer") => part.wants_no_content = value.trim() == "return-no-content",
            _ => {}
        }
    }
}

fn operation<'a>(part: &Part<'a>) -> Option<Operation<'a>> {
    match part {
        Part { is_delete: true, .. } => Some(Operation::Delete(key(part.url)?, part.if_match)),
        Part { entity: "", .. } => None,
        Part { entity, .. } => Some(Operation::Insert(entity)),
    }
}

/// Without a preference the service sends the whole entity back.
fn applied(part: &Part<'_>, key: &Key, row: &Row) -> String {
    if part.is_delete {
        return "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\
                DataServiceVersion: 1.0;\r\n\r\n"
            .to_owned();
    }
    let (location, etag) = (location(key), row.etag());
    if part.wants_no_content {
        return format!(
            "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\
             Preference-Applied: return-no-content\r\nDataServiceVersion: 3.0;\r\nLocation: {location}\r\n\
             DataServiceId: {location}\r\nETag: {etag}\r\n\r\n"
        );
    }
    format!(
        "HTTP/1.1 201 Created\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\
         Content-Type: application/json;odata=fullmetadata;streaming=true;charset=utf-8\r\nDataServiceVersion: 3.0;\r\n\
         Location: {location}\r\nETag: {etag}\r\n\r\n{}",
        full_entity(key, row)
    )
}

/// Only the refused operation is answered, with its index in the text of the message.
fn refused(index: usize, Refusal(status, code): &Refusal) -> String {
    let body = error(code, &format!("{index}:{code}."));
    format!(
        "HTTP/1.1 {status} {code}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\
         DataServiceVersion: 3.0;\r\n\
         Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n\r\n{body}"
    )
}

fn multipart(answers: &[String]) -> String {
    let length = answers.iter().map(|answer| answer.len() + 256).sum::<usize>() + 256;
    let mut body = String::with_capacity(length);
    let _ = write!(body, "--{BATCH}\r\nContent-Type: multipart/mixed; boundary={CHANGE_SET}\r\n\r\n");
    for answer in answers {
        let _ = write!(
            body,
            "--{CHANGE_SET}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{answer}\r\n"
        );
    }
    let _ = write!(body, "--{CHANGE_SET}--\r\n--{BATCH}--\r\n");
    body
}
