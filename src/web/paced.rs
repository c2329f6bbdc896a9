//! Connections that end when their client dawdles. actix-web's own time limits cover the first head of a
//! connection and the pauses between requests; a later head, or a body that nobody reads, could trickle for
//! ever, and an answer that nobody takes could wait for ever.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::bounds::HEAD_TIMEOUT;

/// How long a client may take none of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a connection is looked at. One timer for each connection that lives on costs requests
/// nothing; it only makes a limit late by so much.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a connection is at, told by the requests that it brings.
#[derive(Debug, Default)]
pub struct Pace {
    /// How many requests have begun.
    begun: Cell<u64>,
    /// How many of them are not answered yet.
    open: Cell<u32>,
}

impl Pace {
    /// Notes that a request has begun. It ends when what is returned is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> Open {
        self.begun.set(self.begun.get() + 1);
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }
}

/// A request that is not answered yet.
pub(super) struct Open(Rc<Pace>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

/// A connection.
pub struct PacedStream {
    stream: TcpStream,
    pace: Rc<Pace>,
    /// Since when something comes that is no request yet, and how many requests had begun by then.
    coming: Option<(Instant, u64)>,
    /// Since when the client takes nothing.
    stuck: Option<Instant>,
    look: Pin<Box<Sleep>>,
}

impl PacedStream {
    /// A connection that ends when its client dawdles.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            pace: Rc::default(),
            coming: None,
            stuck: None,
            look: Box::pin(sleep(LOOK_EVERY)),
        }
    }

    /// What its requests tell it.
    #[must_use]
    pub fn pace(&self) -> Rc<Pace> {
        Rc::clone(&self.pace)
    }

    /// Notes that something has come, unless it belongs to a request that is being answered: the time
    /// of that has limits of its own.
    fn has_come(&mut self) {
        self.forget_what_has_arrived();
        if self.coming.is_none() && self.pace.open.get() == 0 {
            self.coming = Some((Instant::now(), self.pace.begun.get()));
        }
    }

    /// What was coming when a request began was that request.
    fn forget_what_has_arrived(&mut self) {
        let begun = self.pace.begun.get();
        self.coming = self.coming.filter(|(_, before)| *before == begun);
    }

    /// Ends the connection if its client dawdles.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.look.as_mut().poll(cx).is_ready() {
            self.forget_what_has_arrived();
            let over = |since: Instant, limit| since.elapsed() >= limit;
            let head = self
                .coming
                .is_some_and(|(since, _)| over(since, HEAD_TIMEOUT));
            if head || self.stuck.is_some_and(|since| over(since, WRITE_TIMEOUT)) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.look.set(sleep(LOOK_EVERY));
        }
        Ok(())
    }

    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => {
                self.stuck.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => self.stuck = None,
        }
        result
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer)? {
            Poll::Ready(()) => {
                if buffer.filled().len() > before {
                    self.has_come();
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

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
