//! Answers as the Table service gives them: no `x-ms-error-code`, the code in the body, the index of a refused
//! operation in the text of its message.

use crate::scripted::Answer;

/// The version of an entity.
pub(crate) const ETAG: &str = "W/\"datetime'2026-11-21T10%3A20%3A00.1234567Z'\"";

const BATCH: &str = "batchresponse_8e3a0c3c-0a1f-4d3f-8f0e-5a8f6a3a7b11";
const CHANGE_SET: &str = "changesetresponse_2f6f4c11-6e0a-4a6e-9d6b-0f1f7a0a9c22";

/// The answer to a batch, with these answers to its operations.
pub(crate) fn batch(parts: &[String]) -> Answer {
    let mut body = format!("--{BATCH}\r\nContent-Type: multipart/mixed; boundary={CHANGE_SET}\r\n\r\n");
    for part in parts {
        body += &format!(
            "--{CHANGE_SET}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{part}\r\n"
        );
    }
    body += &format!("--{CHANGE_SET}--\r\n--{BATCH}--\r\n");
    Answer::new(202, &body)
        .header("content-type", &format!("multipart/mixed; boundary={BATCH}"))
        .header("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0")
        .header("date", "Sat, 21 Nov 2026 10:20:00 GMT")
        .header("x-ms-version", "2022-11-02")
        .header("x-ms-request-id", "6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90")
}

/// One inserted entity, in a batch: the client asks for no `Prefer`, so the service sends the whole entity back.
pub(crate) fn inserted() -> String {
    let entity = "https://shop.table.core.windows.net/idempotency(PartitionKey='bucket~00',RowKey='record~0')";
    let body = serde_json::json!({
        "odata.metadata": "https://shop.table.core.windows.net/$metadata#idempotency/@Element",
        "odata.etag": ETAG,
        "PartitionKey": "bucket~00",
        "RowKey": "record~0",
        "receipt": "Location: x, ETag: y, HTTP/1.1 500",
    });
    format!(
        "HTTP/1.1 201 Created\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\
         Content-Type: application/json;odata=fullmetadata;streaming=true;charset=utf-8\r\nDataServiceVersion: 3.0;\r\n\
         Location: {entity}\r\nETag: {ETAG}\r\n\r\n{body}\r\n"
    )
}

/// The one refused operation of a batch: the answers to the others are left out.
pub(crate) fn refused_operation(status: &str, index: usize, code: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n\r\n{}\r\n",
        odata(code, &format!("{index}:"))
    )
}

/// A request that was refused as a whole.
pub(crate) fn refused(status: u16, code: &str) -> Answer {
    Answer::new(status, &odata(code, ""))
        .header("content-type", "application/json;odata=fullmetadata;streaming=true;charset=utf-8")
        .header("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0")
}

/// One entity.
pub(crate) fn entity(properties: &serde_json::Value) -> Answer {
    let mut body =
        serde_json::json!({ "odata.metadata": "https://shop.table.core.windows.net/$metadata#idempotency/@Element" });
    body.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    Answer::new(200, &body.to_string())
        .header("content-type", "application/json;odata=fullmetadata;streaming=true;charset=utf-8")
        .header("etag", "W/\"datetime'2026-11-21T10%3A20%3A00.1234567Z'\"")
        .header("server", "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0")
        .header("date", "Sat, 21 Nov 2026 10:20:00 GMT")
        .header("x-ms-version", "2022-11-02")
        .header("x-ms-request-id", "6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90")
}

fn odata(code: &str, index: &str) -> String {
    serde_json::json!({
        "odata.error": {
            "code": code,
            "message": {
                "lang": "en-US",
                "value": format!("{index}What it means.\nRequestId:6d3b3a4e-8c1f-4c55-9d6e-0f2c8b7d1a90\nTime:2026-11-21T10:20:00.1234567Z"),
            },
        },
    })
    .to_string()
}
