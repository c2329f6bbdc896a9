//! An address that forwards to a server, as a DNS name or a proxy does. Tests point it at another server, or drop the
//! answer to one commit.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Forwards each new connection to its current target. Open connections keep theirs.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    /// The commit that loses its answer.
    loss: Mutex<Option<Loss>>,
    /// Whether all answers are dropped.
    is_cut: AtomicBool,
}

/// A commit that loses its answer.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// A text in the statements of its transaction.
    text: &'static str,
    /// Whether all later answers are lost too, on every connection.
    cuts_all: bool,
}

impl Forwarder {
    /// Creates a forwarder to this address.
    #[track_caller]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            loss: Mutex::default(),
            is_cut: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        // The thread ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = *lock(&accepting.target);
                if let Ok(server) = TcpStream::connect(target) {
                    connect(&client, &server, &accepting);
                }
            }
        });
        Self { address, shared }
    }

    /// Creates a forwarder to the server of this URL. Returns it with the URL of the same database behind it.
    #[track_caller]
    pub fn before(url: &str) -> (Self, String) {
        let (_, address) = url.split_once('@').expect("a URL with a user");
        let (address, _) = address.split_once('/').expect("a URL with a database");
        let forwarder = Self::to(address.parse().expect("an address"));
        let forwarded = url.replace(address, &forwarder.address().to_string());
        (forwarder, forwarded)
    }

    /// Returns the address of the listener.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Points the forwarder at another server.
    pub fn point_at(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Drops the answer to the next COMMIT of a PostgreSQL transaction with this text in a statement, and all later
    /// answers on every connection: the server commits, and the client cannot learn of it.
    pub fn lose_commit_of(&self, text: &'static str) {
        let cuts_all = true;
        *lock(&self.shared.loss) = Some(Loss { text, cuts_all });
    }

    /// As [`lose_commit_of`](Self::lose_commit_of), but only the connection of that COMMIT is closed.
    pub fn lose_only_commit_of(&self, text: &'static str) {
        let cuts_all = false;
        *lock(&self.shared.loss) = Some(Loss { text, cuts_all });
    }

    /// Returns whether that commit was sent.
    pub fn has_lost_the_commit(&self) -> bool {
        lock(&self.shared.loss).is_none()
    }

    /// Passes answers again, on new connections.
    pub fn restore(&self) {
        self.shared.is_cut.store(false, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) {
    let is_cut = Arc::new(AtomicBool::new(false));
    let mut conversation = Conversation {
        shared: Arc::clone(shared),
        is_cut: Arc::clone(&is_cut),
        unread: Vec::new(),
        started: false,
        statements: BTreeMap::new(),
        matches: false,
    };
    spawn(client, server, move |bytes| {
        conversation.hear(bytes);
        true
    });
    // The bytes after the COMMIT are its answer, because the client awaits each answer before it continues.
    let shared = Arc::clone(shared);
    spawn(server, client, move |_| {
        !shared.is_cut.load(Ordering::Acquire) && !is_cut.load(Ordering::Acquire)
    });
}

/// Copies bytes from one end to the other while `goes_on` allows it, and then closes both.
fn spawn(
    from: &TcpStream,
    to: &TcpStream,
    mut goes_on: impl FnMut(&[u8]) -> bool + Send + 'static,
) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        let mut pass = || -> io::Result<()> {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let length = from.read(&mut buffer)?;
                if length == 0 || !goes_on(&buffer[..length]) {
                    return Ok(());
                }
                to.write_all(&buffer[..length])?;
            }
        };
        // Either end may close at any time.
        let _ = pass();
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

/// The body of the message that asks for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Parses the messages of a client on one PostgreSQL connection.
struct Conversation {
    shared: Arc<Shared>,
    /// Whether the answers on this connection are dropped.
    is_cut: Arc<AtomicBool>,
    /// The start of an incomplete message.
    unread: Vec<u8>,
    /// Whether the startup message, which has no type, has passed.
    started: bool,
    /// The text of each prepared statement.
    statements: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the open transaction has a statement with the searched text.
    matches: bool,
}

impl Conversation {
    fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        loop {
            let head = usize::from(self.started);
            let Some(length) = self.unread.get(head..head + 4) else {
                return;
            };
            let length: [u8; 4] = length.try_into().expect("four bytes");
            let end = head + u32::from_be_bytes(length) as usize;
            if self.unread.len() < end {
                return;
            }
            let message: Vec<u8> = self.unread.drain(..end).collect();
            if self.started {
                self.take(message[0], &message[5..]);
            }
            // The question whether the server offers TLS comes before the startup message.
            self.started |= message[4..] != SSL_REQUEST;
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        let mut texts = body.split(|byte| *byte == 0);
        let (first, second) = (
            texts.next().unwrap_or_default(),
            texts.next().unwrap_or_default(),
        );
        match kind {
            // Parse: the statement's name and its text.
            b'P' => {
                self.statements.insert(first.to_vec(), second.to_vec());
            }
            // Bind: the portal's name and that of the statement.
            b'B' => {
                let text = self.statements.get(second).cloned().unwrap_or_default();
                self.matches |= self.is_wanted(&text);
            }
            // Query: its text.
            b'Q' => {
                if first.starts_with(b"BEGIN") {
                    self.matches = false;
                } else if first.starts_with(b"COMMIT") && self.matches {
                    let mut loss = lock(&self.shared.loss);
                    let cuts_all = loss.is_some_and(|loss| loss.cuts_all);
                    self.shared.is_cut.fetch_or(cuts_all, Ordering::AcqRel);
                    self.is_cut.store(true, Ordering::Release);
                    *loss = None;
                }
            }
            _ => {}
        }
    }

    fn is_wanted(&self, statement: &[u8]) -> bool {
        let wanted = *lock(&self.shared.loss);
        wanted.is_some_and(|loss| String::from_utf8_lossy(statement).contains(loss.text))
    }
}
