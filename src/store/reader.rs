//! Reads for callers who cannot wait for a database that hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::{Erasures, Store, StoreError};

/// Reads from the database for a bounded time. After a read that found it away none is tried for as long, so that
/// requests do not queue behind time-outs. Clones share that.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Store>,
    wait: Duration,
    sight: Arc<Mutex<Sight>>,
}

/// What is known of the database from the reads so far.
#[derive(Debug, Default)]
struct Sight {
    /// Until when no read is tried.
    blind_until: Option<Instant>,
    /// When the database last answered.
    answered_at: Option<Instant>,
}

impl Sight {
    /// Notes that the database answered.
    fn answered(&mut self, now: Instant) {
        self.blind_until = None;
        self.answered_at = Some(now);
    }

    /// Notes a read that was not answered. If the database has answered others since this one began, it is slow and
    /// not away.
    fn failed(&mut self, began: Instant, now: Instant, wait: Duration) {
        if self.answered_at.is_none_or(|answered| answered < began) {
            self.blind_until = Some(now + wait);
        }
    }

    /// Returns whether no read is tried now.
    fn is_blind(&self, now: Instant) -> bool {
        self.blind_until.is_some_and(|until| now < until)
    }
}

impl Reader {
    /// A reader that waits for `wait` at the most.
    #[must_use]
    pub fn new(store: Arc<Store>, wait: Duration) -> Self {
        Self {
            store,
            wait,
            sight: Arc::default(),
        }
    }

    /// Reads in a task of its own. A read that takes too long, or whose caller is gone, goes on within the time limit of the
    /// store. Cancelled, it would close its connection (docs/adr/0055), while the server still works on its statement: a slow
    /// database would get a new connection for each request that gives up.
    ///
    /// # Errors
    /// If the database cannot be read, or not in time.
    pub async fn read<T, F>(&self, read: impl FnOnce(Arc<Store>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let began = Instant::now();
        if self.lock().is_blind(began) {
            return Err(StoreError::Away);
        }
        let reading = tokio::spawn(read(Arc::clone(&self.store)));
        let error = match tokio::time::timeout(self.wait, reading).await {
            Ok(Ok(Ok(found))) => {
                self.answers();
                return Ok(found);
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(panicked)) => StoreError::Unavailable(panicked.to_string()),
            Err(_) => StoreError::TimedOut(self.wait),
        };
        // That it is known to be away costs no time.
        if !error.was_answered() && error.is_news() {
            self.lock().failed(began, Instant::now(), self.wait);
        }
        Err(error)
    }

    /// Returns the database's time, without asking it.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.store.now()
    }

    /// Returns the erasures that this process knows of.
    #[must_use]
    pub fn erasures(&self) -> &Erasures {
        self.store.erasures()
    }

    /// Takes note that the database answers: the next read is tried at once.
    pub fn answers(&self) {
        self.lock().answered(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[test]
    fn unresponsive_database_is_not_read_for_a_while() {
        let began = Instant::now();
        let ended = began + WAIT;
        let mut sight = Sight::default();
        sight.answered(began - WAIT);
        sight.failed(began, ended, WAIT);
        assert!(sight.is_blind(ended));
        assert!(!sight.is_blind(ended + WAIT));
        sight.answered(ended);
        assert!(!sight.is_blind(ended));
    }

    #[test]
    fn one_slow_read_does_not_stop_other_reads() {
        let began = Instant::now();
        let mut sight = Sight::default();
        sight.answered(began + WAIT / 2);
        sight.failed(began, began + WAIT, WAIT);
        assert!(!sight.is_blind(began + WAIT));
    }
}
