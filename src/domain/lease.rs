//! The lease under which a worker holds ledger rows. The store writes it, the actors renew it, and the settings
//! bound the attempts under it.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A worker's lease on ledger rows.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Its start.
    pub now: DateTime<Utc>,
    /// Its duration.
    pub duration: Duration,
    /// The number of failed attempts that a new row may have before it is dead.
    pub max_retries: i32,
}

impl Lease {
    /// Returns its end.
    #[must_use]
    pub fn until(&self) -> DateTime<Utc> {
        self.now + self.duration
    }

    /// Returns the interval at which a live worker renews it, so that it outlasts an attempt: see
    /// [`longest_attempt`](Self::longest_attempt).
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.duration / 3
    }

    /// Returns the time limit of one attempt under a lease of this duration. While the attempt's transaction locks the rows,
    /// their lease cannot be renewed, and the last renewal may be a third of the duration old.
    #[must_use]
    pub fn longest_attempt(duration: Duration) -> Duration {
        duration * 2 / 3
    }
}
