//! JSON objects that every reader understands alike, and their canonical form.
//!
//! A retry decides whether two messages say the same, so what is ambiguous is refused: duplicate names (readers
//! disagree on which one counts, [RFC 8259 §4](https://www.rfc-editor.org/rfc/rfc8259#section-4)), lone surrogates and
//! nesting deeper than [`MAX_DEPTH`]. Numbers keep the text they were sent in, and compare by exact decimal value:
//! [RFC 8785](https://www.rfc-editor.org/rfc/rfc8785), the usual canonical form, sends them through a binary float,
//! in which 0.1 and 0.10000000000000000001 are one amount of money.

mod number;

pub(crate) use number::is_number;
pub use number::{Number, present};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, ops::Range};

/// Objects and arrays may be nested this deep; the Functions host itself stops looking at 64.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not a JSON object that every reader understands alike.
///
/// The messages name places and limits and never repeat the text itself: they are logged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidJson {
    /// The text does not follow the grammar.
    #[error("not valid JSON at line {line} column {column}")]
    Syntax {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in bytes, from 1.
        column: usize,
    },
    /// The text ends in the middle of a value.
    #[error("the JSON text is truncated")]
    Truncated,
    /// The value is a string, a number, an array, …
    #[error("a JSON object is needed, not {0}")]
    NotAnObject(&'static str),
    /// A name stands twice in one object.
    #[error("a name stands twice in one object")]
    DuplicateName,
    /// An escape such as `\ud800` without its other half: not a character.
    #[error("a string has a lone surrogate")]
    LoneSurrogate,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The exponent of a number does not fit 64 bits.
    #[error("a number has an exponent beyond 64 bits")]
    ExponentOutOfRange,
}

/// A JSON object, its members sorted by name.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
    /// The canonical forms of all members, one after the other.
    canonical: String,
}

/// One member of an [`Object`].
#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
    /// Place of `"name":value` in [`Object::canonical`].
    canonical: Range<usize>,
}

impl<'a> Object<'a> {
    /// Reads an object and everything in it.
    ///
    /// # Errors
    ///
    /// The text is not an object, or not one that every reader understands alike.
    pub fn parse(text: &'a str) -> Result<Self, InvalidJson> {
        let value: &RawValue = serde_json::from_str(text).map_err(|error| syntax(&error))?;
        if let Some(kind) = other_than_object(value) {
            return Err(InvalidJson::NotAnObject(kind));
        }
        let sorted = sorted_members(value)?;
        let mut members = Vec::with_capacity(sorted.len());
        let mut canonical = String::with_capacity(text.len());
        for (Text(name), value) in sorted {
            let start = canonical.len();
            write_member(&name, value, 1, &mut canonical)?;
            members.push(Member { name, value, canonical: start..canonical.len() });
        }
        Ok(Self { text, members, canonical })
    }

    /// The whole object as it was sent.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The value of the member `name` as it was sent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|member| member.name == name).map(|member| member.value.get())
    }

    /// Finds a member whose name differs from `name` in letter case only.
    #[must_use]
    pub fn name_in_other_case(&self, name: &str) -> Option<&str> {
        let mut names = self.members.iter().map(|member| member.name.as_ref());
        names.find(|other| *other != name && other.to_lowercase() == name.to_lowercase())
    }

    /// Writes the canonical form of the object without the members `left_out`: the same text for every spelling of the
    /// same content, whatever the order of names, white space, escapes, and the way numbers are written.
    #[must_use]
    pub fn canonical_without(&self, left_out: &[&str]) -> String {
        let mut out = String::with_capacity(self.canonical.len() + self.members.len() + 1);
        out.push('{');
        for member in self.members.iter().filter(|member| !left_out.contains(&member.name.as_ref())) {
            separate(&mut out, '{');
            out.push_str(&self.canonical[member.canonical.clone()]);
        }
        out.push('}');
        out
    }
}

/// Escapes the two characters that XML cannot hold in a JSON text: queue messages travel in XML. Few texts have their first
/// byte.
#[must_use]
pub fn xml_safe(json: String) -> String {
    match json.as_bytes().contains(&0xef) {
        true => json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"),
        false => json,
    }
}

fn syntax(error: &serde_json::Error) -> InvalidJson {
    if error.is_eof() {
        InvalidJson::Truncated
    } else {
        InvalidJson::Syntax { line: error.line(), column: error.column() }
    }
}

fn other_than_object(value: &RawValue) -> Option<&'static str> {
    match value.get().as_bytes().first() {
        Some(b'{') => None,
        Some(b'[') => Some("an array"),
        Some(b'"') => Some("a string"),
        Some(b't' | b'f') => Some("a boolean"),
        Some(b'n') => Some("null"),
        _ => Some("a number"),
    }
}

fn write_canonical(value: &RawValue, depth: usize, out: &mut String) -> Result<(), InvalidJson> {
    if depth > MAX_DEPTH {
        return Err(InvalidJson::TooDeep);
    }
    match value.get().as_bytes().first() {
        Some(b'{') => write_object(value, depth, out),
        Some(b'[') => write_array(value, depth, out),
        Some(b'"') if value.get().contains('\\') => {
            write_string(&decoded::<String>(value)?, out);
            Ok(())
        }
        // A string without escapes is spelled in one way only.
        Some(b'"' | b't' | b'f' | b'n') => {
            out.push_str(value.get());
            Ok(())
        }
        _ => write_number(value.get(), out),
    }
}

fn write_object(value: &RawValue, depth: usize, out: &mut String) -> Result<(), InvalidJson> {
    out.push('{');
    for (Text(name), value) in sorted_members(value)? {
        separate(out, '{');
        write_member(&name, value, depth + 1, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_member(name: &str, value: &RawValue, depth: usize, out: &mut String) -> Result<(), InvalidJson> {
    write_string(name, out);
    out.push(':');
    write_canonical(value, depth, out)
}

fn write_array(value: &RawValue, depth: usize, out: &mut String) -> Result<(), InvalidJson> {
    out.push('[');
    for element in decoded::<Vec<&RawValue>>(value)? {
        separate(out, '[');
        write_canonical(element, depth + 1, out)?;
    }
    out.push(']');
    Ok(())
}

fn separate(out: &mut String, opening: char) {
    if !out.ends_with(opening) {
        out.push(',');
    }
}

fn write_string(text: &str, out: &mut String) {
    if text.contains(|character: char| matches!(character, '"' | '\\' | '\0'..='\u{1f}')) {
        out.push_str(&serde_json::Value::from(text).to_string());
    } else {
        out.extend(["\"", text, "\""]);
    }
}

/// Writes a number as `digits` or `digits e exponent`, without leading and trailing zeros in the digits.
fn write_number(text: &str, out: &mut String) -> Result<(), InvalidJson> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or(("", mantissa), |unsigned| ("-", unsigned));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let shift = i64::try_from(digits.len() - significant.len()).ok();
    let exponent = exponent.parse::<i64>().ok();
    let exponent = exponent
        .zip(shift)
        .and_then(|(exponent, shift)| exponent.checked_add(shift))
        .and_then(|exponent| exponent.checked_sub(i64::try_from(fraction.len()).ok()?))
        .ok_or(InvalidJson::ExponentOutOfRange)?;
    match significant.trim_start_matches('0') {
        "" => out.push('0'),
        significant if exponent == 0 => out.extend([sign, significant]),
        significant => out.push_str(&format!("{sign}{significant}e{exponent}")),
    }
    Ok(())
}

/// Decodes a part of a text whose grammar was checked: what can still be wrong is a lone surrogate.
fn decoded<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, InvalidJson> {
    serde_json::from_str(value.get()).map_err(|_| InvalidJson::LoneSurrogate)
}

fn sorted_members(value: &RawValue) -> Result<Vec<(Text<'_>, &RawValue)>, InvalidJson> {
    let Members(mut members) = decoded(value)?;
    members.sort_by(|(left, _), (right, _)| left.0.cmp(&right.0));
    if members.windows(2).any(|pair| pair[0].0.0 == pair[1].0.0) {
        return Err(InvalidJson::DuplicateName);
    }
    Ok(members)
}

/// A string, copied only when it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of one object in the order of the text, duplicates included: maps would drop them.
struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Text<'de>, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> Result<String, InvalidJson> {
        Object::parse(text).map(|object| object.canonical_without(&[]))
    }

    #[track_caller]
    fn check_same(left: &str, right: &str) {
        assert_eq!(canonical(left).unwrap(), canonical(right).unwrap());
    }

    #[track_caller]
    fn check_different(left: &str, right: &str) {
        assert_ne!(canonical(left).unwrap(), canonical(right).unwrap());
    }

    #[test]
    fn order_of_names_and_white_space_do_not_matter() {
        check_same(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#, "{ \"b\" : {\"d\":null,\n\"c\":[ 1,2 ]}, \"a\":1 }");
    }

    #[test]
    fn spelling_of_escapes_does_not_matter() {
        check_same(r#"{"n\u0061me":"Zo\u00eb \/ \u0022"}"#, r#"{"name":"Zoë / \""}"#);
    }

    #[test]
    fn spelling_of_numbers_does_not_matter() {
        for spelling in ["42", "42.0", "4.2e1", "420E-1", "42.000e+0", "0.42e2", "4200e-2"] {
            check_same(r#"{"amount":42}"#, &format!(r#"{{"amount":{spelling}}}"#));
        }
        for zero in ["0", "-0", "0.000", "0e99", "-0.0e-7"] {
            check_same(r#"{"amount":0}"#, &format!(r#"{{"amount":{zero}}}"#));
        }
    }

    #[test]
    fn numbers_that_one_float_would_merge_stay_different() {
        check_different(r#"{"amount":0.1}"#, r#"{"amount":0.10000000000000000001}"#);
        check_different(r#"{"amount":9007199254740992}"#, r#"{"amount":9007199254740993}"#);
        check_different(r#"{"amount":1e400}"#, r#"{"amount":1e401}"#);
        check_different(r#"{"amount":1}"#, r#"{"amount":-1}"#);
    }

    #[test]
    fn values_of_other_types_stay_different() {
        for (left, right) in
            [("1", r#""1""#), ("null", "false"), ("[]", "{}"), ("[1,2]", "[2,1]"), ("[1,2]", "[12]"), ("[[]]", "[]")]
        {
            check_different(&format!(r#"{{"v":{left}}}"#), &format!(r#"{{"v":{right}}}"#));
        }
        check_different(r#"{"v":null}"#, "{}");
        check_different(r#"{"a":"b\",\"c\":\"d"}"#, r#"{"a":"b","c":"d"}"#);
    }

    #[test]
    fn the_named_member_is_left_out_at_the_top_only() {
        let object = Object::parse(r#"{"id":"1","b":{"id":2},"a":3}"#).unwrap();
        assert_eq!(object.canonical_without(&["id"]), r#"{"a":3,"b":{"id":2}}"#);
        assert_eq!(object.get("id"), Some(r#""1""#));
        assert_eq!(object.get("absent"), None);
    }

    #[test]
    fn a_name_is_found_in_another_letter_case_at_the_top_only() {
        let object = Object::parse(r#"{"amount":1,"ORDERiD":2,"b":{"Id":3},"ÄB":4}"#).unwrap();
        assert_eq!(object.name_in_other_case("orderId"), Some("ORDERiD"));
        assert_eq!(object.name_in_other_case("äb"), Some("ÄB"));
        assert_eq!((object.name_in_other_case("id"), object.name_in_other_case("amount")), (None, None));
    }

    #[test]
    fn what_two_readers_may_understand_differently_is_refused() {
        for (text, expected) in [
            (r#"{"id":"a","id":"b"}"#, InvalidJson::DuplicateName),
            (r#"{"id":"a","i\u0064":"a"}"#, InvalidJson::DuplicateName),
            (r#"{"a":[{"b":1,"b":1}]}"#, InvalidJson::DuplicateName),
            (r#"{"a":"\ud800"}"#, InvalidJson::LoneSurrogate),
            (r#"{"\udc00":1}"#, InvalidJson::LoneSurrogate),
            (r#"{"a":1e99999999999999999999}"#, InvalidJson::ExponentOutOfRange),
            (r#"{"a":10e9223372036854775807}"#, InvalidJson::ExponentOutOfRange),
            (r#"{"a":0.1e-9223372036854775808}"#, InvalidJson::ExponentOutOfRange),
        ] {
            assert_eq!(canonical(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_object_are_refused() {
        for (text, kind) in
            [("[1]", "an array"), (r#""{}""#, "a string"), ("true", "a boolean"), ("null", "null"), ("-7", "a number")]
        {
            assert_eq!(canonical(text), Err(InvalidJson::NotAnObject(kind)), "{text}");
        }
    }

    #[test]
    fn broken_grammar_is_refused_with_its_place() {
        for text in [r#"{"a":1"#, "{", "", r#"{"a":"b"#] {
            assert_eq!(canonical(text), Err(InvalidJson::Truncated), "{text}");
        }
        for text in
            [r#"{"a":NaN}"#, r#"{"a":-Infinity}"#, r#"{"a":01}"#, r#"{"a":1.}"#, "{'a':1}", "{}{}", r#"{"a":1,}"#]
        {
            assert!(matches!(canonical(text), Err(InvalidJson::Syntax { line: 1, .. })), "{text}");
        }
    }

    #[test]
    fn nesting_bombs_are_refused_and_honest_nesting_is_not() {
        let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(canonical(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(canonical(&nested(MAX_DEPTH + 1)), Err(InvalidJson::TooDeep));
        assert_eq!(canonical(&nested(30_000)), Err(InvalidJson::TooDeep));
        let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(canonical(&objects(MAX_DEPTH)).is_ok());
        assert_eq!(canonical(&objects(MAX_DEPTH + 1)), Err(InvalidJson::TooDeep));
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_escaped_without_changing_the_content() {
        let json = serde_json::json!({ "id": "a\u{fffe}b\u{ffff}c\u{1}" }).to_string();
        let safe = xml_safe(json.clone());
        assert_eq!(safe, r#"{"id":"a\ufffeb\uffffc\u0001"}"#);
        assert_eq!(canonical(&safe), canonical(&json));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_form_is_json_with_the_same_content(value in any_json()) {
            let text = serde_json::json!({ "v": value }).to_string();
            let once = canonical(&text).unwrap();
            let twice = canonical(&once).unwrap();
            prop_assert_eq!(&once, &twice);
            let pretty = serde_json::to_string_pretty(&serde_json::json!({ "v": value })).unwrap();
            prop_assert_eq!(once, canonical(&pretty).unwrap());
        }

        #[test]
        fn the_order_of_members_does_not_matter(
            members in prop::collection::btree_map("[a-z]{0,3}", any_json(), 0..8), seed: u64
        ) {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str()))).collect();
            let sorted = canonical(&format!("{{{}}}", members.join(","))).unwrap();
            fastrand::Rng::with_seed(seed).shuffle(&mut members);
            prop_assert_eq!(canonical(&format!("{{ {} }}", members.join(" ,\n"))).unwrap(), sorted);
        }

        #[test]
        fn two_spellings_of_one_decimal_are_one_and_others_are_not(
            digits in 1_u64.., other in 1_u64.., shift in 0_usize..30, zeros in 0_usize..30
        ) {
            let spelled = |digits: u64| format!(r#"{{"v":{digits}{}e-{}}}"#, "0".repeat(zeros), shift + zeros);
            let plain = |digits: u64| format!(r#"{{"v":{digits}e-{shift}}}"#);
            prop_assert_eq!(canonical(&spelled(digits)).unwrap(), canonical(&plain(digits)).unwrap());
            prop_assert_eq!(digits == other, canonical(&spelled(digits)).unwrap() == canonical(&plain(other)).unwrap());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = canonical(&text);
            let _ = canonical(&String::from_utf8_lossy(&bytes));
        }
    }
}
