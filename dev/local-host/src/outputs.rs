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

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(json: &str) -> Vec<String> {
        let messages = messages(&Json::parse(json, 9).unwrap()).unwrap();
        messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn values_are_mangled_as_the_host_does() {
        let cases: [(&str, &[&str]); 12] = [
            (r#""hello""#, &["hello"]),
            (r#""eyJhIjoxLjEwfQ==""#, &[r#"{"a":1.10}"#]),
            (r#""eyJh IjoxLj\nEwfQ==""#, &[r#"{"a":1.10}"#]),
            (r#""""#, &[""]),
            (r#""{\"a\":1.10,\"b\":1e2}""#, &["{\n  \"a\": 1.1,\n  \"b\": 100.0\n}"]),
            (r#"{"b":1,"a":2}"#, &["{\n  \"b\": 1,\n  \"a\": 2\n}"]),
            (r#"["x",1,true,null,{"a":1}]"#, &["x", "1", "True", "", "{\n  \"a\": 1\n}"]),
            (r#""[\"x\",\"y\"]""#, &["x", "y"]),
            ("true", &["True"]),
            ("12.50", &["12.5"]),
            (r#""2024-08-01T00:00:00Z""#, &["08/01/2024 00:00:00"]),
            ("null", &[]),
        ];
        for (value, expected) in cases {
            assert_eq!(sent(value), expected, "{value}");
        }
    }

    #[test]
    fn words_that_are_base64_by_accident_become_bytes() {
        for word in ["test", "true", "2024", "deadbeef", "user1234"] {
            let sent = messages(&Json::Text(word.to_owned())).unwrap();
            assert_eq!(sent, [base64_bytes(word).unwrap()], "{word}");
            assert_ne!(sent, [word.as_bytes()], "{word}");
        }
    }
}
