//! From the text of a queue message to its id and its content.
//!
//! The producer's business key identifies the operation, so it has to be the same text in every copy of the message:
//! an integer keeps its digits, and white space at the ends does not count. What transport adds on the way is no content:
//! a copy that took another way is a copy all the same.

use crate::{
    json::{Object, is_number},
    quarantine::{Reason, Rejection},
    trace_context::{self, is_traceparent, is_tracestate},
};
use base64::{
    DecodeError, Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};
use serde::Deserialize;
use std::fmt::Display;
use uuid::fmt::Hyphenated;

/// Longest id, in characters.
pub const MAX_ID_CHARS: usize = 256;

/// Longest number that a log line shows, in bytes.
const MAX_PRINTED: usize = 64;

/// Whether a text may be the value of a member.
type Grammar = fn(&str) -> bool;

/// Members that transport adds at the top of a message. With a value of another grammar a member is the producer's own.
/// `baggage` is not here: it carries what producers put into it.
const ADDED_BY_TRANSPORT: [(&str, Grammar); 3] = [
    // The queue output of the WebJobs SDK adds the invocation that sent the message.
    ("$AzureWebJobsParentId", |text| text.parse::<Hyphenated>().is_ok()),
    ("traceparent", is_traceparent),
    ("tracestate", is_tracestate),
];

/// [Characters](https://www.unicode.org/reports/tr44/#General_Category_Values) that are not shown, or end a line.
const INVISIBLE: GeneralCategoryGroup = GeneralCategoryGroup::Control
    .union(GeneralCategoryGroup::Format)
    .union(GeneralCategoryGroup::LineSeparator)
    .union(GeneralCategoryGroup::ParagraphSeparator);

/// Base64 as `Convert.FromBase64String` of .NET reads it, stray bits in the last character included, and without its
/// padding too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A message that says which operation it is about.
#[derive(Debug)]
pub struct Message<'a> {
    id: String,
    object: Object<'a>,
}

impl<'a> Message<'a> {
    /// Takes the id of a message from its member `id_member`.
    ///
    /// # Errors
    ///
    /// [`Reason::MissingId`] or [`Reason::InvalidId`].
    pub fn new(object: Object<'a>, id_member: &str) -> Result<Self, Rejection> {
        let Some(raw_id) = object.get(id_member).filter(|raw| *raw != "null") else {
            return Err(missing_id(&object, id_member));
        };
        let id = id_text(raw_id).map_err(|problem| Rejection::new(Reason::InvalidId, problem))?;
        Ok(Self { id, object })
    }

    /// The id: 1 to [`MAX_ID_CHARS`] characters, all of which can be seen, no white space at the ends.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything in the message, the id included.
    #[must_use]
    pub const fn object(&self) -> &Object<'a> {
        &self.object
    }

    /// Names the members that transport added: they are not content.
    #[must_use]
    pub fn added_by_transport(&self) -> Vec<&'static str> {
        let members = ADDED_BY_TRANSPORT.into_iter();
        let added = members.filter(|(name, has_grammar)| self.text_of(name).is_some_and(|text| has_grammar(&text)));
        added.map(|(name, _)| name).collect()
    }

    /// Reads the trace to which the producer says that the message belongs.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        trace_context::traceparent(&self.text_of("traceparent")?)
    }

    fn text_of(&self, member: &str) -> Option<String> {
        serde_json::from_str(self.object.get(member)?).ok()
    }

    /// Reads the members that a decision needs, by their types.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidOrder`] when a member is missing or does not fit its type.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, Rejection> {
        serde_json::from_str(self.object.text()).map_err(|error| Rejection::invalid_order(error.to_string()))
    }
}

/// Text of a queue message, which may be base64 of its JSON: producers differ, and Storage Explorer offers both. It may
/// begin with a byte order mark, in either form.
#[derive(Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// JSON.
    Raw(&'a str),
    /// Base64 of JSON.
    Base64 {
        /// Text on the queue.
        raw: &'a str,
        /// Text inside.
        json: String,
    },
}

impl<'a> Text<'a> {
    /// Decodes the text of a message.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidJson`] when it does not begin as an object, and is not base64 of a text either.
    pub fn decode(text: &'a str) -> Result<Self, Rejection> {
        let raw = without_mark(text);
        if raw.trim_start().starts_with('{') {
            return Ok(Self::Raw(raw.trim()));
        }
        let bytes = base64_bytes(raw).map_err(|_| neither(raw, "it is not base64"))?;
        if let Some(problem) = other_wrapping(&bytes) {
            return Err(neither(raw, problem));
        }
        let json = String::from_utf8(bytes).map_err(|_| neither(raw, "it is not UTF-8"))?;
        Ok(Self::Base64 { raw, json })
    }

    /// Reads the JSON.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidJson`] when it is not an object that every reader understands alike.
    pub fn object(&self) -> Result<Object<'_>, Rejection> {
        match self {
            Self::Raw(json) => object(json),
            Self::Base64 { raw, json } => Object::parse(without_mark(json)).map_err(|error| neither(raw, error)),
        }
    }
}

/// Reads the JSON text of a message.
///
/// # Errors
///
/// [`Reason::InvalidJson`] when it is not an object that every reader understands alike.
pub fn object(json: &str) -> Result<Object<'_>, Rejection> {
    Object::parse(json).map_err(|error| invalid_json(json, &error.to_string()))
}

/// Writes what a log line may show of a message: a usable id, and those of `members` that are numbers or booleans.
/// Anything else in their place is not known to be harmless, and becomes `…`.
#[must_use]
pub fn printable(object: &Object<'_>, id_member: &str, members: &[&str]) -> String {
    let id = object.get(id_member).map(|raw| (id_member, raw, id_text(raw).is_ok()));
    let others = members.iter().filter_map(|name| object.get(name).map(|raw| (*name, raw, is_number_or_boolean(raw))));
    let members = id.into_iter().chain(others);
    let members = members.map(|(name, raw, is_shown)| format!("\"{name}\":{}", if is_shown { raw } else { "…" }));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn is_number_or_boolean(raw: &str) -> bool {
    raw == "true" || raw == "false" || (is_number(raw) && raw.len() <= MAX_PRINTED)
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Decodes as .NET does: of all white space these four characters do not count.
fn base64_bytes(text: &str) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(text.replace([' ', '\t', '\r', '\n'], ""))
}

/// Recognizes what producers put around JSON by mistake.
fn other_wrapping(bytes: &[u8]) -> Option<&'static str> {
    let is_object = |text: &str| base64_bytes(text).is_ok_and(|bytes| bytes.starts_with(b"{"));
    match bytes {
        [b'{', 0, ..] | [0, b'{', ..] | [0xFF, 0xFE, _, 0, ..] | [0xFE, 0xFF, 0, ..] => Some("it is UTF-16, not UTF-8"),
        [b'e', ..] if std::str::from_utf8(bytes).is_ok_and(is_object) => Some("it is base64 of base64"),
        _ => None,
    }
}

/// Rejects a text that is neither JSON nor, because of `problem`, base64 of it.
fn neither(raw: &str, problem: impl Display) -> Rejection {
    let as_json = object(raw).err().map(|rejection| rejection.detail).unwrap_or_default();
    invalid_json(raw, &format!("as JSON: {as_json}; as base64 of JSON: {problem}"))
}

fn invalid_json(text: &str, problem: &str) -> Rejection {
    let printable = format!("bytes={} problem={problem}", text.len());
    Rejection { printable, ..Rejection::new(Reason::InvalidJson, problem.to_owned()) }
}

fn missing_id(object: &Object<'_>, id_member: &str) -> Rejection {
    let detail = match (object.get(id_member), object.name_in_other_case(id_member)) {
        (Some(_), _) => format!("the member `{id_member}` is null"),
        (None, Some(name)) => format!("the message has no member `{id_member}`, only `{name}`: letter case counts"),
        (None, None) => format!("the message has no member `{id_member}`"),
    };
    Rejection::new(Reason::MissingId, detail)
}

/// Reads an id.
fn id_text(raw: &str) -> Result<String, String> {
    let text = scalar_text(raw).ok_or("the id must be a string or an integer")?;
    let id = text.trim();
    match id.chars().find(|character| !character.is_ascii_graphic() && is_invisible(*character)) {
        _ if id.is_empty() => Err("the id is blank".to_owned()),
        _ if id.chars().count() > MAX_ID_CHARS => Err(format!("the id is longer than {MAX_ID_CHARS} characters")),
        Some(character) => Err(format!("the id has a character that cannot be seen: U+{:04X}", u32::from(character))),
        None => Ok(id.to_owned()),
    }
}

/// Whether two texts that differ in this character only may look alike.
fn is_invisible(character: char) -> bool {
    INVISIBLE.contains(CodePointMapData::<GeneralCategory>::new().get(character))
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Reads a string's content, or an integer's digits: never through a machine number, which would merge long ids.
fn scalar_text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' if !raw.contains(['.', 'e', 'E']) => {
            Some(if raw == "-0" { "0".to_owned() } else { raw.to_owned() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Number, present};
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    struct Content {
        #[serde(default, deserialize_with = "present")]
        amount: Option<Number>,
    }

    fn parse(text: &str) -> Result<Message<'_>, Rejection> {
        object(text).and_then(|object| Message::new(object, "id"))
    }

    fn id(text: &str) -> Result<String, Reason> {
        parse(text).map(|message| message.id().to_owned()).map_err(|rejection| rejection.reason)
    }

    fn amount(text: &str) -> Result<Option<String>, Reason> {
        let content = parse(text).and_then(|message| message.read::<Content>());
        content.map(|content| content.amount.map(|number| number.as_str().to_owned())).map_err(|error| error.reason)
    }

    /// Reads the JSON object of a message, and writes it or the reason why there is none.
    fn read(message: &str) -> Result<String, String> {
        let text = Text::decode(message);
        let text = text.and_then(|text| text.object().map(|object| object.text().to_owned()));
        text.map_err(|rejection| {
            assert_eq!(rejection.reason, Reason::InvalidJson);
            rejection.detail
        })
    }

    /// The third column is what .NET answers: `Encoding.UTF8.GetString(Convert.FromBase64String(text))`.
    #[test]
    fn base64_is_read_as_dotnet_reads_it_and_without_padding_too() {
        for (case, text, dotnet) in [
            ("plain", "eyJpZCI6ImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("two letters", "eyJpZCI6ImFiIiwiYW1vdW50IjoxfQ==", Some(r#"{"id":"ab","amount":1}"#)),
            ("three letters", "eyJpZCI6ImFiYyIsImFtb3VudCI6MX0=", Some(r#"{"id":"abc","amount":1}"#)),
            ("wrapped at 76 with LF", "eyJpZCI6\nImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("CR LF", "eyJpZCI6\r\nImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("space", "eyJpZ CI6ImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("tab", "eyJpZ\tCI6ImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("around", " eyJpZCI6ImEiLCJhbW91bnQiOjF9\n", Some(r#"{"id":"a","amount":1}"#)),
            ("form feed", "eyJpZ\u{c}CI6ImEiLCJhbW91bnQiOjF9", None),
            ("vertical tab", "eyJpZ\u{b}CI6ImEiLCJhbW91bnQiOjF9", None),
            ("no-break space", "eyJpZ\u{a0}CI6ImEiLCJhbW91bnQiOjF9", None),
            ("byte order mark before", "\u{feff}eyJpZCI6ImEiLCJhbW91bnQiOjF9", None),
            ("byte order mark inside", "77u/eyJpZCI6ImEiLCJhbW91bnQiOjF9", Some("\u{feff}{\"id\":\"a\",\"amount\":1}")),
            (
                "UTF-16 inside",
                "ewAiAGkAZAAiADoAIgBhACIALAAiAGEAbQBvAHUAbgB0ACIAOgAxAH0A",
                Some("{\0\"\0i\0d\0\"\0:\0\"\0a\0\"\0,\0\"\0a\0m\0o\0u\0n\0t\0\"\0:\x001\0}\0"),
            ),
            (
                "UTF-16 with mark inside",
                "//57ACIAaQBkACIAOgAiAGEAIgAsACIAYQBtAG8AdQBuAHQAIgA6ADEAfQA=",
                Some("\u{fffd}\u{fffd}{\0\"\0i\0d\0\"\0:\0\"\0a\0\"\0,\0\"\0a\0m\0o\0u\0n\0t\0\"\0:\x001\0}\0"),
            ),
            ("no padding 1", "eyJpZCI6ImEiLCJhbW91bnQiOjF9", Some(r#"{"id":"a","amount":1}"#)),
            ("no padding 2", "eyJpZCI6ImFiIiwiYW1vdW50IjoxfQ", None),
            ("no padding 3", "eyJpZCI6ImFiYyIsImFtb3VudCI6MX0", None),
            ("padding in the middle", "eyJp=ZCI6ImFiIiwiYW1vdW50IjoxfQ==", None),
            ("too much padding", "eyJpZCI6ImEiLCJhbW91bnQiOjF9=", None),
            ("two texts joined", "eyJpZCI6ImFiIiwiYW1vdW50IjoxfQ==eyJpZCI6ImFiIiwiYW1vdW50IjoxfQ==", None),
            ("url-safe", "--__", None),
            ("space between padding", "eyJpZCI6ImFiIiwiYW1vdW50IjoxfQ= =", Some(r#"{"id":"ab","amount":1}"#)),
            ("empty", "", Some("")),
            ("only spaces", "  ", Some("")),
            ("NUL inside", "eyJpZ\0CI6ImEiLCJhbW91bnQiOjF9", None),
            (
                "stray bits in the last character 32",
                "eyJpZCI6ImFiIiwiYW1vdW50IjoxfR==",
                Some(r#"{"id":"ab","amount":1}"#),
            ),
            (
                "stray bits in the last character 32",
                "eyJpZCI6ImFiYyIsImFtb3VudCI6MX1=",
                Some(r#"{"id":"abc","amount":1}"#),
            ),
        ] {
            let expected = match case {
                "no padding 2" => Some(r#"{"id":"ab","amount":1}"#),
                "no padding 3" => Some(r#"{"id":"abc","amount":1}"#),
                _ => dotnet,
            };
            let bytes = base64_bytes(text).ok();
            assert_eq!(bytes.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn json_is_found_as_it_is_and_in_base64_and_behind_one_byte_order_mark() {
        for message in [
            r#"{"id":"a"}"#,
            " \r\n{\"id\":\"a\"}\u{a0}",
            "\u{feff}{\"id\":\"a\"}",
            "\u{feff} {\"id\":\"a\"}",
            "eyJpZCI6ImEifQ==",
            "eyJpZCI6\n ImEifQ",
            "77u/eyJpZCI6ImEifQ==",
            "\u{feff}eyJpZCI6ImEifQ==",
        ] {
            assert_eq!(read(message).as_deref(), Ok(r#"{"id":"a"}"#), "{message}");
        }
    }

    #[test]
    fn the_detail_of_a_refused_text_names_all_that_was_tried() {
        for (message, detail) in [
            (r#"{"id":"#, "the JSON text is truncated"),
            ("hello world!", "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is not base64"),
            ("\u{feff}\u{feff}{}", "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is not base64"),
            ("null", "as JSON: a JSON object is needed, not null; as base64 of JSON: it is not UTF-8"),
            ("//79/A==", "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is not UTF-8"),
            ("eyJpZCI6", "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: the JSON text is truncated"),
            (
                "ZXlKcFpDSTZJbUVpZlE9PQ==",
                "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is base64 of base64",
            ),
            (
                "ewAiAGkAZAAiAA==",
                "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is UTF-16, not UTF-8",
            ),
            (
                "//57ACIAaQBkAA==",
                "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is UTF-16, not UTF-8",
            ),
            ("eyJpZ\u{a0}CI6MX0=", "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: it is not base64"),
            (
                "W10=",
                "as JSON: not valid JSON at line 1 column 1; as base64 of JSON: a JSON object is needed, not an array",
            ),
            ("", "as JSON: the JSON text is truncated; as base64 of JSON: the JSON text is truncated"),
        ] {
            assert_eq!(read(message), Err(detail.to_owned()), "{message}");
        }
    }

    #[test]
    fn members_that_transport_added_are_known_by_name_and_grammar() {
        const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (member, is_added) in [
            (r#""$AzureWebJobsParentId":"3813086a-ed95-4dda-ba09-5a799b96b1ea""#.to_owned(), true),
            (r#""$AzureWebJobsParent\u0049d":"3813086A-ED95-4DDA-BA09-5A799B96B1E\u0041""#.to_owned(), true),
            (format!(r#""traceparent":"{TRACEPARENT}""#), true),
            (r#""tracestate":"rojo=00f067aa0ba902b7, congo=t61rcWkgMzE""#.to_owned(), true),
            (r#""$AzureWebJobsParentId":"order-7""#.to_owned(), false),
            (r#""$AzureWebJobsParentId":"3813086aed954ddaba095a799b96b1ea""#.to_owned(), false),
            (r#""$AzureWebJobsParentId":"{3813086a-ed95-4dda-ba09-5a799b96b1ea}""#.to_owned(), false),
            (r#""$AzureWebJobsParentId":null"#.to_owned(), false),
            (r#""$azurewebjobsparentid":"3813086a-ed95-4dda-ba09-5a799b96b1ea""#.to_owned(), false),
            (r#""traceparent":"rojo=00f067aa0ba902b7""#.to_owned(), false),
            (format!(r#""traceparent":["{TRACEPARENT}"]"#), false),
            (format!(r#""tracestate":"{TRACEPARENT}""#), false),
            (r#""tracestate":42"#.to_owned(), false),
            (format!(r#""Traceparent":"{TRACEPARENT}""#), false),
            (r#""baggage":"a=1""#.to_owned(), false),
            (format!(r#""nested":{{"traceparent":"{TRACEPARENT}"}}"#), false),
        ] {
            let text = format!(r#"{{"id":"a",{member}}}"#);
            assert_eq!(parse(&text).unwrap().added_by_transport().len(), usize::from(is_added), "{member}");
        }
    }

    #[test]
    fn an_id_is_a_trimmed_string_or_the_exact_digits_of_an_integer() {
        for (raw, expected) in [
            (r#""order-123""#, "order-123"),
            (r#"" \torder-123\n""#, "order-123"),
            (r#""Zoë's order/#? %41""#, "Zoë's order/#? %41"),
            ("42", "42"),
            ("-7", "-7"),
            ("-0", "0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(id(&format!(r#"{{"id":{raw}}}"#)).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn an_id_of_256_characters_is_the_longest() {
        let longest = "é".repeat(256);
        assert_eq!(id(&format!(r#"{{"id":"{longest}"}}"#)), Ok(longest.clone()));
        assert_eq!(id(&format!(r#"{{"id":"{longest}e"}}"#)), Err(Reason::InvalidId));
    }

    #[test]
    fn a_message_that_identifies_nothing_is_rejected() {
        for text in ["{}", r#"{"id":null}"#, r#"{"Id":"order-123"}"#, r#"{"amount":10}"#] {
            assert_eq!(id(text), Err(Reason::MissingId), "{text}");
        }
        for raw in [r#""""#, r#""  ""#, "{}", "[]", r#"["a"]"#, "true", "1.0", "1e3"] {
            assert_eq!(id(&format!(r#"{{"id":{raw}}}"#)), Err(Reason::InvalidId), "{raw}");
        }
    }

    #[test]
    fn the_detail_of_a_missing_id_says_what_is_there_instead() {
        for (text, detail) in [
            (r#"{"amount":10}"#, "the message has no member `id`"),
            (r#"{"order":{"Id":1}}"#, "the message has no member `id`"),
            (r#"{"amount":10,"Id":"a"}"#, "the message has no member `id`, only `Id`: letter case counts"),
            (r#"{"id":null,"ID":"a"}"#, "the member `id` is null"),
        ] {
            assert_eq!(parse(text).unwrap_err().detail, detail, "{text}");
        }
    }

    #[test]
    fn an_id_with_a_character_that_cannot_be_seen_is_rejected() {
        for invisible in [
            // Control characters, the soft hyphen, a hidden letter, a vowel separator, zero-width ones, direction marks.
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            // Separators of lines and paragraphs, blank letters of Hangul, a variation selector, the byte order mark.
            '\u{2028}',
            '\u{2029}',
            '\u{115f}',
            '\u{1160}',
            '\u{3164}',
            '\u{ffa0}',
            '\u{fe0f}',
            '\u{feff}',
            // Annotations, musical notation, tags, selectors above the basic plane.
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{e0fff}',
        ] {
            let text = serde_json::json!({ "id": format!("zw{invisible}zw") }).to_string();
            let detail = format!("the id has a character that cannot be seen: U+{:04X}", u32::from(invisible));
            assert_eq!(parse(&text).unwrap_err(), Rejection::new(Reason::InvalidId, detail));
        }
        assert_eq!(id("{\"id\":\"\u{feff}zw\"}"), Err(Reason::InvalidId));
    }

    #[test]
    fn ids_in_any_script_and_letter_case_are_ids() {
        for expected in ["A1b2", "a1B2", "Zoe\u{308}", "注文 7", "طلب-٧", "ऑर्डर", "주문", "סדר", "💶"]
        {
            assert_eq!(id(&format!(r#"{{"id":"{expected}"}}"#)).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_message_belongs_to_the_trace_that_it_names_at_its_top() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (text, expected) in [
            (format!(r#"{{"id":1,"traceparent":"{traceparent}"}}"#), Some(traceparent)),
            (format!(r#"{{"id":1,"traceparent":"\u0030{}"}}"#, &traceparent[1..]), Some(traceparent)),
            (format!(r#"{{"id":1,"traceparent":"{}"}}"#, traceparent.to_uppercase()), None),
            (format!(r#"{{"id":1,"traceparent":["{traceparent}"]}}"#), None),
            (format!(r#"{{"id":1,"Traceparent":"{traceparent}"}}"#), None),
            (format!(r#"{{"id":1,"headers":{{"traceparent":"{traceparent}"}}}}"#), None),
            (r#"{"id":1,"traceparent":42}"#.to_owned(), None),
        ] {
            assert_eq!(parse(&text).unwrap().traceparent().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_number_keeps_its_exact_text() {
        for number in ["42", "10.50", "-0.10", "1e2", "123456789012345678901234567890.123456789"] {
            assert_eq!(amount(&format!(r#"{{"id":"a","amount":{number}}}"#)), Ok(Some(number.to_owned())));
        }
        assert_eq!(amount(r#"{"id":"a"}"#), Ok(None));
    }

    #[test]
    fn a_member_that_does_not_fit_its_type_is_rejected() {
        for raw in ["null", r#""42""#, "true", "{}", "[]", r#"{"$serde_json::private::RawValue":"42"}"#] {
            assert_eq!(amount(&format!(r#"{{"id":"a","amount":{raw}}}"#)), Err(Reason::InvalidOrder), "{raw}");
        }
    }

    #[test]
    fn only_a_usable_id_and_listed_numbers_and_booleans_are_printed() {
        for (text, expected) in [
            (r#"{"amount":42,"id":"order-123","card":"4111 1111 1111 1111"}"#, r#"{"id":"order-123","amount":42}"#),
            (r#"{"id":"order-123","amount":"4111 1111 1111 1111"}"#, r#"{"id":"order-123","amount":…}"#),
            (r#"{"id":["4111 1111 1111 1111"],"amount":{"card":"4111"}}"#, r#"{"id":…,"amount":…}"#),
            (r#"{"id":"4111\n1111","token":"secret"}"#, r#"{"id":…}"#),
            (r#"{"token":"secret","paid":true}"#, r#"{"paid":true}"#),
        ] {
            assert_eq!(printable(&Object::parse(text).unwrap(), "id", &["amount", "paid"]), expected, "{text}");
        }
        let long = format!(r#"{{"amount":{}}}"#, "1".repeat(65));
        assert_eq!(printable(&Object::parse(&long).unwrap(), "id", &["amount"]), r#"{"amount":…}"#);
    }

    proptest! {
        #[test]
        fn every_usable_id_arrives_as_it_is(
            expected in "[^\\p{C}\\p{DI}\\s]([^\\p{C}\\p{Zl}\\p{Zp}\\p{DI}]{0,200}[^\\p{C}\\p{DI}\\s])?", amount: i64
        ) {
            let text = serde_json::json!({ "amount": amount, "id": expected }).to_string();
            prop_assert_eq!(id(&text), Ok(expected));
        }

        #[test]
        fn every_integer_is_an_id_in_its_own_digits(expected in "-?[1-9][0-9]{0,60}") {
            prop_assert_eq!(id(&format!(r#"{{"id":{expected}}}"#)), Ok(expected));
        }

        #[test]
        fn every_number_is_read_in_its_own_spelling(
            number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?"
        ) {
            prop_assert_eq!(amount(&format!(r#"{{"id":"a","amount":{number}}}"#)), Ok(Some(number)));
        }

        #[test]
        fn a_message_of_any_content_is_read_or_rejected_with_a_reason(
            id in ".{0,20}", amount in ".{0,20}", name in ".{0,10}"
        ) {
            for text in [format!(r#"{{"id":{id},"amount":{amount}}}"#), format!(r#"{{"id":"{id}","{name}":{amount}}}"#)] {
                let content = parse(&text).and_then(|message| message.read::<Content>());
                prop_assert!(content.is_ok() || !content.unwrap_err().detail.is_empty());
            }
        }
    }
}
