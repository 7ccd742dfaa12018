//! Reads JSON as leniently as Newtonsoft's `JsonTextReader`, with the surprises that follow from it.
//!
//! Single quotes, names without quotes, comments, a comma before the closing bracket, raw control characters,
//! hexadecimal and octal numbers, `NaN` and `Infinity` are all accepted, so a message that a strict parser rejects
//! still spreads its fields over the metadata.
//! <https://github.com/JamesNK/Newtonsoft.Json/blob/master/Src/Newtonsoft.Json/JsonTextReader.cs>
//!
//! Not imitated: `undefined`, which a missing value between two commas is too, and `new Date(…)`; both are errors here.

use super::Json;

/// The longest integer that Newtonsoft reads, in characters.
const LONGEST_INTEGER: usize = 380;

/// Why a text cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum JsonError {
    /// The text is not complete.
    #[error("unexpected end of the text")]
    End,
    /// A character where it must not be.
    #[error("unexpected character '{}'", .0.escape_default())]
    Unexpected(char),
    /// Digits that make no number.
    #[error("'{0}' is not a number")]
    NotANumber(String),
    /// Too many brackets within each other.
    #[error("nested too deeply")]
    TooDeep,
}

/// A text and how far it is read.
pub(super) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Makes sure that nothing is left but white space and comments.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_comments()?;
        self.peek().map_or(Ok(()), |other| Err(JsonError::Unexpected(other)))
    }

    /// The next value, which may contain `depth` levels of brackets.
    pub(super) fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.skip_comments()?;
        match self.peek().ok_or(JsonError::End)? {
            quote @ ('"' | '\'') => self.string(quote).map(Json::Text),
            '{' => self.object(depth.checked_sub(1).ok_or(JsonError::TooDeep)?),
            '[' => self.array(depth.checked_sub(1).ok_or(JsonError::TooDeep)?),
            't' => self.word("true", Json::Bool(true)),
            'f' => self.word("false", Json::Bool(false)),
            'n' => self.word("null", Json::Null),
            'N' | 'I' => {
                let word = if self.rest.starts_with('N') { "NaN" } else { "Infinity" };
                self.word(word, Json::Number(word.to_owned()))
            }
            '-' if self.rest.starts_with("-I") => self.word("-Infinity", Json::Number("-Infinity".to_owned())),
            '-' | '.' | '0'..='9' => self.number(),
            other => Err(JsonError::Unexpected(other)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut members: Vec<(String, Json)> = Vec::new();
        self.take()?;
        loop {
            self.skip_comments()?;
            if self.peek() == Some('}') {
                break;
            }
            let name = self.name()?;
            let value = self.value(depth)?;
            // A name that occurs twice keeps its first place and its last value.
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => members.push((name, value)),
            }
            if !self.goes_on('}')? {
                break;
            }
        }
        self.take()?;
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.take()?;
        loop {
            self.skip_comments()?;
            if self.peek() == Some(']') {
                break;
            }
            items.push(self.value(depth)?);
            if !self.goes_on(']')? {
                break;
            }
        }
        self.take()?;
        Ok(Json::Array(items))
    }

    /// Takes a comma; false at the closing bracket, which stays.
    fn goes_on(&mut self, close: char) -> Result<bool, JsonError> {
        self.skip_comments()?;
        match self.peek().ok_or(JsonError::End)? {
            ',' => self.take().map(|_| true),
            other if other == close => Ok(false),
            other => Err(JsonError::Unexpected(other)),
        }
    }

    /// A member's name with its colon; between the two there may be white space, but no comment.
    fn name(&mut self) -> Result<String, JsonError> {
        let is_identifier = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
        let name = match self.peek().ok_or(JsonError::End)? {
            quote @ ('"' | '\'') => self.string(quote)?,
            first if is_identifier(first) => self.take_while(is_identifier).to_owned(),
            other => return Err(JsonError::Unexpected(other)),
        };
        self.skip_white_space();
        match self.take()? {
            ':' => Ok(name),
            other => Err(JsonError::Unexpected(other)),
        }
    }

    fn string(&mut self, quote: char) -> Result<String, JsonError> {
        let mut text = String::new();
        self.take()?;
        loop {
            match self.take()? {
                '\\' => text.push(self.escaped()?),
                end if end == quote => return Ok(text),
                other => text.push(other),
            }
        }
    }

    /// Reads the rest of an escape. Half a surrogate pair becomes the replacement character.
    fn escaped(&mut self) -> Result<char, JsonError> {
        Ok(match self.take()? {
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'f' => '\u{c}',
            'r' => '\r',
            same @ ('\\' | '"' | '\'' | '/') => same,
            'u' => self.code_point()?,
            other => return Err(JsonError::Unexpected(other)),
        })
    }

    fn code_point(&mut self) -> Result<char, JsonError> {
        let first = self.hexadecimal()?;
        let before = self.rest;
        if (0xD800..0xDC00).contains(&first) && self.rest.starts_with("\\u") {
            self.rest = &self.rest[2..];
            let second = self.hexadecimal()?;
            if let Some(Ok(character)) = char::decode_utf16([first, second]).next() {
                return Ok(character);
            }
            // Not the other half: it stands for itself.
            self.rest = before;
        }
        Ok(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hexadecimal(&mut self) -> Result<u16, JsonError> {
        let digits = self.rest.get(..4).ok_or(JsonError::End)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u16::from_str_radix(digits, 16).ok().filter(|_| is_number);
        self.rest = &self.rest[4..];
        value.ok_or_else(|| JsonError::NotANumber(digits.to_owned()))
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let text = self
            .take_while(|character| character.is_ascii_hexdigit() || matches!(character, '-' | '+' | '.' | 'x' | 'X'));
        self.separated()?;
        let number = match text.as_bytes() {
            // The C of the ancients: a leading zero is octal.
            [b'0', b'x' | b'X', ..] => wrapped_integer(&text[2..], 16),
            [b'0', second, ..] if !matches!(second, b'.' | b'e' | b'E') => wrapped_integer(text, 8),
            _ => decimal(text),
        };
        number.map(Json::Number).ok_or_else(|| JsonError::NotANumber(text.to_owned()))
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None => return self.take().and_then(|other| Err(JsonError::Unexpected(other))),
        }
        self.separated().map(|()| value)
    }

    /// A number or a word must not run into something else.
    fn separated(&self) -> Result<(), JsonError> {
        match self.peek() {
            Some(other) if !is_white_space(other) && !matches!(other, ',' | '}' | ']' | ')' | '/') => {
                Err(JsonError::Unexpected(other))
            }
            _ => Ok(()),
        }
    }

    fn skip_comments(&mut self) -> Result<(), JsonError> {
        loop {
            self.skip_white_space();
            if let Some(comment) = self.rest.strip_prefix("//") {
                self.rest = comment.trim_start_matches(|character| !matches!(character, '\r' | '\n'));
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").ok_or(JsonError::End)?.1;
            } else {
                return Ok(());
            }
        }
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_start_matches(is_white_space);
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !wanted(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Result<char, JsonError> {
        let next = self.peek().ok_or(JsonError::End)?;
        self.rest = &self.rest[next.len_utf8()..];
        Ok(next)
    }
}

/// Newtonsoft passes over NUL as well.
fn is_white_space(character: char) -> bool {
    character.is_whitespace() || character == '\0'
}

/// `Convert.ToInt64` with a radix: sixteen hexadecimal digits wrap around to a negative number.
fn wrapped_integer(digits: &str, radix: u32) -> Option<String> {
    let value = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    Some(value.cast_signed().to_string())
}

fn decimal(text: &str) -> Option<String> {
    if !super::is_integer(text) || text == "-" {
        return text.parse::<f64>().ok().map(|_| text.to_owned());
    }
    match text.parse::<i64>() {
        Ok(value) => Some(value.to_string()),
        Err(_) => Some(text.to_owned()).filter(|_| text.len() <= LONGEST_INTEGER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, JsonError> {
        Json::parse(text, 64).map(|json| json.compact())
    }

    #[test]
    fn what_is_not_json_is_read_all_the_same() {
        let cases = [
            ("{'a':'it\\'s \"quoted\"'}", r#"{"a":"it's \"quoted\""}"#),
            ("{a:1,$b_2:2,Größe:3,1:4}", r#"{"a":1,"$b_2":2,"Größe":3,"1":4}"#),
            ("/* one */ {// two\n\"a\": /* three */ 1 /* four */, } // five", r#"{"a":1}"#),
            ("[1,2,]", "[1,2]"),
            ("{\"a\":\"line\nbreak\tand\u{1}\"}", r#"{"a":"line\nbreak\tand\u0001"}"#),
            ("[0x1F,017,.5,-007,-0,0xFFFFFFFFFFFFFFFF]", "[31,15,0.5,-7,0,-1]"),
            ("[NaN,-Infinity]", r#"["NaN","-Infinity"]"#),
            (
                r#"["\ud83e\udd80","\ud800","\udc00\u0041","\ud800\u0041"]"#,
                "[\"🦀\",\"\u{fffd}\",\"\u{fffd}A\",\"\u{fffd}A\"]",
            ),
            ("\u{a0}{\u{2003}\"a\"\u{2028}:\0true}", r#"{"a":true}"#),
            (r#"{"a":1,"A":2,"a":3}"#, r#"{"a":3,"A":2}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn leniency_has_its_limits() {
        let unexpected = |character| Err(JsonError::Unexpected(character));
        let not_a_number = |text: &str| Err(JsonError::NotANumber(text.to_owned()));
        let cases = [
            ("", Err(JsonError::End)),
            ("{\"a\":1", Err(JsonError::End)),
            ("{\"a\":\"x", Err(JsonError::End)),
            ("/* never closed", Err(JsonError::End)),
            ("{,}", unexpected(',')),
            ("{\"a\":1,,}", unexpected(',')),
            ("{\"a\":}", unexpected('}')),
            ("{\"a\" /**/ :1}", unexpected('/')),
            ("{a-b:1}", unexpected('-')),
            ("{\"a\":text}", unexpected('t')),
            ("{\"a\":nul}", unexpected('n')),
            ("{\"a\":truely}", unexpected('l')),
            ("{\"a\":1} {}", unexpected('{')),
            ("[1}", unexpected('}')),
            (r#"["\x41"]"#, unexpected('x')),
            ("[+1]", unexpected('+')),
            ("[08]", not_a_number("08")),
            ("[1a]", not_a_number("1a")),
            ("[-]", not_a_number("-")),
            (r#"["\u+123"]"#, not_a_number("+123")),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn an_integer_of_any_length_is_kept_up_to_a_limit() {
        let (longest, longer) = ("9".repeat(380), "9".repeat(381));
        assert_eq!(read(&longest), Ok(longest));
        assert_eq!(read(&longer), Err(JsonError::NotANumber(longer)));
    }
}
