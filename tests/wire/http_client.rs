//! The HTTP client over real sockets: time limits, reuse, and what is known after a failure.

use azure_core::{HttpClient, Method, Request, Url};
use handler::storage::{
    Account, Error, Queue,
    http_client::{PooledClient, TimeLimits},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Behaviour of a server.
#[derive(Clone, Copy)]
enum Behaviour {
    Answer(&'static str),
    AnswerAndHangUp(&'static str),
    NeverAnswer,
}

/// A server for one test; counts its connections.
async fn server(behaviour: Behaviour) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(socket, behaviour));
        }
    });
    (url, connections)
}

async fn serve(mut socket: TcpStream, behaviour: Behaviour) {
    let mut request = [0; 4096];
    while socket.read(&mut request).await.is_ok_and(|read| read > 0) {
        match behaviour {
            Behaviour::Answer(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
            Behaviour::AnswerAndHangUp(answer) => return socket.write_all(answer.as_bytes()).await.unwrap(),
            Behaviour::NeverAnswer => {}
        }
    }
}

fn impatient() -> PooledClient {
    let request = Duration::from_millis(300);
    PooledClient::with_limits(TimeLimits {
        connect: request,
        request,
        query: request,
        put_back: request,
        idle: Duration::from_secs(4),
    })
}

fn patient() -> PooledClient {
    PooledClient::new(true)
}

/// For answers of megabytes on a busy machine.
fn unhurried() -> PooledClient {
    let long = Duration::from_secs(60);
    PooledClient::with_limits(TimeLimits { connect: long, request: long, query: long, put_back: long, idle: long })
}

async fn get(connection: &PooledClient, url: &Url) -> Result<(u16, String), Error> {
    let response = connection.execute_request(&Request::new(url.clone(), Method::Get)).await?;
    let (status, _, body) = response.deconstruct();
    Ok((status.into(), body.collect_string().await?))
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (url, connections) = server(Behaviour::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let connection = patient();
    for _ in 0..20 {
        assert_eq!(get(&connection, &url).await, Ok((200, "ok".to_owned())));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let (url, connections) = server(Behaviour::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let (idle, long) = (Duration::from_millis(100), Duration::from_secs(60));
    let connection =
        PooledClient::with_limits(TimeLimits { connect: long, request: long, query: long, put_back: long, idle });
    assert_eq!(get(&connection, &url).await, Ok((200, "ok".to_owned())));
    tokio::time::sleep(idle * 2).await;
    assert_eq!(get(&connection, &url).await, Ok((200, "ok".to_owned())));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_without_a_body_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/a", listener.local_addr().unwrap());
    let account = format!("AccountName=shop;AccountKey=a2V5;TableEndpoint={endpoint};QueueEndpoint={endpoint}");
    let queue = Queue::new(&Account::from_connection_string(&account).unwrap(), "order-events", Arc::new(patient()));
    let put = tokio::spawn(async move { queue.put("{}").await });
    let (mut socket, _) = listener.accept().await.unwrap();
    let missing = "<Error><Code>QueueNotFound</Code></Error>";
    let mut request = vec![0; 4096];
    assert!(socket.read(&mut request).await.unwrap() > 0);
    let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{missing}", missing.len());
    socket.write_all(answer.as_bytes()).await.unwrap();
    let read = socket.read(&mut request).await.unwrap();
    let create = String::from_utf8_lossy(&request[..read]).to_lowercase();
    assert!(create.starts_with("put /a/order-events http/1.1\r\n"), "{create}");
    assert!(create.contains("\r\ncontent-length: 0\r\n"), "real Azure answers 411 without it: {create}");
    drop(put);
}

#[tokio::test]
async fn a_refused_connection_is_known_not_to_be_applied() {
    let url = format!("http://127.0.0.1:{}/", test_storage::free_port().unwrap()).parse().unwrap();
    let error = get(&patient(), &url).await.unwrap_err();
    let Error::NotSent(cause) = &error else { panic!("{error:?}") };
    assert!(cause.to_lowercase().contains("connection refused"), "the innermost cause: {cause}");
    assert!(!error.may_be_applied());
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for() {
    let (url, _) = server(Behaviour::NeverAnswer).await;
    let error = get(&impatient(), &url).await.unwrap_err();
    assert_eq!(error, Error::Unanswered("time limit reached".to_owned()));
}

#[tokio::test]
async fn a_query_has_a_time_limit_of_its_own() {
    let (url, _) = server(Behaviour::NeverAnswer).await;
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(3600));
    let patience = Duration::from_secs(30);
    let limits = TimeLimits { connect: long, request: long, query: short, put_back: long, idle: long };
    let query = url.join("/account/idempotency()?%24filter=RowKey+ge+%27record%7E%27").unwrap();
    let error = timeout(patience, get(&PooledClient::with_limits(limits), &query)).await.unwrap().unwrap_err();
    assert_eq!(error, Error::Unanswered("time limit reached".to_owned()));
    let limits = TimeLimits { request: short, query: long, ..limits };
    let row = url.join("/account/idempotency(PartitionKey='bucket~00',RowKey='record~0')").unwrap();
    let error = timeout(patience, get(&PooledClient::with_limits(limits), &row)).await.unwrap().unwrap_err();
    assert_eq!(error, Error::Unanswered("time limit reached".to_owned()));
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_no_answer() {
    for behaviour in [
        Behaviour::Answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        Behaviour::AnswerAndHangUp("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        Behaviour::AnswerAndHangUp("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    ] {
        let (url, _) = server(behaviour).await;
        let error = get(&impatient(), &url).await.unwrap_err();
        assert!(matches!(error, Error::Unanswered(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_may_have_been_applied() {
    let (url, _) = server(Behaviour::AnswerAndHangUp("")).await;
    let error = get(&patient(), &url).await.unwrap_err();
    assert!(error.may_be_applied() && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_may_have_been_applied() {
    let (url, _) = server(Behaviour::AnswerAndHangUp("220 smtp.example.com ESMTP\r\n")).await;
    let error = get(&patient(), &url).await.unwrap_err();
    assert!(error.may_be_applied() && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_status_that_no_specification_knows_is_an_error_and_no_panic() {
    let (url, _) = server(Behaviour::Answer("HTTP/1.1 599 Strange\r\ncontent-length: 0\r\n\r\n")).await;
    let error = get(&patient(), &url).await.unwrap_err();
    assert_eq!(error, Error::Garbled("status 599".to_owned()));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
        while socket.write_all(&[b'x'; 65_536]).await.is_ok() {}
    });
    let error = get(&unhurried(), &url).await.unwrap_err();
    assert!(matches!(&error, Error::Garbled(text) if text.starts_with("more than")), "{error:?}");
}

#[tokio::test]
async fn the_largest_page_is_read_whole() {
    let page = "x".repeat(4 * 1024 * 1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    let (url, _) = server(Behaviour::Answer(answer.leak())).await;
    assert!(get(&unhurried(), &url).await == Ok((200, page)));
}

#[tokio::test]
async fn redirects_are_not_followed_and_errors_hold_no_url() {
    let (url, connections) =
        server(Behaviour::Answer("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(get(&patient(), &url).await, Ok((302, String::new())));
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    let unreachable: Url = "http://127.0.0.1:1/account?sig=s3cret".parse().unwrap();
    let error = get(&patient(), &unreachable).await.unwrap_err().to_string();
    assert!(!error.contains("s3cret") && !error.contains("account"), "{error}");
}
