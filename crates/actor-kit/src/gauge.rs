//! The fill level of a mailbox, and the shares of it that messages hold.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, Notify, Semaphore};

/// The fill level of a mailbox, shared by its clones and the registry.
#[derive(Debug)]
pub struct Gauge {
    capacity: usize,
    permits: Semaphore,
    waiting: Mutex<Waiting>,
    idle: Notify,
}

/// The arrival times of the envelopes, oldest first, and their weight. An entry is cleared when its envelope is done,
/// and removed once it is the oldest, so the front is always the arrival of the oldest envelope in work.
#[derive(Debug, Default)]
struct Waiting {
    weight: usize,
    arrivals: VecDeque<Option<Instant>>,
    first: u64,
}

impl Gauge {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            permits: Semaphore::new(capacity),
            waiting: Mutex::default(),
            idle: Notify::new(),
        })
    }

    /// Returns the capacity, in weight.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the waiting and running work, in weight.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.waiting().weight
    }

    /// Returns the room that is reserved for messages that have not been sent, in weight.
    #[must_use]
    pub fn reserved(&self) -> usize {
        let waiting = self.waiting();
        self.taken().saturating_sub(waiting.weight)
    }

    fn taken(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }

    /// Returns the age of the oldest envelope; `None` if there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let waiting = self.waiting();
        let oldest = waiting.arrivals.front().copied().flatten();
        oldest.map(|arrival| arrival.elapsed())
    }

    /// Waits until the mailbox is empty, and no room in it is reserved.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.taken() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Takes room for this weight, without waiting; `None` if there is not enough. A weight above the capacity takes all of it.
    pub(crate) fn try_take(self: &Arc<Self>, weight: usize) -> Option<Share> {
        let permits = self.permits_for(weight);
        self.permits.try_acquire_many(permits).ok()?.forget();
        Some(self.share(permits))
    }

    /// Waits for room for this weight, and takes it.
    pub(crate) async fn take(self: &Arc<Self>, weight: usize) -> Result<Share, AcquireError> {
        let permits = self.permits_for(weight);
        self.permits.acquire_many(permits).await?.forget();
        Ok(self.share(permits))
    }

    fn permits_for(&self, weight: usize) -> u32 {
        u32::try_from(weight.clamp(1, self.capacity)).unwrap_or(u32::MAX)
    }

    fn share(self: &Arc<Self>, permits: u32) -> Share {
        Share {
            gauge: Arc::clone(self),
            weight: permits as usize,
        }
    }

    /// Records the arrival of an envelope of this weight. Returns its ticket and its time.
    pub(crate) fn arrive(&self, weight: usize) -> (u64, Instant) {
        let mut waiting = self.waiting();
        let now = Instant::now();
        waiting.weight += weight;
        waiting.arrivals.push_back(Some(now));
        (waiting.first + waiting.arrivals.len() as u64 - 1, now)
    }

    fn leave(&self, ticket: u64, weight: usize) {
        let mut waiting = self.waiting();
        waiting.weight -= weight;
        let index = (ticket - waiting.first) as usize;
        waiting.arrivals[index] = None;
        while let Some(None) = waiting.arrivals.front() {
            waiting.arrivals.pop_front();
            waiting.first += 1;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Weight taken from a mailbox, with or without an envelope. Dropping it returns the weight, and wakes tasks that
/// wait for the mailbox to be empty.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) weight: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.permits.add_permits(self.weight);
        if self.gauge.taken() == 0 {
            self.gauge.idle.notify_waiters();
        }
    }
}

/// The share of a mailbox that one envelope takes. Dropping it returns the share.
#[derive(Debug)]
pub struct Permit {
    pub(crate) share: Share,
    pub(crate) ticket: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.gauge.leave(self.ticket, self.share.weight);
    }
}
