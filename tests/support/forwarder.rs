//! An address that can be pointed at another server, as a name in DNS or a proxy can.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Forwards each new connection to the server that it points at. Those that are open stay where they are.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Forwarder {
    /// A forwarder to this address.
    #[track_caller]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = Arc::new(Mutex::new(target));
        let points_at = Arc::clone(&target);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = *points_at.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(server) = TcpStream::connect(target) {
                    connect(&client, &server);
                }
            }
        });
        Self { address, target }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Points it at another server.
    pub fn point_at(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

fn connect(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let ends = from
            .try_clone()
            .and_then(|from| Ok((from, to.try_clone()?)));
        if let Ok((from, to)) = ends {
            thread::spawn(move || {
                // Either end may close whenever it likes.
                let _ = pass(&from, &to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}
