//! Answers that are not the service's own.

use std::{io::Write, net::TcpStream as Socket, time::Duration};

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;

pub(super) fn scripted(status: u16, headers: Vec<(&str, String)>, body: String) -> Result<Response<Full<Bytes>>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(body))?)
}

/// Makes the end of the connection, which follows, a reset.
pub(super) fn reset(socket: &Socket) -> Result<Response<Full<Bytes>>> {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
    bail!("connection reset")
}

/// Sends the head of `reply` and half of its body behind hyper's back.
pub(super) async fn cut(reply: Response<Full<Bytes>>, mut socket: &Socket) -> Result<Response<Full<Bytes>>> {
    let (head, body) = reply.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut bytes = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status, body.len()).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body[..body.len() / 2]);
    socket.write_all(&bytes)?;
    reset(socket)
}
