//! Connections to the handler's port: anything from an invocation, a little wrong, to noise.
//!
//! The more right a request is, the further in it comes: so most are right in all but one thing. What a right one is, is
//! said in <https://www.rfc-editor.org/rfc/rfc9112> and
//! <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers#request-payload>.

use crate::app::{QUEUE, TIMER};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::json;

/// One connection: what is sent, in which pieces, and whether the sender ends its half properly.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) bytes: Vec<u8>,
    pub(super) piece: usize,
    pub(super) is_cut: bool,
}

/// Composes a message as the host delivers it.
pub(super) fn from_the_host(message: &str) -> String {
    json!({ "Data": { "msg": serde_json::to_string(message).unwrap() }, "Metadata": { "DequeueCount": "1" } })
        .to_string()
}

/// Composes a request to a function.
pub(super) fn request(path: &str, head: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST /{path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n").as_bytes(), body].concat()
}

/// Envelopes from right to absurd.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let good = || (0..20_u32).prop_map(|n| from_the_host(&format!(r#"{{"id":"order-{n}","amount":42}}"#)).into_bytes());
    let truncated = (good(), any::<prop::sample::Index>()).prop_map(|(body, at)| body[..at.index(body.len())].to_vec());
    let flipped = (good(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut body, at, byte)| {
        let at = at.index(body.len());
        body[at] = byte;
        body
    });
    let value =
        select(vec!["null", "0", "-1e999999999", "[]", "{}", "\"\"", "true", r#""\ud800""#, r#"{"msg":{}}"#, "[[[["]);
    let envelope = (value.clone(), value.clone(), value).prop_map(|(data, message, metadata)| {
        format!(r#"{{"Data":{{"msg":{message},"msg2":{data}}},"Metadata":{metadata},"Data2":{data}}}"#).into_bytes()
    });
    let nested = (1..200_000_usize, select(vec!["[", "{\"a\":", "\"\\u0000", "{\"Data\":"]))
        .prop_map(|(levels, open)| open.repeat(levels.min(1_000_000 / open.len())).into_bytes());
    let message = any::<String>().prop_map(|message| from_the_host(&message).into_bytes());
    let tick = Just(json!({ "Data": { "timer": { "IsPastDue": false } }, "Metadata": {} }).to_string().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..2_000);
    prop_oneof![2 => good(), 2 => truncated, 2 => flipped, 2 => envelope, 1 => nested, 1 => message, 1 => tick, 1 => noise]
}

/// Headers that do not fit the body, or anything.
fn heads() -> impl Strategy<Value = String> {
    let lines = vec![
        "content-type: text/plain\r\n".to_owned(),
        "content-encoding: gzip\r\n".to_owned(),
        "expect: 100-continue\r\n".to_owned(),
        "connection: upgrade\r\nupgrade: websocket\r\n".to_owned(),
        "x-azure-functions-invocationid: \u{e9}\u{1}\r\n".to_owned(),
        format!("x-azure-functions-invocationid: {}\r\n", "9".repeat(5_000)),
        format!("x-long: {}\r\n", "x".repeat(200_000)),
        "no colon\r\n".to_owned(),
        ": no name\r\n".to_owned(),
        " folded: line\r\n".to_owned(),
        "bare: line feed\n".to_owned(),
        "host: twice\r\n".to_owned(),
    ];
    prop_oneof![3 => Just(String::new()), 1 => subsequence(lines, 1..4).prop_map(|lines| lines.concat())]
}

/// Frames a body, in right and wrong ways.
fn framed(path: &str, head: &str, body: &[u8], way: usize) -> Vec<u8> {
    let length = body.len();
    let chunked = |size: &str, end: &str| {
        let body = [size.as_bytes(), b"\r\n", body, b"\r\n", end.as_bytes()].concat();
        request(path, &format!("{head}transfer-encoding: chunked\r\n"), &body)
    };
    let sized = |length: &str| request(path, &format!("{head}content-length: {length}\r\n"), body);
    match way {
        0..10 => sized(&length.to_string()),
        10..16 => chunked(&format!("{length:x}"), "0\r\n\r\n"),
        16 => sized(&(length + 1_000).to_string()),
        17 => sized(&(length / 2).to_string()),
        18 => sized("18446744073709551616"),
        19 => sized("-1"),
        20 => sized("1, 2"),
        21 => sized(&format!("{length}\r\ncontent-length: {}", length + 1)),
        22 => sized(&format!("{length}\r\ntransfer-encoding: chunked")),
        23 => chunked("ffffffffffffffff1", "0\r\n\r\n"),
        24 => chunked("zz", "0\r\n\r\n"),
        25 => chunked(&format!("{:x}", length + 9), ""),
        26 => chunked(&format!("{length:x};extension=\"{}\"", "e".repeat(9_000)), "0\r\ntrailer: x\r\n\r\n"),
        _ => request(path, head, body),
    }
}

pub(super) fn connections() -> impl Strategy<Value = Connection> {
    let path = prop_oneof![6 => Just(QUEUE), 2 => Just(TIMER), 1 => Just("nothing_of_this_name")];
    let request =
        (path, heads(), bodies(), 0..28_usize).prop_map(|(path, head, body, way)| framed(path, &head, &body, way));
    let lines = vec![
        "GET / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
        "POST",
        "\r\n\r\n",
    ];
    let line = select(lines).prop_map(|line| line.as_bytes().to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let part = prop_oneof![8 => request, 1 => line, 1 => noise];
    // More than one is a pipeline.
    let parts = prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat());
    (parts, select(vec![1_usize << 30, 4_096, 100]), prop::bool::weighted(0.25))
        .prop_map(|(bytes, piece, is_cut)| Connection { bytes, piece, is_cut })
}
