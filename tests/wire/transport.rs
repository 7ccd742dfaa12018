//! Honest answers and strict requests: the traps of the client, one test each.

use crate::{
    azure,
    scripted::{Answer, Script, Step},
};
use futures::StreamExt;
use handler::storage::{Error, RowTag, Table, table::Pages};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize)]
struct Row {
    #[serde(rename = "PartitionKey")]
    partition_key: &'static str,
    #[serde(rename = "RowKey")]
    row_key: String,
    text: &'static str,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Read {
    text: String,
}

fn rows(count: usize) -> Vec<Row> {
    (0..count).map(|n| Row { partition_key: "bucket~00", row_key: format!("record~{n}"), text: "Zoë" }).collect()
}

async fn insert(count: usize, answer: impl Into<Step>) -> Result<Vec<Option<String>>, Error> {
    Script::new([answer.into()]).table().insert_all(&rows(count)).await
}

async fn get(answer: impl Into<Step>) -> Result<Option<Read>, Error> {
    Script::new([answer.into()]).table().get("bucket~00", "record~0").await
}

fn refused(status: u16, code: &str, operation: Option<usize>) -> Error {
    Error::Refused { status, code: code.to_owned(), operation, retry_after: None }
}

#[track_caller]
fn check_garbled<T: std::fmt::Debug>(result: Result<T, Error>, what: &str) {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Garbled(text) if text.contains(what)), "{error:?}");
    assert!(error.may_be_applied());
}

#[tokio::test]
async fn a_batch_whose_operations_all_succeeded_is_a_success() {
    let etag = || Some(azure::ETAG.to_owned());
    assert_eq!(insert(1, azure::batch(&[azure::inserted()])).await, Ok(vec![etag()]));
    let three = azure::batch(&[azure::inserted(), azure::inserted(), azure::inserted()]);
    assert_eq!(insert(3, three).await, Ok(vec![etag(), etag(), etag()]));
}

#[tokio::test]
async fn a_refused_operation_inside_a_202_is_an_error_with_code_and_index() {
    let conflict = azure::batch(&[azure::refused_operation("409 Conflict", 0, "EntityAlreadyExists")]);
    assert_eq!(insert(3, conflict).await, Err(refused(409, "EntityAlreadyExists", Some(0))));
    let stale = azure::batch(&[azure::refused_operation("412 Precondition Failed", 2, "UpdateConditionNotSatisfied")]);
    assert_eq!(insert(3, stale).await, Err(refused(412, "UpdateConditionNotSatisfied", Some(2))));
    let redirected = azure::batch(&[azure::refused_operation("302 Found", 0, "Moved")]);
    assert_eq!(insert(1, redirected).await, Err(refused(302, "Moved", Some(0))));
    let missing = azure::batch(&[azure::refused_operation("404 Not Found", 0, "TableNotFound")]);
    assert!(insert(1, missing).await.unwrap_err().is_table_missing());
}

#[tokio::test]
async fn a_batch_answer_that_does_not_account_for_every_operation_is_no_success() {
    let content_type = ["content-type"];
    check_garbled(insert(1, azure::batch(&[azure::inserted()]).with_body(|_| String::new())).await, "truncated");
    check_garbled(insert(1, azure::batch(&[azure::inserted()]).with_body(|_| "ok".to_owned())).await, "truncated");
    check_garbled(insert(1, azure::batch(&[])).await, "0 of 1");
    check_garbled(insert(2, azure::batch(&[azure::inserted()])).await, "1 of 2");
    check_garbled(insert(1, azure::batch(&[azure::inserted(), azure::inserted()])).await, "2 of 1");
    let cut = azure::batch(&[azure::inserted()]).with_body(|body| body[..body.len() - 20].to_owned());
    check_garbled(insert(1, cut.without_headers(&content_type)).await, "truncated");
    check_garbled(insert(1, Answer::new(202, "")).await, "no boundary");
}

#[tokio::test]
async fn an_error_code_is_found_where_real_azure_puts_it() {
    let json = azure::refused(404, "ResourceNotFound");
    assert_eq!(get(json).await, Ok(None));
    assert_eq!(get(azure::refused(404, "TableNotFound")).await, Err(refused(404, "TableNotFound", None)));
    let header = Answer::new(404, "").header("x-ms-error-code", "ResourceNotFound");
    assert_eq!(get(header).await, Ok(None));
    let both = azure::refused(404, "InBody").header("x-ms-error-code", "ResourceNotFound");
    assert_eq!(get(both).await, Ok(None), "the header is the service's own word");
    let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><m:error xmlns:m=\"http://schemas.microsoft.com/ado/2007/08/dataservices/metadata\">\
               <m:code>ResourceNotFound</m:code><m:message xml:lang=\"en-US\">The specified resource does not exist.</m:message></m:error>";
    assert_eq!(get(Answer::new(404, xml).header("content-type", "application/xml")).await, Ok(None));
    let xml = "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Server failed</Message></Error>";
    assert_eq!(
        get(Answer::new(403, xml).header("content-type", "application/xml")).await,
        Err(refused(403, "AuthenticationFailed", None))
    );
}

#[tokio::test]
async fn a_404_that_does_not_say_what_is_missing_is_not_taken_for_an_absent_record() {
    let endless = format!("<Code>{}</Code>", "x".repeat(65));
    for body in
        ["", "<html>not found</html>", "{}", "<Code><script>alert(1)</script></Code>", "<Code>a b</Code>", &endless]
    {
        assert_eq!(get(Answer::new(404, body)).await, Err(refused(404, "", None)), "{body}");
    }
}

#[tokio::test]
async fn an_applied_write_is_a_success_even_when_the_answer_lacks_headers_the_client_wants() {
    let bare = azure::batch(&[azure::inserted()]).without_headers(&["content-type"]);
    assert!(insert(1, bare).await.is_ok());
    let strange =
        azure::batch(&[azure::inserted()]).without_headers(&["content-type"]).header("x-ms-request-id", "no uuid");
    assert!(insert(1, strange).await.is_ok());
    let entity = azure::entity(&serde_json::json!({ "text": "Zoë" })).without_headers(&["etag"]);
    assert_eq!(get(entity).await, Ok(Some(Read { text: "Zoë".to_owned() })));
}

#[tokio::test]
async fn an_answer_that_is_no_entity_is_an_error() {
    check_garbled(get(Answer::new(200, "").header("etag", "e")).await, "client");
    check_garbled(get(azure::entity(&serde_json::json!({ "text": 4111 }))).await, "client");
    let error = get(azure::entity(&serde_json::json!({ "text": 4111 }))).await.unwrap_err();
    assert!(!error.to_string().contains("4111"), "{error}");
    check_garbled(get(azure::entity(&serde_json::json!({ "other": "Zoë" }))).await, "client");
}

#[tokio::test]
async fn nothing_is_repeated_by_the_client_itself() {
    for answer in [azure::refused(500, "InternalError"), azure::refused(503, "ServerBusy")] {
        let script = Script::new([answer.into()]);
        let error = script.table().insert_all(&rows(1)).await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(script.kinds(), ["batch"]);
    }
    let script = Script::new([Step::Lost]);
    let error = script.table().insert_all(&rows(1)).await.unwrap_err();
    assert_eq!((error.may_be_applied(), script.kinds()), (true, vec!["batch"]));
}

#[tokio::test]
async fn the_pause_that_the_service_asks_for_is_read() {
    for (name, value, expected) in [
        ("retry-after", "30", Some(Duration::from_secs(30))),
        ("x-ms-retry-after-ms", "1500", Some(Duration::from_millis(1500))),
        ("retry-after", "Sat, 21 Nov 2026 10:20:00 GMT", None),
        ("retry-after", "-1", None),
    ] {
        let error = get(azure::refused(503, "ServerBusy").header(name, value)).await.unwrap_err();
        assert_eq!(error.retry_after(), expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_error() {
    let redirect = Answer::new(302, "").header("location", "https://elsewhere.example/");
    assert_eq!(get(redirect).await, Err(refused(302, "", None)));
}

#[tokio::test]
async fn a_batch_is_sent_with_strict_line_ends_a_closing_delimiter_and_a_signature() {
    let script = Script::new([azure::batch(&[azure::inserted(), azure::inserted()]).into()]);
    let rows = [
        Row {
            partition_key: "bucket~00",
            row_key: "record~0".to_owned(),
            text: "line\nbreaks\u{2028}of\u{2029}all kinds",
        },
        Row { partition_key: "bucket~00", row_key: "record~1".to_owned(), text: "--batch_x--" },
    ];
    script.table().insert_all(&rows).await.unwrap();

    let request = &script.received()[0];
    assert_eq!(request.body.matches('\n').count(), request.body.matches("\r\n").count(), "{}", request.body);
    assert!(!request.body.contains(['\u{2028}', '\u{2029}']));
    assert!(request.body.contains(r"line\nbreaks\u2028of\u2029all kinds"), "{}", request.body);
    let content_type = request.headers.iter().find(|(name, _)| name == "content-type").unwrap().1.clone();
    let boundary = content_type.split_once("boundary=").unwrap().1;
    assert!(request.body.starts_with(&format!("--{boundary}\r\n")));
    assert!(request.body.ends_with(&format!("--{boundary}--\r\n")));
    let authorization = request.headers.iter().find(|(name, _)| name == "authorization").unwrap().1.clone();
    assert!(authorization.starts_with("SharedKey shop:"), "{authorization}");
}

#[tokio::test]
async fn creating_a_table_that_is_there_is_a_success_and_one_that_is_being_deleted_is_not() {
    assert_eq!(Script::new([azure::refused(409, "TableAlreadyExists").into()]).table().create().await, Ok(()));
    let error = Script::new([azure::refused(409, "TableBeingDeleted").into()]).table().create().await.unwrap_err();
    assert!(error.is_transient() && !error.is_conflict());
}

#[tokio::test]
async fn rows_are_listed_page_by_page_as_long_as_the_service_goes_on() {
    let page = |rows: &[&str]| {
        let value: Vec<_> =
            rows.iter().map(|row| serde_json::json!({ "RowKey": row, "odata.etag": format!("W/\"{row}\"") })).collect();
        azure::entity(&serde_json::json!({ "value": value }))
    };
    let more = |answer: Answer| {
        answer
            .header("x-ms-continuation-nextpartitionkey", "1!8!YnVja2V0")
            .header("x-ms-continuation-nextrowkey", "1!8!cmVjb3Jk")
    };
    let script =
        Script::new([more(page(&["record~1"])).into(), more(page(&[])).into(), page(&["record~2", "record~3"]).into()]);
    let table = script.table();
    let counts: Vec<_> = tags(&table).map(|page| page.unwrap().len()).collect().await;
    assert_eq!(counts, [1, 0, 2]);
    assert!(script.received()[1].url.contains("NextPartitionKey=1%218%21YnVja2V0"), "{}", script.received()[1].url);
}

#[tokio::test]
async fn rows_are_deleted_only_as_they_were_seen() {
    let listed = serde_json::json!({ "value": [{ "RowKey": "record~1", "odata.etag": "W/\"datetime'1'\"" }] });
    let script = Script::new([
        azure::entity(&listed).into(),
        azure::batch(&[azure::inserted(), azure::inserted()]).into(),
        azure::entity(&serde_json::json!({})).into(),
    ]);
    let table = script.table();
    let page = tags(&table).next().await.unwrap().unwrap();
    table.delete_all("bucket~00", &[&page[0], &page[0]]).await.unwrap();
    let body = &script.received()[1].body;
    assert!(
        body.contains(
            "DELETE https://shop.table.core.windows.net/idempotency(PartitionKey='bucket~00',RowKey='record~1')"
        ),
        "{body}"
    );
    assert!(body.contains("if-match: W/\"datetime'1'\"\r\n") && !body.contains("if-match: *"), "{body}");

    table.delete_all("bucket~00", &[&page[0]]).await.unwrap();
    let single = &script.received()[2];
    assert_eq!(single.method, "DELETE");
    assert!(single.headers.contains(&("if-match".to_owned(), "W/\"datetime'1'\"".to_owned())), "{single:?}");
}

fn tags(table: &Table) -> Pages<'_, RowTag> {
    table.query("PartitionKey eq 'bucket~00'".to_owned(), "RowKey")
}

#[tokio::test]
async fn a_message_is_put_signed_escaped_and_without_an_end_of_life() {
    let script = Script::new([Answer::new(201, "").into()]);
    script.events().queue.put(r#"{"note":"<&>\r"}"#).await.unwrap();
    let request = &script.received()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.url, "https://shop.queue.core.windows.net/order-events/messages?messagettl=-1");
    assert_eq!(request.body, r#"<QueueMessage><MessageText>{"note":"&lt;&amp;&gt;\r"}</MessageText></QueueMessage>"#);
    let authorization = request.headers.iter().find(|(name, _)| name == "authorization").unwrap();
    assert!(authorization.1.starts_with("SharedKey shop:"));
}

#[tokio::test]
async fn a_missing_queue_is_created_and_the_message_put_again() {
    let script =
        Script::new([queue_error(404, "QueueNotFound"), Answer::new(201, "").into(), Answer::new(201, "").into()]);
    script.events().queue.put("{}").await.unwrap();
    let requests: Vec<_> =
        script.received().into_iter().map(|request| format!("{} {}", request.method, request.url)).collect();
    let put = "POST https://shop.queue.core.windows.net/order-events/messages?messagettl=-1";
    assert_eq!(requests, [put, "PUT https://shop.queue.core.windows.net/order-events", put]);
}

fn queue_error(status: u16, code: &str) -> Step {
    Answer::new(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>")).into()
}

#[tokio::test]
async fn a_queue_that_somebody_else_creates_meanwhile_is_used() {
    let steps =
        [queue_error(404, "QueueNotFound"), queue_error(409, "QueueAlreadyExists"), Answer::new(201, "").into()];
    let script = Script::new(steps);
    script.events().queue.put("{}").await.unwrap();
    assert_eq!(script.received().len(), 3);
}

#[tokio::test]
async fn a_queue_that_cannot_be_created_is_the_error() {
    for (status, code) in [(409, "QueueBeingDeleted"), (403, "AuthorizationPermissionMismatch")] {
        let script = Script::new([queue_error(404, "QueueNotFound"), queue_error(status, code)]);
        let error = script.events().queue.put("{}").await.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[tokio::test]
async fn a_message_that_was_refused_is_an_error() {
    let error = Script::new([azure::refused(503, "ServerBusy").into()]).events().queue.put("{}").await.unwrap_err();
    assert!(error.is_transient() && !error.may_be_applied());
}
