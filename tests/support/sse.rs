//! A client of Server-Sent Events on a thread of its own, as a browser's `EventSource` receives them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::{PATIENCE, until, until_equal};

/// An open connection. It is closed when it is dropped.
pub struct EventSource {
    connection: TcpStream,
    received: Arc<Mutex<Received>>,
}

/// What has arrived.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// The status; zero until it arrives.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The events.
    pub events: Vec<Event>,
    /// The time after which the client connects again, in milliseconds.
    pub retry: Option<u64>,
    /// The body of an answer that is no stream.
    pub body: String,
    /// Whether the service has ended the stream, rather than broken it off.
    pub is_whole: bool,
    /// Whether the connection has ended.
    pub has_ended: bool,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// The id, if it has one.
    pub id: Option<String>,
    /// The name.
    pub name: String,
    /// The data.
    pub data: Value,
    /// When it arrived.
    pub at: Instant,
}

impl Event {
    /// Returns the resource's id, the like count and the revision.
    #[track_caller]
    pub fn count(&self) -> (i64, i64, i64) {
        let number = |field: &str| self.data[field].as_i64().expect("a number");
        (
            number("resource_id"),
            number("like_count"),
            number("revision"),
        )
    }
}

impl EventSource {
    /// Requests this path with these headers, and waits for the head of the answer.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = TcpStream::connect(address).expect("it listens");
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request += "Host: localhost\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        connection
            .write_all(request.as_bytes())
            .expect("it is sent");
        let received = Arc::new(Mutex::new(Received::default()));
        let (reading, sink) = (
            connection.try_clone().expect("another handle"),
            Arc::clone(&received),
        );
        thread::spawn(move || {
            // An error is an end, too.
            let _ = receive(reading, &sink);
            lock(&sink).has_ended = true;
        });
        let source = Self {
            connection,
            received,
        };
        source.until("the head of the answer", |received| {
            (received.status > 0 || received.has_ended).then_some(())
        });
        source
    }

    /// Returns what has arrived so far.
    pub fn received(&self) -> Received {
        lock(&self.received).clone()
    }

    /// Waits until `find` finds something in what has arrived.
    #[track_caller]
    pub fn until<T>(&self, what: &str, find: impl Fn(&Received) -> Option<T>) -> T {
        until(what, PATIENCE, || {
            let received = lock(&self.received);
            find(&received).ok_or_else(|| {
                let last = received.events.iter().rev().take(3).collect::<Vec<_>>();
                format!(
                    "{} events, the last {last:?}, {}",
                    received.events.len(),
                    received.head
                )
            })
        })
    }

    /// Waits until the newest count of a resource is this one. Returns that event.
    #[track_caller]
    pub fn until_count(&self, resource: i64, like_count: i64) -> Event {
        self.until(
            &format!("the count {like_count} of {resource}"),
            |received| {
                let mut events = received.events.iter().rev();
                let newest =
                    events.find(|event| event.name.is_empty() && event.count().0 == resource)?;
                (newest.count().1 == like_count).then(|| newest.clone())
            },
        )
    }

    /// Waits until the connection has ended.
    #[track_caller]
    pub fn until_ended(&self) {
        until_equal("the connection to end", true, || {
            lock(&self.received).has_ended
        });
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

fn lock(received: &Mutex<Received>) -> std::sync::MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn receive(connection: TcpStream, sink: &Mutex<Received>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let head = head.to_lowercase();
    let is_chunked = head.contains("transfer-encoding: chunked");
    {
        let mut received = lock(sink);
        received.head = head;
        received.status = status.unwrap_or_default();
    }
    if !is_chunked {
        let mut buffer = [0; 4096];
        loop {
            let length = reader.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            lock(sink).body += &String::from_utf8_lossy(&buffer[..length]);
        }
    }
    let mut text = String::new();
    loop {
        let mut size = String::new();
        if reader.read_line(&mut size)? == 0 {
            return Ok(());
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            lock(sink).is_whole = true;
            return Ok(());
        }
        text += std::str::from_utf8(&chunk[..size]).expect("whole characters in a chunk");
        while let Some((block, rest)) = text.split_once("\n\n") {
            take(block, &mut lock(sink));
            text = rest.to_owned();
        }
    }
}

/// Reads an event, or a comment.
fn take(block: &str, received: &mut Received) {
    let (mut id, mut name, mut data) = (None, String::new(), None);
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("event", value)) => name = value.to_owned(),
            Some(("retry", value)) => received.retry = value.parse().ok(),
            Some(("data", value)) => data = Some(serde_json::from_str(value).expect("JSON")),
            _ => assert!(line.starts_with(':'), "{line}"),
        }
    }
    if let Some(data) = data {
        received.events.push(Event {
            id,
            name,
            data,
            at: Instant::now(),
        });
    }
}
