//! Reads JSON leniently, nearly as Newtonsoft's `JsonTextReader` does.
//!
//! The scanner of `jsonc-parser` takes what Newtonsoft takes besides JSON: single quotes, names without quotes, comments,
//! a comma before the closing bracket, raw control characters, hexadecimal numbers, `NaN` and `Infinity`. So a message
//! that a strict parser rejects still spreads its fields over the metadata. Not imitated, and errors here: octal numbers,
//! NUL between two values, `undefined`, `new Date(…)`.
//! <https://github.com/JamesNK/Newtonsoft.Json/blob/master/Src/Newtonsoft.Json/JsonTextReader.cs>

use jsonc_parser::{Scanner, ScannerOptions, errors::ParseError, tokens::Token};

use super::value::Json;

/// The longest integer that Newtonsoft reads, in characters.
const LONGEST_INTEGER: usize = 380;

/// The reason why a text cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// The scanner refuses it.
    #[error("{0}")]
    Syntax(#[from] ParseError),
    /// The text is not complete.
    #[error("unexpected end of the text")]
    End,
    /// A token where it must not be.
    #[error("unexpected '{0}'")]
    Unexpected(String),
    /// Digits that make no number.
    #[error("'{0}' is not a number")]
    NotANumber(String),
    /// Too many brackets within each other.
    #[error("nested too deeply")]
    TooDeep,
}

/// Reads one value that is the whole text, with up to `depth` levels of brackets.
pub(super) fn read(text: &str, depth: usize) -> Result<Json, JsonError> {
    let text = without_lone_surrogates(text);
    let mut reader = Reader::new(&text);
    let first = reader.next()?;
    let value = reader.value(first, depth)?;
    reader.next()?.map_or(Ok(value), |token| Err(unexpected(&token)))
}

/// Reads the value a text starts with, and ignores what follows it. No value at all counts as null.
pub(super) fn read_start(text: &str, depth: usize) -> Result<Json, JsonError> {
    let text = without_lone_surrogates(text);
    let mut reader = Reader::new(&text);
    match reader.next()? {
        None => Ok(Json::Null),
        first => reader.value(first, depth),
    }
}

struct Reader<'a>(Scanner<'a>);

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let options = ScannerOptions {
            allow_unary_plus_numbers: false,
            allow_extended_string_escapes: false,
            ..ScannerOptions::default()
        };
        Self(Scanner::new(text, &options))
    }

    /// Returns the next token that is no comment.
    fn next(&mut self) -> Result<Option<Token<'a>>, JsonError> {
        loop {
            match self.0.scan()? {
                Some(Token::CommentLine(_) | Token::CommentBlock(_)) => {}
                token => return Ok(token),
            }
        }
    }

    fn value(&mut self, first: Option<Token<'a>>, depth: usize) -> Result<Json, JsonError> {
        match first.ok_or(JsonError::End)? {
            Token::String(text) => Ok(Json::Text(text.into_owned())),
            Token::Number(text) => number(text),
            Token::Boolean(value) => Ok(Json::Bool(value)),
            Token::Null => Ok(Json::Null),
            Token::OpenBrace => self.object(depth.checked_sub(1).ok_or(JsonError::TooDeep)?),
            Token::OpenBracket => self.array(depth.checked_sub(1).ok_or(JsonError::TooDeep)?),
            other => Err(unexpected(&other)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(token) = self.unless(&Token::CloseBrace)? {
            let name = name(token)?;
            self.expect(&Token::Colon)?;
            let first = self.next()?;
            let value = self.value(first, depth)?;
            // A name that occurs twice keeps its first place and its last value.
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => members.push((name, value)),
            }
            if !self.goes_on(&Token::CloseBrace)? {
                break;
            }
        }
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        while let Some(token) = self.unless(&Token::CloseBracket)? {
            items.push(self.value(Some(token), depth)?);
            if !self.goes_on(&Token::CloseBracket)? {
                break;
            }
        }
        Ok(Json::Array(items))
    }

    /// Returns the next token, which there must be; none when it is `close`.
    fn unless(&mut self, close: &Token<'_>) -> Result<Option<Token<'a>>, JsonError> {
        let token = self.next()?.ok_or(JsonError::End)?;
        Ok(Some(token).filter(|token| token != close))
    }

    /// Takes a comma or the closing bracket; false at the bracket.
    fn goes_on(&mut self, close: &Token<'_>) -> Result<bool, JsonError> {
        match self.unless(close)? {
            None => Ok(false),
            Some(Token::Comma) => Ok(true),
            Some(other) => Err(unexpected(&other)),
        }
    }

    fn expect(&mut self, wanted: &Token<'_>) -> Result<(), JsonError> {
        self.unless(wanted)?.map_or(Ok(()), |other| Err(unexpected(&other)))
    }
}

fn unexpected(token: &Token<'_>) -> JsonError {
    JsonError::Unexpected(token.as_str().to_owned())
}

/// Reads the name of a member. Without quotes it is letters, digits, `_` and `$`.
fn name(token: Token<'_>) -> Result<String, JsonError> {
    if let Token::String(name) = token {
        return Ok(name.into_owned());
    }
    let is_identifier = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    if token.as_str().chars().all(is_identifier) { Ok(token.as_str().to_owned()) } else { Err(unexpected(&token)) }
}

fn number(text: &str) -> Result<Json, JsonError> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // Sixteen digits wrap around to a negative number, as in `Convert.ToInt64`.
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|value| value.cast_signed().to_string()),
        None => decimal(text),
    };
    number.map(Json::Number).ok_or_else(|| JsonError::NotANumber(text.to_owned()))
}

fn decimal(text: &str) -> Option<String> {
    if !super::value::is_integer(text) {
        return text.parse::<f64>().ok().map(|_| text.to_owned());
    }
    match text.parse::<i64>() {
        Ok(value) => Some(value.to_string()),
        Err(_) => Some(text.to_owned()).filter(|_| text.len() <= LONGEST_INTEGER),
    }
}

/// Replaces the escape of half a surrogate pair, which the scanner refuses, by that of the replacement character.
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
            ("{a:1,$b_2:2,Größe:3,1:4,true:5}", r#"{"a":1,"$b_2":2,"Größe":3,"1":4,"true":5}"#),
            ("/* one */ {// two\n\"a\": /* three */ 1 /* four */, } // five", r#"{"a":1}"#),
            ("[1,2,]", "[1,2]"),
            ("{\"a\":\"line\nbreak\tand\u{1}\"}", r#"{"a":"line\nbreak\tand\u0001"}"#),
            ("[0x1F,.5,-0,0xFFFFFFFFFFFFFFFF]", "[31,0.5,0,-1]"),
            ("[NaN,-Infinity]", r#"["NaN","-Infinity"]"#),
            (
                r#"["\ud83e\udd80","\ud800","\udc00\u0041","\ud800\u0041","\\ud800"]"#,
                "[\"🦀\",\"\u{fffd}\",\"\u{fffd}A\",\"\u{fffd}A\",\"\\\\ud800\"]",
            ),
            ("\u{a0}{\u{2003}\"a\"\u{2028}:true}", r#"{"a":true}"#),
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
            "{,}",
            "{\"a\":1,,}",
            "{\"a\":}",
            "{a-b:1}",
            "{1.5:1}",
            "{\"a\":text}",
            "{\"a\":nul}",
            "{\"a\":truely}",
            "{\"a\":1} {}",
            "[1}",
            "{\"a\":1 \"b\":2}",
            r#"["\x41"]"#,
            "[+1]",
            "[08]",
            "[1a]",
            "[-]",
            r#"["\u+123"]"#,
        ];
        for text in cases {
            assert!(compact(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_integer_of_any_length_is_kept_up_to_a_limit() {
        let (longest, longer) = ("9".repeat(380), "9".repeat(381));
        assert_eq!(compact(&longest).unwrap(), longest);
        assert!(compact(&longer).is_err());
    }
}
