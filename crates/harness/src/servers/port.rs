//! Ports of loopback that no other benchmark or test takes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use super::ServerError;

/// A port of loopback that is reserved while this value lives.
///
/// The port is below the ephemeral range. Within it, a client that retries a dead server can end up connected to
/// itself. The listener on another loopback address keeps other benchmarks and tests, also in other processes, from
/// choosing the same port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Reserves a port without a listener.
    ///
    /// # Errors
    /// [`ServerError::NoPort`].
    pub fn free() -> Result<Self, ServerError> {
        static NEXT: Mutex<u16> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        if *next == 0 {
            *next = (std::process::id() % 10_000) as u16;
        }
        for _ in 0..10_000 {
            *next = (*next + 1) % 10_000;
            let number = 20_000 + *next;
            let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self {
                    number,
                    _claim: claim,
                });
            }
        }
        Err(ServerError::NoPort)
    }

    /// Returns the address on loopback with this port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
