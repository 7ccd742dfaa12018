//! A producer that stamps, spells and wraps messages at random, each time in another way: what it sends is the same
//! message all the same.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use fastrand::Rng;
use serde_json::{Map, Value};

/// A producer. The same seed makes the same texts.
#[derive(Debug)]
pub struct Producer(Rng);

impl Producer {
    /// Writes the text of a queue message with this `id` and these other members.
    #[must_use]
    pub fn send(seed: u64, id: &str, content: &Map<String, Value>) -> String {
        let mut producer = Self(Rng::with_seed(seed));
        let mut message = producer.stamps();
        message.extend(content.clone());
        let blank = producer.any(&["", " ", "\t"]);
        message.insert("id".to_owned(), format!("{blank}{id}").into());
        let json = producer.spelled(&message.into());
        producer.wrapped(&json)
    }

    fn any(&mut self, texts: &[&'static str]) -> &'static str {
        self.0.choice(texts).copied().unwrap_or_default()
    }

    /// Draws some of the members that transport adds.
    fn stamps(&mut self) -> Map<String, Value> {
        let [high, low] = [self.0.u128(1..), self.0.u128(1..)].map(|number| format!("{number:032x}"));
        let guid = [&high[..8], &high[8..12], &high[12..16], &high[16..20], &high[20..]].join("-");
        let stamps = [
            ("$AzureWebJobsParentId", guid),
            ("traceparent", format!("00-{high}-1{}-01", &low[17..])),
            ("tracestate", format!("rojo={high}, congo={low}")),
        ];
        let stamps = stamps.into_iter().filter(|_| self.0.bool());
        stamps.map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Writes a value as JSON: members in any order, characters as they are or escaped, numbers in any form, and white
    /// space.
    fn spelled(&mut self, value: &Value) -> String {
        let text = match value {
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    format!("{}:{}", self.spelled(&name.as_str().into()), self.spelled(value))
                };
                let mut members: Vec<_> = members.iter().map(member).collect();
                self.0.shuffle(&mut members);
                format!("{{{}}}", members.join(","))
            }
            Value::Array(values) => {
                format!("[{}]", values.iter().map(|value| self.spelled(value)).collect::<Vec<_>>().join(","))
            }
            Value::String(text) => format!("\"{}\"", text.chars().map(|c| self.character(c)).collect::<String>()),
            Value::Number(number) => format!("{number}{}", self.any(&["", ".0", "e0", ".00E+0"])),
            other => other.to_string(),
        };
        text + self.any(&["", " ", "\r\n", "\t"])
    }

    fn character(&mut self, character: char) -> String {
        if character == '"' || self.0.bool() {
            return character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        }
        Value::from(character.to_string()).to_string().trim_matches('"').to_owned()
    }

    /// Wraps JSON in nothing, or in base64 with or without padding and with white space, behind a byte order mark or none.
    fn wrapped(&mut self, json: &str) -> String {
        let inner = self.any(&["", "\u{feff}"]).to_owned() + json;
        let mut base64 = match self.0.u8(..3) {
            0 => return inner,
            1 => BASE64_STANDARD.encode(inner),
            _ => BASE64_STANDARD_NO_PAD.encode(inner),
        };
        for _ in 0..self.0.u8(..4) {
            base64.insert_str(self.0.usize(..=base64.len()), self.any(&[" ", "\t", "\n", "\r\n"]));
        }
        self.any(&["", "\u{feff}"]).to_owned() + &base64
    }
}
