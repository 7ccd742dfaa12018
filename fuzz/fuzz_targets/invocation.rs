//! The decoder of invocations: no bytes make it panic, and what it reads survives the way through the host again.

#![no_main]

use handler::{
    protocol::invocation::{queue_message, timer_tick},
    quarantine::QueueMessage,
};
use libfuzzer_sys::fuzz_target;

/// Wraps a message as the host does: a JSON string in a JSON string.
fn from_the_host(message: &str) -> Vec<u8> {
    let once = serde_json::Value::from(message).to_string();
    serde_json::json!({ "Data": { "msg": once }, "Metadata": { "DequeueCount": "1" } }).to_string().into_bytes()
}

fn text_from_the_host(message: &str) -> Option<String> {
    Some(queue_message(&from_the_host(message)).ok()?.text)
}

fuzz_target!(|body: &[u8]| {
    match queue_message(body) {
        Ok(QueueMessage { text, .. }) => assert_eq!(text_from_the_host(&text), Some(text)),
        // It names a place, and repeats nothing but the names on the way there.
        Err(error) => assert!(error.to_string().len() <= 200 + body.len() * 3, "{error}"),
    }
    if let Ok(message) = std::str::from_utf8(body) {
        assert_eq!(text_from_the_host(message).as_deref(), Some(message));
    }
    let _ = timer_tick(body);
});
