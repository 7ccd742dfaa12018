//! The storage client of the tests, and the proxy that breaks its requests.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use test_storage::{Account, Fault, FaultProxy, Gate, Kind, Service, azurite};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::rig::{LIMIT, until};

#[tokio::test]
async fn the_proxy_counts_requests_and_can_be_closed() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let proxy = FaultProxy::start(&account, Service::Queue).await.unwrap();
    let through = proxy.account(&account);
    through.create_queue("orders").await.unwrap();
    through.put("orders", "one").await.unwrap();
    assert_eq!(proxy.kinds(), [Kind::CreateQueue, Kind::PutMessage]);

    let busy = || Fault::Status(503, vec![("x-ms-error-code", "ServerBusy".to_owned())], String::new());
    proxy.fail_next(1, Kind::PutMessage, busy());
    assert_eq!(through.put("orders", "two").await.unwrap_err().status(), Some(503));
    through.put("orders", "two").await.unwrap();

    proxy.lift();
    proxy.close();
    assert!(through.put("orders", "four").await.is_err());
    proxy.open().await.unwrap();
    through.put("orders", "four").await.unwrap();
}

/// A request that puts a message on a queue, to be sent through a proxy byte by byte.
struct Put {
    account: Account,
    proxy: FaultProxy,
    head: String,
    body: Vec<u8>,
}

/// The answer that a client sees.
#[derive(Debug, PartialEq)]
enum Seen {
    /// An answer with this status.
    Answer(u16),
    /// The end of the connection.
    Close,
    /// A reset.
    Reset,
    /// Not even an end.
    Nothing,
}

impl Put {
    async fn new() -> Self {
        let account = azurite::shared().await.unwrap().account().unwrap();
        let proxy = FaultProxy::start(&account, Service::Queue).await.unwrap();
        let through = proxy.account(&account);
        through.create_queue("orders").await.unwrap();
        through.put("orders", &"an order ".repeat(1_000)).await.unwrap();
        let request = proxy.requests().pop().unwrap();
        let port = through.endpoint(Service::Queue).split([':', '/']).nth(4).unwrap().to_owned();
        let length = request.body.len();
        let head =
            format!("POST {} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {length}\r\n\r\n", request.target);
        account.clear_queue("orders").await.unwrap();
        Self { account, proxy, head, body: request.body.to_vec() }
    }

    async fn connect(&self) -> TcpStream {
        let address = self.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends so much of the body, and reads to the end, or when silence is expected, for a moment.
    async fn send(&self, length: usize, silent: bool) -> (Seen, String, TcpStream) {
        let mut socket = self.connect().await;
        socket.write_all(self.head.as_bytes()).await.unwrap();
        socket.write_all(&self.body[..length]).await.unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1_024]);
        let end = loop {
            let limit = if silent { Duration::from_millis(200) } else { LIMIT };
            match tokio::time::timeout(limit, socket.read(&mut buffer)).await {
                Err(_) => break Seen::Nothing,
                Ok(Ok(0)) => break Seen::Close,
                Ok(Ok(length)) => answer.extend_from_slice(&buffer[..length]),
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => break Seen::Reset,
                Ok(Err(error)) => panic!("{error}"),
            }
            // A whole answer ends without the end of the connection.
            if let Some(status) = whole(&String::from_utf8_lossy(&answer)) {
                break Seen::Answer(status);
            }
        };
        (end, String::from_utf8_lossy(&answer).into_owned(), socket)
    }

    async fn applied(&self) -> u64 {
        self.account.queue_length("orders").await.unwrap()
    }
}

/// Returns the status of an answer that is there from the first byte to the last.
fn whole(answer: &str) -> Option<u16> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or_default();
    (body.len() == length).then(|| head.split(' ').nth(1)?.parse().ok()).flatten()
}

#[tokio::test]
async fn every_fault_is_what_it_is_called() {
    let put = Put::new().await;
    let status = |status| (status, vec![("x-ms-error-code", "ServerBusy".to_owned())], String::new());
    let (busy, failed) = (status(503), status(500));
    let mut instead = put.proxy.requests().pop().unwrap();
    instead.target = instead.target.replace("/orders/", "/nothing-of-this-name/");
    let cases = [
        (Fault::Pass, Seen::Answer(201), 1),
        (Fault::Delay(Duration::from_millis(1)), Seen::Answer(201), 1),
        (Fault::Instead(instead), Seen::Answer(404), 0),
        (Fault::Status(busy.0, busy.1, busy.2), Seen::Answer(503), 0),
        (Fault::FalseReply(failed.0, failed.1, failed.2), Seen::Answer(500), 1),
        (Fault::Reset, Seen::Reset, 0),
        (Fault::CutRequest, Seen::Reset, 0),
        (Fault::DropRequest, Seen::Close, 0),
        (Fault::Garbage, Seen::Close, 0),
        (Fault::Hang, Seen::Nothing, 0),
        (Fault::DropReply, Seen::Close, 1),
        (Fault::CutReply, Seen::Reset, 1),
        (Fault::HangReply, Seen::Nothing, 1),
    ];
    for (fault, expected, applied) in cases {
        let before = put.applied().await;
        put.proxy.fail_all(fault.clone());
        let (seen, answer, _open) = put.send(put.body.len(), expected == Seen::Nothing).await;
        assert_eq!(seen, expected, "{fault:?}: {answer}");
        // Of these two something comes before the end.
        match fault {
            Fault::Garbage => assert!(answer.ends_with("this is not HTTP\r\n\r\n"), "{answer}"),
            Fault::CutReply => assert!(answer.starts_with("HTTP/1.1 201") && answer.contains("<Queue"), "{answer}"),
            _ => assert!(answer.is_empty() || matches!(seen, Seen::Answer(_)), "{fault:?}: {answer}"),
        }
        until("the request is applied", async || put.applied().await >= before + applied).await;
        assert_eq!(put.applied().await, before + applied, "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_is_cut_in_the_middle_of_its_body() {
    let put = Put::new().await;
    put.proxy.fail_all(Fault::CutRequest);
    // The other half is not waited for.
    assert_eq!(put.send(put.body.len().div_ceil(2), false).await.0, Seen::Reset);
    assert_eq!(put.proxy.requests().pop().unwrap().body.len(), put.body.len().div_ceil(2));
    assert_eq!((put.applied().await, put.proxy.kinds().pop()), (0, Some(Kind::PutMessage)));
}

#[tokio::test]
async fn a_request_can_be_delayed_and_be_applied_after_its_sender_has_gone() {
    let put = Put::new().await;
    let pause = Duration::from_millis(200);
    put.proxy.fail_all(Fault::Delay(pause));
    let start = Instant::now();
    assert_eq!(put.send(put.body.len(), false).await.0, Seen::Answer(201));
    assert!(start.elapsed() >= pause, "{:?}", start.elapsed());

    let gate = Gate::default();
    put.proxy.fail_all(Fault::Held(gate.clone()));
    put.proxy.forget();
    let (seen, _, socket) = put.send(put.body.len(), true).await;
    until("the request is held", async || !put.proxy.requests().is_empty()).await;
    drop(socket);
    assert_eq!((seen, put.applied().await), (Seen::Nothing, 1));
    gate.open();
    until("the request is applied late", async || put.applied().await == 2).await;
}

#[tokio::test]
async fn the_storage_client_speaks_to_the_real_thing() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());
    account.create_table("orders").await.unwrap();
    let Value::Object(mut row) = json!({ "PartitionKey": "a~1", "RowKey": "it's", "size": 1 }) else { panic!() };
    account.insert_row("orders", &row).await.unwrap();
    row.insert("size".to_owned(), json!(2));
    account.merge_row("orders", &row).await.unwrap();
    assert_eq!(account.rows("orders").await.unwrap()[0]["size"], 2);
    account.delete_row("orders", &row).await.unwrap();
    assert!(account.rows("orders").await.unwrap().is_empty());

    for text in [" \t{\"a\":\"<&>'\"}\n ", "line\r\nline\r", "Zoë 🦀", ""] {
        account.put("exact", text).await.unwrap();
        let mut message = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!(message.text, text);
        assert_eq!((account.peek("exact").await.unwrap().len(), account.queue_length("exact").await.unwrap()), (0, 1));
        account.update_visibility("exact", &mut message, Duration::ZERO).await.unwrap();
        let again = account.receive("exact", 1, Duration::from_secs(30)).await.unwrap().remove(0);
        assert_eq!((again.id.as_str(), again.dequeue_count), (message.id.as_str(), 2));
        account.delete("exact", &again).await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_belongs_to_one_until_it_is_given_back_or_broken() {
    let account = azurite::shared().await.unwrap().account().unwrap();
    let acquire = || account.acquire_lease("locks", "a/b", Duration::from_secs(15));
    let lease = acquire().await.unwrap().unwrap();
    assert!(account.is_leased("locks", "a/b").await.unwrap());
    assert_eq!(acquire().await.unwrap(), None);
    account.renew_lease("locks", "a/b", &lease).await.unwrap();
    account.release_lease("locks", "a/b", &lease).await.unwrap();
    assert!(!account.is_leased("locks", "a/b").await.unwrap());
    let lease = acquire().await.unwrap().unwrap();
    account.break_lease("locks", "a/b").await.unwrap();
    assert_eq!(account.renew_lease("locks", "a/b", &lease).await.unwrap_err().status(), Some(409));
    assert!(acquire().await.unwrap().is_some());
    assert!(!account.is_leased("locks", "nothing").await.unwrap());
}
