//! Ports for programs that are told their port, and bind it a moment later.
//!
//! The system's own choice would come from the range that outgoing connections are served from, so that somebody's
//! connection may take the port in that moment. These come from below that range, and no two of one process are the same.
//! <https://man7.org/linux/man-pages/man7/ip.7.html>, `ip_local_port_range`

use std::{
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, Result};

/// Linux begins with outgoing connections at 32768, macOS at 49152.
const RANGE: Range<u16> = 12_000..32_000;
/// As many as are looked at before giving up.
const ATTEMPTS: usize = 1_000;

/// Where the next search begins: processes begin at different places.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));

/// A port of the loopback interface that nobody listens on.
///
/// # Errors
/// When a thousand of them are taken.
pub fn free_port() -> Result<u16> {
    let ports =
        std::iter::repeat_with(|| RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % (RANGE.end - RANGE.start));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.take(ATTEMPTS).find(is_free).context("no free port on loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_get_the_same_port_nor_one_that_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let mut ports: Vec<_> = (0..100).map(|_| free_port().unwrap()).collect();
        ports.push(taken.local_addr().unwrap().port());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 101);
    }
}
