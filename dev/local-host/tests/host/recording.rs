//! The recordings of the handler for the tests: every request as it came, and every start of its own.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
};

use serde::{Deserialize, Serialize};

pub(crate) const REQUESTS: &str = "requests.jsonl";
pub(crate) const STARTS: &str = "starts.jsonl";

/// A request as it came.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Request {
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One life of the handler.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Start {
    pub(crate) process: u32,
    pub(crate) folder: String,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Request {
    /// Returns the path, such as `/orders`.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns the headers, sorted.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut headers: Vec<_> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.sort();
        headers
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<String> {
        self.headers().into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Appends a line in one write.
pub(crate) fn record(file: &str, entry: &impl Serialize) {
    let line = serde_json::to_string(entry).unwrap() + "\n";
    let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// Reads the recordings, except a line that is being written.
pub(crate) fn recorded<T: for<'a> Deserialize<'a>>(file: &str) -> Vec<T> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
