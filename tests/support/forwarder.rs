//! An address that can be pointed at another server, as a name in DNS or a proxy can, and that can lose the answer to
//! a commit, as a network can.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Forwards each new connection to the server that it points at. Those that are open stay where they are.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    commits_until_loss: Arc<AtomicUsize>,
}

impl Forwarder {
    /// A forwarder to this address.
    #[track_caller]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = Arc::new(Mutex::new(target));
        let points_at = Arc::clone(&target);
        let commits_until_loss = Arc::default();
        let until_loss = Arc::clone(&commits_until_loss);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = *points_at.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(server) = TcpStream::connect(target) {
                    connect(&client, &server, &until_loss);
                }
            }
        });
        Self {
            address,
            target,
            commits_until_loss,
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Points it at another server.
    pub fn point_at(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Cuts the connection of the `nth` `COMMIT` from now on, once the server has answered it: the transaction is
    /// committed, and the client does not hear of it.
    #[track_caller]
    pub fn lose_answer_to_commit(&self, nth: usize) {
        self.commits_until_loss.store(nth, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_lost_the_answer(&self) -> bool {
        self.commits_until_loss.load(Ordering::SeqCst) == 0
    }
}

fn connect(client: &TcpStream, server: &TcpStream, commits_until_loss: &Arc<AtomicUsize>) {
    let loses_next = Arc::new(AtomicBool::new(false));
    let watch = {
        let (until_loss, loses_next) = (Arc::clone(commits_until_loss), Arc::clone(&loses_next));
        move |sent: &[u8]| {
            let is_commit = sent.windows(COMMIT.len()).any(|word| word == COMMIT);
            let counted = is_commit.then(|| {
                let less = |left: usize| left.checked_sub(1);
                until_loss.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            });
            loses_next.store(counted == Some(Ok(1)), Ordering::SeqCst);
            true
        }
    };
    forward(client, server, watch);
    forward(server, client, move |_| !loses_next.load(Ordering::SeqCst));
}

/// How a client ends a transaction.
const COMMIT: &[u8] = b"COMMIT";

/// Passes on what comes from one end to the other, until either closes or `passes` says no.
fn forward(from: &TcpStream, to: &TcpStream, passes: impl Fn(&[u8]) -> bool + Send + 'static) {
    let ends = from
        .try_clone()
        .and_then(|from| Ok((from, to.try_clone()?)));
    if let Ok((from, to)) = ends {
        thread::spawn(move || {
            // Either end may close whenever it likes.
            let _ = pass(&from, &to, passes);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}

fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    passes: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer)? {
            length if length > 0 && passes(&buffer[..length]) => to.write_all(&buffer[..length])?,
            _ => return Ok(()),
        }
    }
}
