//! The open streams of a process: how many there may be, and their end at a shutdown. `web/sse.rs` holds one for each
//! connection.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::telemetry::{StreamEnded, StreamOpened};

/// The streams of one kind.
#[derive(Debug)]
pub struct Streams {
    kind: &'static str,
    most: usize,
    free: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Streams {
    /// Returns streams of this kind, of which at most so many are open at a time.
    #[must_use]
    pub fn new(kind: &'static str, most: usize) -> Self {
        Self {
            kind,
            most,
            free: Arc::new(Semaphore::new(most)),
            closing: watch::Sender::new(false),
        }
    }

    /// Returns the most streams.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Opens a stream; `None` if the most are open.
    #[must_use]
    pub fn open(&self) -> Option<OpenStream> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        StreamOpened { kind: self.kind }.emit();
        Some(OpenStream {
            kind: self.kind,
            closing: self.closing.subscribe(),
            _permit: permit,
        })
    }

    /// Ends the open streams, and those that are opened later.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// An open stream. Its place is free when it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    kind: &'static str,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    /// Waits until the process ends its streams.
    pub async fn closed(&mut self) {
        // An error means that the process has dropped them.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        StreamEnded { kind: self.kind }.emit();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn streams_are_bounded_and_end_together() {
        let streams = Streams::new("counts", 2);
        let mut first = streams.open().expect("a place");
        let second = streams.open().expect("a place");
        assert!(streams.open().is_none());
        drop(second);
        let mut third = streams.open().expect("the place of the second");
        assert_eq!(first.closed().now_or_never(), None);
        streams.close();
        assert_eq!(first.closed().now_or_never(), Some(()));
        assert_eq!(third.closed().now_or_never(), Some(()));
        drop(first);
        let mut late = streams.open().expect("the place of the first");
        assert_eq!(late.closed().now_or_never(), Some(()));
    }
}
