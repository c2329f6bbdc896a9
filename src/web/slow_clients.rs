//! TCP connections that close when their client is too slow. The time limits of actix-web's own `HttpServer` cover
//! the first request head of a connection and the pauses between requests; the head of a later request, a chunked
//! body that no handler reads and a response that the client does not take may last forever. Without this file two
//! tests of tests/web/request_size_and_time.rs fail: `slow_client_is_disconnected_and_stores_nothing` and
//! `client_that_reads_no_response_is_disconnected`. Called by `app/`.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the head of a request may take to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take no bytes of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How many bytes of a stream of events the system buffers.
const STREAM_BUFFER: usize = 16 * 1024;

/// How often a connection checks its limits: one timer per connection costs requests nothing, and delays a
/// limit by this much at most.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The requests of a connection.
#[derive(Debug, Default)]
pub struct Activity {
    /// The number of requests that have arrived.
    arrived: Cell<u64>,
    /// The number of requests in progress.
    active: Cell<u32>,
    /// Whether the client has closed its side of the connection.
    ended: Cell<bool>,
    /// Whether the system is to buffer little of the response.
    streams: Cell<bool>,
}

impl Activity {
    /// Records that a request has arrived. It is in progress until the returned value is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> ActiveRequest {
        self.arrived.set(self.arrived.get() + 1);
        self.active.set(self.active.get() + 1);
        ActiveRequest(Rc::clone(self))
    }

    /// As [`begin`](Self::begin), for a response that does not end by itself. The system then buffers little, so that a client
    /// that does not read is noticed, and one that reads slowly receives no old events.
    pub(super) fn begin_stream(self: &Rc<Self>) -> ActiveRequest {
        self.streams.set(true);
        self.begin()
    }

    /// Returns whether the client has closed its side of the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }
}

/// A request in progress.
pub(super) struct ActiveRequest(Rc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

/// A connection that closes when its client is too slow.
pub struct TimedStream {
    stream: TcpStream,
    activity: Rc<Activity>,
    /// When bytes outside a request began to arrive, and the number of requests that had arrived by then.
    receiving: Option<(Instant, u64)>,
    /// When the client stopped taking bytes.
    stalled: Option<Instant>,
    next_check: Pin<Box<Sleep>>,
}

impl TimedStream {
    /// Wraps a connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            activity: Rc::default(),
            receiving: None,
            stalled: None,
            next_check: Box::pin(sleep(CHECK_EVERY)),
        }
    }

    /// The requests of this connection, for `bounds.rs` to record.
    #[must_use]
    pub fn activity(&self) -> Rc<Activity> {
        Rc::clone(&self.activity)
    }

    /// Records that bytes have arrived, unless a request is in progress: its body has a limit of its own.
    fn received(&mut self) {
        self.forget_arrived();
        if self.receiving.is_none() && self.activity.active.get() == 0 {
            self.receiving = Some((Instant::now(), self.activity.arrived.get()));
        }
    }

    /// Forgets bytes that have become a request since.
    fn forget_arrived(&mut self) {
        let arrived = self.activity.arrived.get();
        self.receiving = self.receiving.filter(|(_, before)| *before == arrived);
    }

    /// Fails, which closes the connection, if its client is too slow.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.next_check.as_mut().poll(cx).is_ready() {
            self.forget_arrived();
            let over = |since: Instant, limit| since.elapsed() >= limit;
            let head = self
                .receiving
                .is_some_and(|(since, _)| over(since, HEAD_TIMEOUT));
            if head || self.stalled.is_some_and(|since| over(since, WRITE_TIMEOUT)) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.next_check.set(sleep(CHECK_EVERY));
        }
        Ok(())
    }

    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => {
                self.stalled.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => self.stalled = None,
        }
        result
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer)? {
            Poll::Ready(()) => {
                if buffer.filled().len() > before {
                    self.received();
                } else if buffer.remaining() > 0 {
                    self.activity.ended.set(true);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.check(cx)?;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.activity.streams.take() {
            // Without these, a client that does not read, or that vanished, is only noticed later.
            let socket = SockRef::from(&self.stream);
            let _ = socket.set_send_buffer_size(STREAM_BUFFER);
            #[cfg(target_os = "linux")]
            let _ = socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if result.is_pending() {
            self.check(cx)?;
        }
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if result.is_pending() {
            self.check(cx)?;
        }
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
