//! The conversion of output values into queue messages.
//!
//! The host guesses: a string that is valid base64 is bytes, one that looks like JSON is parsed and indented, one that
//! looks like a time is reformatted. `HttpScriptInvocationResultExtensions` and `FunctionBinding` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script>

use crate::{
    json::{Json, JsonError},
    message_encoding::base64_bytes,
};

/// Newtonsoft's default limit on nesting.
const DEPTH: usize = 64;

/// Converts an output value into messages, before the queue's own encoding.
///
/// # Errors
/// When a string looks like JSON and is none.
pub(crate) fn messages(value: &Json) -> Result<Vec<Vec<u8>>, JsonError> {
    match value {
        Json::Null => Ok(Vec::new()),
        Json::Text(text) => base64_bytes(text).map_or_else(|| text_messages(&value.display()), |bytes| Ok(vec![bytes])),
        Json::Array(items) => Ok(items.iter().map(element).collect()),
        Json::Object(_) | Json::Bool(_) | Json::Number(_) => Ok(vec![value.display().into_bytes()]),
    }
}

fn text_messages(text: &str) -> Result<Vec<Vec<u8>>, JsonError> {
    let trimmed = text.trim();
    let looks_like_json = |open, close| trimmed.starts_with(open) && trimmed.ends_with(close);
    if !looks_like_json('{', '}') && !looks_like_json('[', ']') {
        return Ok(vec![text.into()]);
    }
    Ok(match Json::parse(trimmed, DEPTH)? {
        Json::Array(items) => items.iter().map(element).collect(),
        object => vec![object.indented().into_bytes()],
    })
}

fn element(item: &Json) -> Vec<u8> {
    match item {
        Json::Text(text) => text.clone().into_bytes(),
        other => other.display().into_bytes(),
    }
}
