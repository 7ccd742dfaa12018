//! A JSON value that is written as Newtonsoft.Json writes it: members in order, numbers and dates by its rules.

use std::fmt::Write;

use crate::dates;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number in the text it came in, or `NaN`, `Infinity`, `-Infinity`.
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

    /// Formats the value without any white space.
    pub(crate) fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// Formats the value over several lines, two spaces a level.
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

    /// Returns the text that Newtonsoft reads where a string is wanted; none for null and containers.
    pub(crate) fn scalar(&self) -> Option<String> {
        match self {
            Self::Null | Self::Array(_) | Self::Object(_) => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(text) | Self::Text(text) => Some(text.clone()),
        }
    }

    /// Finds a member of an object, whatever the case of its name.
    pub(crate) fn member_in_any_case(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Finds a member of an object.
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

/// Quotes a string. Beside what JSON demands, Newtonsoft escapes the three other line ends of Unicode.
pub(crate) fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn is_not_finite(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(|value| !value.is_finite()) && !is_integer(number)
}

/// Says whether a number is an integer.
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
