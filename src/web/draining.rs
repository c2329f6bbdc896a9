//! Whether the process shuts down. `app/` says so; the server and `/readyz` ask.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether the shutdown has begun. It is never undone.
#[derive(Debug, Default)]
pub struct Draining {
    /// A flag of its own: each response asks, and a load costs less than a lock.
    has_begun: AtomicBool,
    begins: Notify,
}

impl Draining {
    /// Notes that the shutdown begins, and wakes the waiters.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begins.notify_waiters();
    }

    /// Returns whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits until the shutdown begins.
    pub async fn begun(&self) {
        // Created before the flag is read, so that a beginning in between wakes it.
        let begins = self.begins.notified();
        if !self.has_begun() {
            begins.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn beginning_wakes_earlier_and_later_waiters() {
        let draining = Draining::default();
        let mut earlier = pin!(draining.begun());
        assert_eq!(earlier.as_mut().now_or_never(), None);
        assert!(!draining.has_begun());
        draining.begin();
        assert_eq!(earlier.now_or_never(), Some(()));
        assert_eq!(draining.begun().now_or_never(), Some(()));
        assert!(draining.has_begun());
    }
}
