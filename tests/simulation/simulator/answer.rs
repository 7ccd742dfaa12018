//! What the simulated service answers, in the forms of the Table and the Queue service.

use serde_json::json;

/// An answer: status, headers, body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// Why an operation is refused.
pub(crate) type Refusal = (u16, &'static str);

impl Answer {
    pub(crate) fn new(status: u16, body: String) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::new(status, String::new())
    }

    /// As the Table service refuses: no code in a header, the index of the operation in the text.
    pub(crate) fn refused((status, code): Refusal, operation: Option<usize>) -> Self {
        let index = operation.map_or_else(String::new, |index| format!("{index}:"));
        let message = json!({ "lang": "en-US", "value": format!("{index}What it means.\nRequestId:0") });
        Self::new(status, json!({ "odata.error": { "code": code, "message": message } }).to_string())
    }

    pub(crate) fn batch(parts: &str) -> Self {
        let body = format!("--batchresponse_1\r\n\r\n{parts}--changesetresponse_1--\r\n--batchresponse_1--\r\n");
        let headers = vec![("content-type", "multipart/mixed; boundary=batchresponse_1".to_owned())];
        Self { status: 202, headers, body }
    }

    /// A transaction of which this operation was refused: nothing was applied.
    pub(crate) fn batch_refused((status, code): Refusal, operation: usize) -> Self {
        let error = Self::refused((status, code), Some(operation)).body;
        Self::batch(&format!("--changesetresponse_1\r\n\r\nHTTP/1.1 {status} Refused\r\n\r\n{error}\r\n"))
    }
}

/// The headers of a page that is not the last: the service may name a partition without a row.
pub(crate) fn continuation((partition_key, row_key): (String, Option<String>)) -> Vec<(&'static str, String)> {
    let row_key = row_key.map(|row_key| ("x-ms-continuation-nextrowkey", row_key));
    std::iter::once(("x-ms-continuation-nextpartitionkey", partition_key)).chain(row_key).collect()
}
