//! Reads JSON nearly as leniently as Newtonsoft's `JsonTextReader`.
//!
//! A message that a strict parser rejects still spreads its fields over the metadata, and so do settings files with
//! comments. `jsonc-parser` takes what people write: comments, single quotes, names without quotes, a comma before the
//! closing bracket, raw control characters, `NaN` and `Infinity`. Not imitated, and errors here: octal and hexadecimal
//! numbers, `undefined`, `new Date(…)`.
//! <https://github.com/JamesNK/Newtonsoft.Json/blob/master/Src/Newtonsoft.Json/JsonTextReader.cs>

use jsonc_parser::{CollectOptions, ParseOptions, ast::Value, errors::ParseError, parse_to_ast};

use super::value::Json;

/// The reason why a text cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// The parser refuses it.
    #[error(transparent)]
    Syntax(#[from] ParseError),
    /// The strict parser of answers refuses it.
    #[error(transparent)]
    Strict(#[from] serde_json::Error),
    /// There is no value.
    #[error("there is nothing in it")]
    Empty,
    /// Too many brackets within each other.
    #[error("nested too deeply")]
    TooDeep,
}

/// Reads one value that is the whole text, with up to `depth` levels of brackets.
pub(super) fn read(text: &str, depth: usize) -> Result<Json, JsonError> {
    let text = without_lone_surrogates(text);
    let options = ParseOptions {
        allow_missing_commas: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_extended_string_escapes: false,
        ..ParseOptions::default()
    };
    let parsed = parse_to_ast(&text, &CollectOptions::default(), &options)?;
    convert(parsed.value.ok_or(JsonError::Empty)?, depth)
}

fn convert(value: Value<'_>, depth: usize) -> Result<Json, JsonError> {
    let inner = || depth.checked_sub(1).ok_or(JsonError::TooDeep);
    Ok(match value {
        Value::NullKeyword(_) => Json::Null,
        Value::BooleanLit(literal) => Json::Bool(literal.value),
        Value::NumberLit(literal) => Json::Number(literal.value.to_owned()),
        Value::StringLit(literal) => Json::Text(literal.value.into_owned()),
        Value::Array(array) => {
            let inner = inner()?;
            Json::Array(array.elements.into_iter().map(|item| convert(item, inner)).collect::<Result<_, _>>()?)
        }
        Value::Object(object) => {
            let inner = inner()?;
            let mut members: Vec<(String, Json)> = Vec::new();
            for property in object.properties {
                let (name, value) = (property.name.into_string(), convert(property.value, inner)?);
                // A name that occurs twice keeps its first place and its last value.
                match members.iter_mut().find(|(known, _)| *known == name) {
                    Some(known) => known.1 = value,
                    None => members.push((name, value)),
                }
            }
            Json::Object(members)
        }
    })
}

/// Replaces the escape of half a surrogate pair, which the parser refuses, by that of the replacement character.
fn without_lone_surrogates(text: &str) -> String {
    let (mut mended, mut rest) = (String::new(), text);
    while let Some((before, escape)) = rest.find('\\').map(|at| rest.split_at(at)) {
        mended.push_str(before);
        let halves = [surrogate(escape), escape.get(6..).and_then(surrogate)];
        let (kept, length) = match halves {
            [Some(0xD800..0xDC00), Some(0xDC00..0xE000)] => (&escape[..12], 12),
            [Some(_), _] => ("\\ufffd", 6),
            [None, _] => {
                let length = escape.chars().take(2).map(char::len_utf8).sum();
                (&escape[..length], length)
            }
        };
        mended.push_str(kept);
        rest = &escape[length..];
    }
    mended + rest
}

fn surrogate(escape: &str) -> Option<u16> {
    let unit = u16::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    (0xD800..0xE000).contains(&unit).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(text: &str) -> Result<String, JsonError> {
        read(text, 64).map(|json| json.compact())
    }

    #[test]
    fn what_is_not_json_is_read_all_the_same() {
        let cases = [
            ("{'a':'it\\'s \"quoted\"'}", r#"{"a":"it's \"quoted\""}"#),
            ("{a:1,$b_2:2,true:5}", r#"{"a":1,"$b_2":2,"true":5}"#),
            ("/* one */ {// two\n\"a\": /* three */ 1 /* four */, } // five", r#"{"a":1}"#),
            ("[1,2,]", "[1,2]"),
            ("{\"a\":\"line\nbreak\tand\u{1}\"}", r#"{"a":"line\nbreak\tand\u0001"}"#),
            ("[NaN,-Infinity]", r#"["NaN","-Infinity"]"#),
            (
                r#"["\ud83e\udd80","\ud800","\udc00\u0041","\ud800\u0041","\\ud800"]"#,
                "[\"🦀\",\"\u{fffd}\",\"\u{fffd}A\",\"\u{fffd}A\",\"\\\\ud800\"]",
            ),
            (r#"{"a":1,"A":2,"a":3}"#, r#"{"a":3,"A":2}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(compact(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn leniency_has_its_limits() {
        let cases = [
            "",
            "{\"a\":1",
            "{\"a\":\"x",
            "/* never closed",
            "{\"a\":}",
            "{\"a\":text}",
            "{\"a\":nul}",
            "{\"a\":1} {}",
            "[1}",
            "{\"a\":1 \"b\":2}",
            r#"["\x41"]"#,
            "[+1]",
            "[0x1F]",
        ];
        for text in cases {
            assert!(compact(text).is_err(), "{text}");
        }
    }
}
