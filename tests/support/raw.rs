//! Bare TCP, for what no proper client would send: half requests and worse.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
pub struct Raw(TcpStream);

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    /// Its status.
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

    /// Sends bytes. A server that has hung up already is no failure.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.0.write_all(bytes);
        self
    }

    /// Sends bytes; whether the server still takes any.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The same connection once more, to send while something else reads.
    pub fn again(&self) -> Self {
        Self(self.0.try_clone().expect("another handle"))
    }

    /// Says that nothing more will be sent, and stays to hear the answer.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.0.shutdown(Shutdown::Write);
        self
    }

    /// Reads to the end of the connection; none if nothing came back.
    pub fn answer(mut self) -> Option<RawAnswer> {
        let mut bytes = Vec::new();
        // What came before a reset counts.
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
