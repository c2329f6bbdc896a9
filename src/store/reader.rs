//! Reads for callers who cannot wait for a database that hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Store, StoreError, StoreFuture};

/// Reads from the database for a bounded time. After a read that found it away none is tried for as long, so that
/// requests do not queue behind time-outs. Clones share that.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn Store>,
    wait: Duration,
    blind_until: Arc<Mutex<Option<Instant>>>,
}

impl Reader {
    /// A reader that waits for `wait` at the most.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, wait: Duration) -> Self {
        Self {
            store,
            wait,
            blind_until: Arc::default(),
        }
    }

    /// Reads. What takes too long goes on to its end, because its connection must not be let go in the
    /// middle.
    ///
    /// # Errors
    /// If the database cannot be read, or not in time.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a dyn Store) -> StoreFuture<'a, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let now = Instant::now();
        if self.lock().is_some_and(|until| now < until) {
            return Err(StoreError::Away);
        }
        let store = Arc::clone(&self.store);
        let reading = tokio::spawn(async move { read(&*store).await });
        let error = match tokio::time::timeout(self.wait, reading).await {
            Ok(Ok(Ok(found))) => return Ok(found),
            Ok(Ok(Err(error))) => error,
            Ok(Err(panicked)) => StoreError::Unavailable(panicked.to_string()),
            Err(_) => StoreError::TimedOut(self.wait),
        };
        // That it is known to be away costs no time.
        if !error.was_answered() && error.is_news() {
            *self.lock() = Some(Instant::now() + self.wait);
        }
        Err(error)
    }

    /// Takes note that the database answers: the next read is tried at once.
    pub fn answers(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.blind_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
