//! A service on a socket: for what a process does, which cannot be given an `HttpClient`.

use crate::scripted::{Answer, Received};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Reply to a request.
pub(crate) enum Reply {
    Now(Answer),
    Later(Duration, Answer),
    Never,
}

/// Answers requests, and remembers them.
pub(crate) struct Service {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// Chooses the reply to a request, which is the n-th, from 0.
type Rule = dyn Fn(&Received, usize) -> Reply + Send + Sync;

impl Service {
    pub(crate) async fn start(rule: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (rule, received): (Arc<Rule>, _) = (Arc::new(rule), Arc::<Mutex<Vec<_>>>::default());
        let kept = received.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, rule.clone(), kept.clone()));
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(socket: TcpStream, rule: Arc<Rule>, received: Arc<Mutex<Vec<Received>>>) {
    let mut socket = BufReader::new(socket);
    while let Some(request) = read(&mut socket).await {
        let index = {
            let mut received = received.lock().unwrap();
            received.push(request.clone());
            received.len() - 1
        };
        let answer = match rule(&request, index) {
            Reply::Now(answer) => answer,
            Reply::Later(delay, answer) => {
                tokio::time::sleep(delay).await;
                answer
            }
            Reply::Never => std::future::pending().await,
        };
        if socket.write_all(answer.to_http().as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match socket.read_line(&mut line).await {
            Ok(length) if length > 0 && !line.trim().is_empty() => head.push(line.trim().to_owned()),
            Ok(length) if length > 0 => break,
            _ => return None,
        }
    }
    let mut request_line = head[0].split(' ').map(str::to_owned);
    let (method, url) = (request_line.next()?, request_line.next()?);
    let pair = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<_> = head[1..].iter().filter_map(pair).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, text)| text.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Received { method, url, headers, body: String::from_utf8(body).unwrap() })
}
