//! JSON as the Functions host handles it: members keep their order, numbers and strings are written by its rules.
//!
//! The host reads and rewrites JSON with Newtonsoft.Json, which neither sorts members nor keeps `1.10` as it was, and
//! which reads a good deal that is not JSON at all: see [`reader`].
//! `serde_json::Value` sorts (its `preserve_order` would leak into the handler under test), so this is a small value
//! type of its own. <https://www.newtonsoft.com/json/help/html/Introduction.htm>

mod reader;

use std::fmt::Write;

use crate::dates;

pub(crate) use reader::JsonError;
use reader::Reader;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number in the text it came in, or `NaN`, `Infinity`, `-Infinity`; integers are decimal.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Self>),
    /// An object with its members in order.
    Object(Vec<(String, Self)>),
}

impl<T: Into<i64>> From<T> for Json {
    fn from(number: T) -> Self {
        Self::Number(number.into().to_string())
    }
}

impl Json {
    pub(crate) fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Reads one value that is the whole text.
    ///
    /// # Errors
    /// When Newtonsoft does not take the text for JSON, or it is nested deeper than `depth`.
    pub(crate) fn parse(text: &str, depth: usize) -> Result<Self, JsonError> {
        let mut reader = Reader::new(text);
        let value = reader.value(depth)?;
        reader.end()?;
        Ok(value)
    }

    /// Reads the value a text starts with, and ignores what follows it. No value at all counts as null.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub(crate) fn parse_start(text: &str, depth: usize) -> Result<Self, JsonError> {
        let mut reader = Reader::new(text);
        if reader.end().is_ok() { Ok(Self::Null) } else { reader.value(depth) }
    }

    /// The value without any white space.
    pub(crate) fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// The value over several lines, two spaces a level.
    pub(crate) fn indented(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, Some(0));
        text
    }

    /// Formats a scalar as .NET's `ToString` does; containers are indented JSON.
    pub(crate) fn display(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Number(number) => normal_number(number).trim_end_matches(".0").to_owned(),
            Self::Text(text) => dates::general(text).unwrap_or_else(|| text.clone()),
            Self::Array(_) | Self::Object(_) => self.indented(),
        }
    }

    /// A member of an object.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn write(&self, text: &mut String, indent: Option<usize>) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            // What JSON has no numbers for becomes a string.
            Self::Number(number) if is_not_finite(number) => text.push_str(&quoted(&normal_number(number))),
            Self::Number(number) => text.push_str(&normal_number(number)),
            Self::Text(string) => text.push_str(&quoted(&dates::normal(string).unwrap_or_else(|| string.clone()))),
            Self::Array(items) => {
                let items = items.iter().map(|item| (None, item));
                write_container(text, ['[', ']'], items, indent);
            }
            Self::Object(members) => {
                let members = members.iter().map(|(key, value)| (Some(key.as_str()), value));
                write_container(text, ['{', '}'], members, indent);
            }
        }
    }
}

fn write_container<'a>(
    text: &mut String,
    brackets: [char; 2],
    items: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Json)>,
    indent: Option<usize>,
) {
    let empty = items.len() == 0;
    let inner = indent.map(|level| level + 1);
    text.push(brackets[0]);
    for (index, (key, value)) in items.enumerate() {
        if index > 0 {
            text.push(',');
        }
        new_line(text, inner);
        if let Some(key) = key {
            text.push_str(&quoted(key));
            text.push_str(if indent.is_some() { ": " } else { ":" });
        }
        value.write(text, inner);
    }
    if !empty {
        new_line(text, indent);
    }
    text.push(brackets[1]);
}

fn new_line(text: &mut String, indent: Option<usize>) {
    if let Some(level) = indent {
        let _ = write!(text, "\n{:1$}", "", level * 2);
    }
}

/// A string in quotes. Beside what JSON demands, Newtonsoft escapes the three other line ends of Unicode.
pub(crate) fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn is_not_finite(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(|value| !value.is_finite()) && !is_integer(number)
}

fn is_integer(number: &str) -> bool {
    number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit())
}

/// Integers stay; everything else is a double, written with the fewest digits and at least one decimal.
fn normal_number(number: &str) -> String {
    if is_integer(number) {
        return number.to_owned();
    }
    let Ok(value) = number.parse::<f64>() else { return number.to_owned() };
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if value != 0.0 && !(-4..15).contains(&exponent) {
        let digits = scientific.split('e').next().unwrap_or_default();
        return format!("{digits}E{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_numbers_are_rewritten() {
        let json = Json::parse(r#"{"z":1.10,"a":[1e2,-0.5,1e20,0.00001,12345678901234567890],"z":2.50}"#, 9).unwrap();
        assert_eq!(json.compact(), r#"{"z":2.5,"a":[100.0,-0.5,1E+20,1E-05,12345678901234567890]}"#);
    }

    #[test]
    fn indentation_is_newtonsofts() {
        let json = Json::parse(r#"{"a":[],"b":{},"c":[1,{"d":null}]}"#, 9).unwrap();
        let expected = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ]\n}";
        assert_eq!(json.indented(), expected);
    }

    #[test]
    fn depth_is_limited() {
        assert!(Json::parse("[[1]]", 2).is_ok());
        assert!(Json::parse("[[[1]]]", 2).is_err());
    }

    #[test]
    fn only_the_start_is_read_on_request() {
        assert_eq!(Json::parse_start("{} garbage", 9).unwrap(), Json::Object(Vec::new()));
        assert_eq!(Json::parse_start(" // nothing", 9).unwrap(), Json::Null);
        assert!(Json::parse("{} garbage", 9).is_err());
    }

    #[test]
    fn what_is_not_a_number_to_json_is_written_as_a_string() {
        let json = Json::parse("[NaN,Infinity,-Infinity,1e999]", 9).unwrap();
        assert_eq!(json.compact(), r#"["NaN","Infinity","-Infinity","Infinity"]"#);
    }
}
