//! Whether the database can be used, as all connections of this process know it: the circuit breaker, the last read-only
//! answer, and the last failed write. The pools report outcomes here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::error::StoreError;
use super::session::Session;
use crate::domain::{Breaker, BreakerPolicy, Change, FailureKind};
use crate::telemetry::{Dependency, DependencyAway, DependencyBack};

/// When the database counts as away.
const BREAKER: BreakerPolicy = BreakerPolicy {
    failures: 3,
    open_for: Duration::from_millis(500),
    open_for_at_most: Duration::from_secs(2),
};

/// A write that changes no row: it shows whether the database accepts writes, and costs as much as a ping. A
/// read would succeed on a replica.
const PROBE: &str = "DELETE FROM retention WHERE 1 = 0";

/// Tries a write.
///
/// # Errors
/// If the database accepts no writes. A busy database accepts them.
pub(super) async fn probe<S: Session>(session: &mut S) -> Result<(), StoreError> {
    match session.batch(PROBE).await {
        Err(StoreError::Busy(_)) => Ok(()),
        probed => probed,
    }
}

/// The condition of one database.
pub(super) struct Condition {
    breaker: Mutex<Breaker>,
    /// Older connections lead to a server that was read-only.
    stale_before: Mutex<Option<Instant>>,
    /// The time of the last write that the infrastructure failed.
    impaired_at: Mutex<Option<DateTime<Utc>>>,
}

impl Condition {
    pub(super) fn new() -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(BREAKER)),
            stale_before: Mutex::default(),
            impaired_at: Mutex::default(),
        }
    }

    /// Admits a caller to the database. Returns whether the call is the trial of an open breaker.
    ///
    /// # Errors
    /// If the database counts as away.
    pub(super) fn admit(&self) -> Result<bool, StoreError> {
        let mut breaker = lock(&self.breaker);
        if breaker.admit(Instant::now()) {
            Ok(breaker.is_open())
        } else {
            Err(StoreError::Away)
        }
    }

    /// Closes the breaker, because the database accepted a write.
    pub(super) fn close(&self) {
        let change = lock(&self.breaker).succeeded(Instant::now());
        if let Change::Closed(away_for) = change {
            DependencyBack {
                dependency: Dependency::Database,
                away_for,
            }
            .emit();
        }
    }

    /// Reports the outcome of work on a connection. A success does not close the breaker, because a read-only database
    /// answers reads: see [`close`](Self::close).
    pub(super) fn heard<T>(&self, outcome: &Result<T, StoreError>) {
        let mut breaker = lock(&self.breaker);
        let change = match outcome {
            Err(StoreError::ReadOnly(_)) => breaker.trip(Instant::now()),
            Err(error) if !error.was_answered() => breaker.failed(Instant::now()),
            _ => {
                breaker.answered();
                return;
            }
        };
        drop(breaker);
        if let Err(error) = outcome
            && change == Change::Opened
        {
            DependencyAway {
                dependency: Dependency::Database,
                error,
            }
            .emit();
        }
    }

    /// Marks the connections that exist now as stale.
    pub(super) fn outdate(&self) {
        *lock(&self.stale_before) = Some(Instant::now());
    }

    /// Returns whether a connection of this age is stale.
    pub(super) fn is_stale(&self, created: Instant) -> bool {
        lock(&self.stale_before).is_some_and(|before| created <= before)
    }

    /// Reports the outcome of a transaction that writes, with the time by which leases expire.
    pub(super) fn wrote<T>(&self, outcome: &Result<T, StoreError>, now: DateTime<Utc>) {
        if let Err(error) = outcome
            && error.kind() == FailureKind::Infrastructure
        {
            *lock(&self.impaired_at) = Some(now);
        }
    }

    /// Returns the time of the last write that the infrastructure failed; `None` if this process saw none.
    pub(super) fn impaired_at(&self) -> Option<DateTime<Utc>> {
        *lock(&self.impaired_at)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
