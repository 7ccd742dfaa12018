//! `messageEncoding` of `host.json`: how the bytes of a message lie on its queue.
//!
//! The host encodes what it writes and decodes what it receives, and it can fail at that: text that is no base64 goes
//! to the poison queue unseen, and bytes that are no UTF-8 fail every delivery to a string.
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#host-json>

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use crate::bindings::MessageEncoding;

/// .NET does not look at the bits that the last character has too many.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The content of a message on a queue.
#[derive(Debug, PartialEq)]
pub(crate) enum Decoded {
    /// A message for the function.
    Text(String),
    /// Bytes that no string can take, at any delivery.
    NotUtf8(Vec<u8>),
    /// Nothing that the host wrote, or would read.
    NotBase64,
}

impl MessageEncoding {
    /// Encodes a message as text for the queue.
    pub(crate) fn encode(self, message: &[u8]) -> String {
        match self {
            Self::None => String::from_utf8_lossy(message).into_owned(),
            Self::Base64 => BASE64.encode(message),
        }
    }

    /// Decodes a text on the queue.
    pub(crate) fn decode(self, text: &str) -> Decoded {
        match (self, base64_bytes(text)) {
            (Self::None, _) => Decoded::Text(text.to_owned()),
            (Self::Base64, None) => Decoded::NotBase64,
            (Self::Base64, Some(bytes)) => {
                String::from_utf8(bytes).map_or_else(|error| Decoded::NotUtf8(error.into_bytes()), Decoded::Text)
            }
        }
    }
}

/// Decodes as `Convert.FromBase64String`: white space does not count, the padding does.
pub(crate) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|character| !matches!(character, ' ' | '\t' | '\r' | '\n')).collect();
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_text_bytes_or_neither() {
        let text = |text: &str| Decoded::Text(text.to_owned());
        let cases = [
            (MessageEncoding::None, "eyJpZCI6MX0=", text("eyJpZCI6MX0=")),
            (MessageEncoding::Base64, "eyJpZCI6MX0=", text(r#"{"id":1}"#)),
            (MessageEncoding::Base64, "eyJp\r\n ZCI6MX0=\n", text(r#"{"id":1}"#)),
            (MessageEncoding::Base64, "", text("")),
            (MessageEncoding::Base64, "/w==", Decoded::NotUtf8(vec![0xFF])),
            (MessageEncoding::Base64, r#"{"id":1}"#, Decoded::NotBase64),
            (MessageEncoding::Base64, "eyJpZCI6MX0", Decoded::NotBase64),
        ];
        for (encoding, on_queue, expected) in cases {
            assert_eq!(encoding.decode(on_queue), expected, "{encoding:?} {on_queue}");
        }
    }

    #[test]
    fn base64_is_decoded_as_dotnet_does() {
        let record = include_str!("../tests/records/base64.json");
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        for case in record["cases"].as_array().unwrap() {
            let decoded = base64_bytes(case["text"].as_str().unwrap());
            let text = decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(text.as_deref(), case["dotnet"].as_str(), "{case}");
        }
    }
}
