//! Bare TCP, for requests that no HTTP client sends, such as incomplete ones.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
pub struct Raw(TcpStream);

/// The answer.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Raw {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the service listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .expect("a time-out above zero");
        Self(stream)
    }

    /// Sends bytes. Ignores that the server has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.0.write_all(bytes);
        self
    }

    /// Sends bytes. Returns whether the server still accepts them.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Returns a second handle on the connection, to send while another thread reads.
    pub fn again(&self) -> Self {
        Self(self.0.try_clone().expect("another handle"))
    }

    /// Closes the sending side, and keeps the receiving side open.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.0.shutdown(Shutdown::Write);
        self
    }

    /// Reads to the end of the connection; `None` if nothing arrived.
    pub fn answer(mut self) -> Option<RawAnswer> {
        let mut bytes = Vec::new();
        // Bytes that arrived before a reset count.
        let _ = self.0.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(RawAnswer {
            status,
            head: head.to_lowercase(),
            body: body.to_owned(),
        })
    }
}
