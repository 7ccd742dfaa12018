//! From the text of a queue message to its id and its content.
//!
//! The producer's business key identifies the operation, so it has to be the same text in every copy of the message:
//! an integer keeps its digits, and white space at the ends does not count.

use crate::{
    json::{Object, is_number},
    quarantine::{Reason, Rejection},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};
use serde::Deserialize;
use std::borrow::Cow;

/// Longest id, in characters.
pub const MAX_ID_CHARS: usize = 256;

/// Longest number that a log line shows, in bytes.
const MAX_PRINTED: usize = 64;

/// [Characters](https://www.unicode.org/reports/tr44/#General_Category_Values) that are not shown, or end a line.
const INVISIBLE: GeneralCategoryGroup = GeneralCategoryGroup::Control
    .union(GeneralCategoryGroup::Format)
    .union(GeneralCategoryGroup::LineSeparator)
    .union(GeneralCategoryGroup::ParagraphSeparator);

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

    /// Reads the members that a decision needs, by their types.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidOrder`] when a member is missing or does not fit its type.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, Rejection> {
        serde_json::from_str(self.object.text()).map_err(|error| Rejection::invalid_order(error.to_string()))
    }
}

/// Finds the JSON text of a queue message, which may be base64 of it: producers differ, and Storage Explorer offers
/// both.
///
/// # Errors
///
/// [`Reason::InvalidJson`] when it is base64 of something that is no text.
pub fn json_text(text: &str) -> Result<Cow<'_, str>, Rejection> {
    let trimmed = text.trim();
    if trimmed.starts_with('{') {
        return Ok(Cow::Borrowed(trimmed));
    }
    let Ok(bytes) = BASE64_STANDARD.decode(trimmed) else {
        return Ok(Cow::Borrowed(trimmed));
    };
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| invalid_json(text, "base64 of something that is not UTF-8"))
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
    match id.chars().find(|character| is_invisible(*character)) {
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

    #[track_caller]
    fn check_text(message: &str, expected: Result<&str, Reason>) {
        let text = json_text(message);
        assert_eq!(text.as_deref().map_err(|rejection| rejection.reason), expected, "{message}");
    }

    #[test]
    fn raw_json_and_base64_of_it_are_the_same_message() {
        check_text(r#"{"id":"order-123"}"#, Ok(r#"{"id":"order-123"}"#));
        check_text("eyJpZCI6Im9yZGVyLTEyMyJ9", Ok(r#"{"id":"order-123"}"#));
        check_text(" eyJpZCI6Im9yZGVyLTEyMyJ9\n", Ok(r#"{"id":"order-123"}"#));
    }

    #[test]
    fn base64_of_no_text_is_invalid() {
        check_text("//79/A==", Err(Reason::InvalidJson));
    }

    #[test]
    fn text_that_only_looks_like_base64_is_judged_as_json_later() {
        check_text("hello world", Ok("hello world"));
        check_text("", Ok(""));
        assert_eq!(object("hello world").unwrap_err().reason, Reason::InvalidJson);
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
