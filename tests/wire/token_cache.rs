//! When a token is asked for, by whom, and what is done without one: over answers of Entra ID, in which a token has the
//! seconds it still lives.

use crate::scripted::{Answer, Script, Step};
use async_trait::async_trait;
use azure_core::auth::TokenCredential;
use azure_core_1::{
    credentials::Secret,
    http::{AsyncRawResponse, HttpClient, Request},
};
use futures::future::join_all;
use handler::{
    connection::{Identity, TokenCache},
    storage::Error,
};
use std::{cell::Cell, sync::Arc, time::Duration};
use time::OffsetDateTime;

thread_local! {
    /// Time since the test began.
    static PASSED: Cell<time::Duration> = const { Cell::new(time::Duration::ZERO) };
}

#[expect(clippy::disallowed_methods, reason = "`azure_identity` reads the clock too: both must tell the same day")]
fn clock() -> OffsetDateTime {
    OffsetDateTime::now_utc() + PASSED.get()
}

/// An endpoint that takes a second to answer.
#[derive(Debug)]
struct Slow(Arc<Script>);

#[async_trait]
impl HttpClient for Slow {
    async fn execute_request(&self, request: &Request) -> azure_core_1::Result<AsyncRawResponse> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.execute_request(request).await
    }
}

fn service_principal() -> Identity {
    Identity::ServicePrincipal {
        tenant_id: "contoso.onmicrosoft.com".to_owned(),
        client_id: "5d1a3f5e-client".to_owned(),
        secret: Secret::new("p&ssword"),
    }
}

fn tokens(steps: impl IntoIterator<Item = Step>) -> (TokenCache, Arc<Script>) {
    tokens_of(&service_principal(), steps)
}

fn tokens_of(identity: &Identity, steps: impl IntoIterator<Item = Step>) -> (TokenCache, Arc<Script>) {
    let script = Script::new(steps);
    (TokenCache::new(identity, Arc::new(Slow(script.clone())), clock).unwrap(), script)
}

fn token(name: &str, seconds: u32) -> Step {
    let body = serde_json::json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": name });
    Answer::new(200, &body.to_string()).into()
}

fn failure(status: u16) -> Step {
    Answer::new(status, "").into()
}

async fn get(tokens: &TokenCache) -> Result<String, Error> {
    let token = tokens.get_token(&["https://storage.azure.com/.default"]).await;
    Ok(token.map_err(Error::from)?.token.secret().to_owned())
}

/// Counts the answers to ten callers at the same time.
async fn ten(tokens: &TokenCache) -> Vec<Result<String, Error>> {
    join_all((0..10).map(|_| get(tokens))).await
}

fn ten_times(name: &str) -> Vec<Result<String, Error>> {
    vec![Ok(name.to_owned()); 10]
}

#[tokio::test(start_paused = true)]
async fn a_service_principal_asks_entra_id_for_the_scope_of_the_storage_services() {
    let (tokens, script) = tokens([token("one", 3600)]);
    assert_eq!(get(&tokens).await, Ok("one".to_owned()));
    let request = &script.received()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.url, "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token");
    let form = "client_id=5d1a3f5e-client&client_secret=p%26ssword&grant_type=client_credentials\
                &scope=https%3A%2F%2Fstorage.azure.com%2F.default";
    assert_eq!(request.body, form);
}

/// No platform sets `IDENTITY_ENDPOINT` here, as on a virtual machine. There the crate would repeat for 72 s.
#[tokio::test(start_paused = true)]
async fn outside_app_service_the_managed_identity_is_that_of_the_virtual_machine_and_asked_for_once() {
    let identity = Identity::Managed { client_id: Some("5d1a3f5e-client".to_owned()) };
    for status in [404, 410, 429, 500] {
        let (tokens, script) = tokens_of(&identity, [failure(status)]);
        assert!(get(&tokens).await.unwrap_err().is_transient());
        let [request] = &script.received()[..] else { panic!("{:?}", script.received()) };
        let query = "api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com&client_id=5d1a3f5e-client";
        assert_eq!(request.url, format!("http://169.254.169.254/metadata/identity/oauth2/token?{query}"));
        assert!(request.headers.contains(&("metadata".to_owned(), "true".to_owned())), "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_and_kept() {
    let (tokens, script) = tokens([token("one", 3600)]);
    assert_eq!(ten(&tokens).await, ten_times("one"));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(ten(&tokens).await, ten_times("one"));
    assert_eq!(script.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_exchange_and_its_failure() {
    let (tokens, script) = tokens([failure(503), token("one", 3600)]);
    for result in ten(&tokens).await {
        assert!(result.unwrap_err().is_transient());
    }
    assert_eq!(script.received().len(), 1);
    assert_eq!(ten(&tokens).await, ten_times("one"));
    assert_eq!(script.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires_while_the_others_go_on_with_the_old_one() {
    let (tokens, script) = tokens([token("old", 290), token("new", 3600)]);
    assert_eq!(ten(&tokens).await, ten_times("old"));
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(ten(&tokens).await, ten_times("old"), "one exchange in a while is enough");
    assert_eq!(script.received().len(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut names: Vec<_> = ten(&tokens).await.into_iter().map(Result::unwrap).collect();
    names.sort();
    assert_eq!((names[0].as_str(), &names[1..]), ("new", &vec!["old".to_owned(); 9][..]));
    assert_eq!(ten(&tokens).await, ten_times("new"));
    assert_eq!(script.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_waits_while_a_token_is_renewed() {
    let (tokens, _) = tokens([token("old", 290), token("new", 3600)]);
    assert_eq!(get(&tokens).await, Ok("old".to_owned()));
    tokio::time::advance(Duration::from_secs(30)).await;
    let other = tokio::time::timeout(Duration::from_millis(500), get(&tokens));
    let (renewed, other) = tokio::join!(get(&tokens), other);
    assert_eq!((renewed, other), (Ok("new".to_owned()), Ok(Ok("old".to_owned()))));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_still_good_is_used_when_it_cannot_be_renewed() {
    for failure in [failure(500), failure(400), Step::Lost, Step::NotSent] {
        let (tokens, script) = tokens([token("old", 290), failure.clone(), failure, token("new", 3600)]);
        assert_eq!(get(&tokens).await, Ok("old".to_owned()));
        for renewals in 1..=2 {
            tokio::time::advance(Duration::from_secs(31)).await;
            assert_eq!(ten(&tokens).await, ten_times("old"));
            assert_eq!(ten(&tokens).await, ten_times("old"));
            assert_eq!(script.received().len(), 1 + renewals);
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(get(&tokens).await, Ok("new".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_used() {
    let (tokens, script) = tokens([token("old", 290), failure(500), token("new", 3600)]);
    assert_eq!(get(&tokens).await, Ok("old".to_owned()));
    PASSED.set(time::Duration::seconds(291));
    assert!(get(&tokens).await.unwrap_err().is_transient());
    assert_eq!(get(&tokens).await, Ok("new".to_owned()));
    assert_eq!(script.received().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_while_its_renewal_fails_is_not_used() {
    let (tokens, script) = tokens([token("old", 290), failure(500)]);
    assert_eq!(get(&tokens).await, Ok("old".to_owned()));
    tokio::time::advance(Duration::from_secs(31)).await;
    let (result, ()) = tokio::join!(get(&tokens), async { PASSED.set(time::Duration::seconds(291)) });
    assert!(result.unwrap_err().is_transient());
    assert_eq!(script.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_leave_a_dead_exchange_behind() {
    let (tokens, script) = tokens([token("one", 3600)]);
    let short = Duration::from_millis(500);
    assert!(tokio::time::timeout(short, get(&tokens)).await.is_err());
    assert_eq!(script.received().len(), 0);
    assert_eq!(get(&tokens).await, Ok("one".to_owned()));
    // Others that wait for the same exchange are not disturbed either.
    let (tokens, script) = self::tokens([token("two", 3600)]);
    let (gone, there) = tokio::join!(tokio::time::timeout(short, get(&tokens)), get(&tokens));
    assert_eq!((gone.is_err(), there), (true, Ok("two".to_owned())));
    assert_eq!(script.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_is_transient_and_a_refused_identity_is_not() {
    for (status, is_transient) in [
        (404, true),
        (408, true),
        (410, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (302, false),
        (400, false),
        (401, false),
        (403, false),
    ] {
        let error = get(&tokens([failure(status)]).0).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{status}");
        assert!(!error.may_be_applied());
        assert!(error.to_string().contains(&format!("the identity endpoint answered {status}")), "{error}");
    }
    for step in [Step::Lost, Step::NotSent] {
        let error = get(&tokens([step]).0).await.unwrap_err();
        assert!(error.is_transient() && !error.may_be_applied(), "{error:?}: the storage was not asked");
    }
    let busy = Answer::new(429, "").header("retry-after", "7").into();
    assert_eq!(get(&tokens([busy]).0).await.unwrap_err().retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why_and_which_settings_to_look_at() {
    let body = serde_json::json!({
        "error": "invalid_client",
        "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1f0a\r\nTimestamp: 2026-11-21",
    });
    let error = get(&tokens([Answer::new(401, &body.to_string()).into()]).0).await.unwrap_err().to_string();
    assert!(error.contains("401: AADSTS7000215: Invalid client secret provided."), "{error}");
    assert!(error.contains("AzureWebJobsStorage__credential and AzureWebJobsStorage__clientId"), "{error}");
    assert!(!error.contains(['\r', '\n']), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_token_is_transient_and_not_repeated_in_the_error() {
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"access_token":"s3cret\r\nx-ms-version: 1","expires_in":3600,"token_type":"Bearer"}"#,
        r#"{"access_token":"s3cret""#,
        r#"{"access_token":{"s3cret":1},"expires_in":3600,"token_type":"Bearer"}"#,
        r#"{"access_token":"s3cret","expires_in":"s3cret"}"#,
    ] {
        let error = get(&tokens([Answer::new(200, body).into()]).0).await.unwrap_err();
        assert!(error.is_transient(), "{body}: {error}");
        assert!(!format!("{error}{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn debug_output_holds_neither_token_nor_password() {
    let (tokens, _) = tokens([token("s3cret", 3600)]);
    get(&tokens).await.unwrap();
    let printed = format!("{tokens:?} {:?}", service_principal());
    assert!(printed.contains("contoso"), "{printed}");
    assert!(!printed.contains("s3cret") && !printed.contains("p&ssword"), "{printed}");
}
