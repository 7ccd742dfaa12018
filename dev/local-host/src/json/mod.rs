//! JSON as the Functions host handles it: members keep their order, numbers and strings are written by its rules.
//!
//! The host reads and rewrites JSON with Newtonsoft.Json, which neither sorts members nor keeps `1.10` as it was, and
//! which reads a good deal that is not JSON at all: see [`reader`].
//! `serde_json::Value` sorts (its `preserve_order` would leak into the handler under test), so this is a small value
//! type of its own. <https://www.newtonsoft.com/json/help/html/Introduction.htm>

mod reader;
mod value;

use serde_json::value::RawValue;

pub(crate) use reader::JsonError;
pub(crate) use value::{Json, quoted};

impl Json {
    /// Reads one value that is the whole text.
    ///
    /// # Errors
    /// When Newtonsoft does not take the text for JSON, or it is nested deeper than `depth`.
    pub(crate) fn parse(text: &str, depth: usize) -> Result<Self, JsonError> {
        reader::read(text, depth)
    }

    /// Reads the value an answer starts with, and ignores what follows it. No value at all counts as null. Strict, as
    /// every handler writes it.
    ///
    /// # Errors
    /// When it is not JSON, or it is nested deeper than `depth`.
    pub(crate) fn parse_start(text: &str, depth: usize) -> Result<Self, JsonError> {
        match serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().next() {
            None => Ok(Self::Null),
            Some(value) => reader::read(value?.get(), depth),
        }
    }
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
        assert_eq!(Json::parse_start(" \n", 9).unwrap(), Json::Null);
        assert!(Json::parse("{} garbage", 9).is_err());
    }

    #[test]
    fn what_is_not_a_number_to_json_is_written_as_a_string() {
        let json = Json::parse("[NaN,Infinity,-Infinity,1e999]", 9).unwrap();
        assert_eq!(json.compact(), r#"["NaN","Infinity","-Infinity","Infinity"]"#);
    }
}
