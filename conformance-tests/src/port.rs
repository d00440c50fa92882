//! Ports for servers of tests.

use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Finds a port of the loopback address that nobody uses, for a server that is started next.
///
/// It lies from 12,000 to 21,999, where no system takes ports for outgoing connections by default. Among those, a
/// port can be lost before the server has it; worse, whoever tries to connect to it may be given it, and is then
/// connected to itself. Processes begin at different ports, so that those who search at once find different ones.
#[must_use]
pub fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    loop {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        let place = process::id().wrapping_mul(61).wrapping_add(calls) % 10_000;
        let port = 12_000 + u16::try_from(place).unwrap_or_default();
        if is_free(port) {
            return port;
        }
    }
}

/// Tells whether a server could listen there now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_used_is_not_free() {
        let port = free_port();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(server);
        assert!(is_free(port));
    }

    #[test]
    fn each_call_finds_another() {
        let ports = [free_port(), free_port(), free_port()];
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        assert!(ports.iter().all(|port| (12_000..22_000).contains(port)));
    }
}
