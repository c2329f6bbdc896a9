//! The lease under which a worker holds ledger rows. The store writes it, the actors renew it, and the settings
//! bound the attempts under it.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The longest wait between two attempts on a ledger row.
pub const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(300);

/// A worker's lease on ledger rows.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// When it begins.
    pub now: DateTime<Utc>,
    /// Its duration.
    pub duration: Duration,
    /// How many failed attempts a new row may have before it is dead.
    pub max_retries: i32,
}

impl Lease {
    /// When it ends.
    #[must_use]
    pub fn until(&self) -> DateTime<Utc> {
        self.now + self.duration
    }

    /// Returns the time after which no row can be due, unless the clock that it was dated by has been set back since: no
    /// lease and no wait between two attempts lasts longer.
    #[must_use]
    pub fn latest_due(&self) -> DateTime<Utc> {
        self.now + self.duration + LONGEST_RETRY_WAIT
    }

    /// The interval at which a live worker renews it, so that it outlasts an attempt: see
    /// [`longest_attempt`](Self::longest_attempt).
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.duration / 3
    }

    /// The longest that one attempt may take under a lease of this duration. While its transaction locks the
    /// rows, their lease cannot be renewed; the last renewal was at most a third of the duration before.
    #[must_use]
    pub fn longest_attempt(duration: Duration) -> Duration {
        duration * 2 / 3
    }
}
