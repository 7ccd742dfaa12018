//! From the text of a queue message to its id and its content.
//!
//! The producer's business key identifies the operation, so it has to be the same text in every copy of the message:
//! an integer keeps its digits, and white space at the ends does not count.

use crate::{
    json::{Object, is_number},
    quarantine::{Reason, Rejection},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::borrow::Cow;

/// Longest id, in characters.
pub const MAX_ID_CHARS: usize = 256;

/// Longest number that a log line shows, in bytes.
const MAX_PRINTED: usize = 64;

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
            return Err(Rejection::new(Reason::MissingId, format!("the message has no member `{id_member}`")));
        };
        let id = id_text(raw_id).map_err(|problem| Rejection::new(Reason::InvalidId, problem))?;
        Ok(Self { id, object })
    }

    /// The id: 1 to [`MAX_ID_CHARS`] characters, none of them a control character, no white space at the ends.
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

/// Reads an id.
fn id_text(raw: &str) -> Result<String, String> {
    let text = scalar_text(raw).ok_or("the id must be a string or an integer")?;
    match text.trim() {
        "" => Err("the id is blank".to_owned()),
        id if id.chars().count() > MAX_ID_CHARS => Err(format!("the id is longer than {MAX_ID_CHARS} characters")),
        id if id.contains(char::is_control) => Err("the id has a control character".to_owned()),
        id => Ok(id.to_owned()),
    }
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
        for raw in [r#""""#, r#""  ""#, "{}", "[]", r#"["a"]"#, "true", "1.0", "1e3", r#""a\u0000b""#, r#""a\u0085b""#]
        {
            assert_eq!(id(&format!(r#"{{"id":{raw}}}"#)), Err(Reason::InvalidId), "{raw}");
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
        fn every_usable_id_arrives_as_it_is(expected in "[^\\p{Cc}\\s]([^\\p{Cc}]{0,200}[^\\p{Cc}\\s])?", amount: i64) {
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
