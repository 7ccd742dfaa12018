//! The conversion of output values into queue messages.
//!
//! The host guesses: a string that is valid base64 is bytes, one that looks like JSON is parsed and indented, one that
//! looks like a time is reformatted. `HttpScriptInvocationResultExtensions` and `FunctionBinding` in
//! <https://github.com/Azure/azure-functions-host/tree/dev/src/WebJobs.Script>

use crate::{bindings::DataType, json::Json, message_encoding::base64_bytes};

/// Newtonsoft's default limit on nesting.
const DEPTH: usize = 64;

/// Converts an output value into messages, before the queue's own encoding.
pub(crate) fn messages(value: &Json, data_type: DataType) -> Vec<Vec<u8>> {
    match value {
        Json::Null => Vec::new(),
        Json::Text(text) => match (data_type, base64_bytes(text)) {
            (DataType::Text, Some(bytes)) => vec![bytes],
            _ => text_messages(&value.display()),
        },
        Json::Array(items) => items.iter().map(element).collect(),
        Json::Object(_) | Json::Bool(_) | Json::Number(_) => vec![value.display().into_bytes()],
    }
}

fn text_messages(text: &str) -> Vec<Vec<u8>> {
    let trimmed = text.trim();
    let looks_like_json = |open, close| trimmed.starts_with(open) && trimmed.ends_with(close);
    if !looks_like_json('{', '}') && !looks_like_json('[', ']') {
        return vec![text.into()];
    }
    match Json::parse(trimmed, DEPTH) {
        Ok(Json::Array(items)) => items.iter().map(element).collect(),
        Ok(object) => vec![object.indented().into_bytes()],
        Err(_) => vec![text.into()],
    }
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
        let messages = messages(&Json::parse(json, 9).unwrap(), DataType::Text);
        messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn values_are_mangled_as_the_host_does() {
        let cases: [(&str, &[&str]); 13] = [
            (r#""hello""#, &["hello"]),
            (r#""eyJhIjoxLjEwfQ==""#, &[r#"{"a":1.10}"#]),
            (r#""eyJh IjoxLj\nEwfQ==""#, &[r#"{"a":1.10}"#]),
            (r#""""#, &[""]),
            (r#""{\"a\":1.10,\"b\":1e2}""#, &["{\n  \"a\": 1.1,\n  \"b\": 100.0\n}"]),
            (r#"{"b":1,"a":2}"#, &["{\n  \"b\": 1,\n  \"a\": 2\n}"]),
            (r#"["x",1,true,null,{"a":1}]"#, &["x", "1", "True", "", "{\n  \"a\": 1\n}"]),
            (r#""[\"x\",\"y\"]""#, &["x", "y"]),
            (r#""{broken}""#, &["{broken}"]),
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
            let sent = messages(&Json::Text(word.to_owned()), DataType::Text);
            assert_eq!(sent, [base64_bytes(word).unwrap()], "{word}");
            assert_ne!(sent, [word.as_bytes()], "{word}");
        }
    }

    #[test]
    fn a_binary_output_is_not_decoded() {
        assert_eq!(messages(&Json::Text("test".to_owned()), DataType::Binary), [b"test"]);
    }
}
