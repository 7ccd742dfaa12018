//! Ports for programs that are told their port, and bind it a moment later.
//!
//! The system's own choice would come from the range that outgoing connections are served from, so that somebody's
//! connection may take the port in that moment. These come from below that range, and no two of one process are the same.
//! <https://man7.org/linux/man-pages/man7/ip.7.html>, `ip_local_port_range`

use std::{
    net::Ipv4Addr,
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, Result};
use tokio::net::TcpSocket;

/// Linux begins with outgoing connections at 32768, macOS at 49152.
const RANGE: Range<u16> = 12_000..32_000;
/// The number of ports that are tried before giving up.
const ATTEMPTS: usize = 1_000;

/// The start of the next search. Processes begin at different places.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));

/// Finds a port of the loopback interface that nobody listens on.
///
/// # Errors
/// When a thousand of them are taken.
pub fn free_port() -> Result<u16> {
    let ports =
        std::iter::repeat_with(|| RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % (RANGE.end - RANGE.start));
    ports.take(ATTEMPTS).find(|port| is_free(*port).is_ok()).context("no free port on loopback")
}

/// Binds without listening: a program that is being started holds this socket too, until it is loaded, and a listening
/// socket would keep the port from its user.
fn is_free(port: u16) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, process::Command};

    #[test]
    fn a_port_can_be_listened_on_at_once_while_programs_are_started() {
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| {
                for _ in 0..1_000 {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
            while !starting.is_finished() {
                TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
            }
        });
    }

    #[test]
    fn no_two_callers_get_the_same_port_nor_one_that_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let mut ports: Vec<_> = (0..100).map(|_| free_port().unwrap()).collect();
        let taken_port = taken.local_addr().unwrap().port();
        assert!(is_free(taken_port).is_err(), "somebody listens on it");
        ports.push(taken_port);
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 101);
    }
}
