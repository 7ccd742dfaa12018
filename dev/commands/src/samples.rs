//! The messages of the story, and the table that they end in.

/// The table of records and events.
pub(crate) const TABLE: &str = "idempotency";

/// One message of the story.
pub(crate) struct Sample {
    pub(crate) title: &'static str,
    pub(crate) message: &'static str,
    pub(crate) base64: bool,
    /// Why it is quarantined, if it is.
    pub(crate) quarantined: Option<&'static str>,
}

pub(crate) const SAMPLES: [Sample; 5] = [
    Sample { title: "A new order", message: r#"{"id":"order-123","amount":42}"#, base64: false, quarantined: None },
    Sample {
        title: "The same order again: other spelling, base64 on the queue",
        message: r#"{ "amount": 42.0, "id": "order-123" }"#,
        base64: true,
        quarantined: None,
    },
    Sample {
        title: "The same id with another amount",
        message: r#"{"id":"order-123","amount":99}"#,
        base64: false,
        quarantined: Some("conflict"),
    },
    Sample {
        title: "An order without an id",
        message: r#"{"amount":10}"#,
        base64: false,
        quarantined: Some("missing_id"),
    },
    Sample { title: "Broken JSON", message: r#"{"id":"order-124","#, base64: false, quarantined: Some("invalid_json") },
];
