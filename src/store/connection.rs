//! Connections on loan from a pool, each for a bounded time.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Object, Pool, PoolError, TimeoutType};
use tokio::time::error::Elapsed;

use super::error::StoreError;
use super::migrate::Gate;
use crate::domain::{Backoff, Breaker, BreakerPolicy, Change};
use crate::telemetry::{Part, PartAway, PartBack};

/// How long `verify` may read: it looks at everything.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a search may take.
pub(super) const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to make a job with its snapshot.
pub(super) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// How many times as long as another call one chunk of an audit may take.
pub(super) const INSPECT_TIMEOUTS: u32 = 4;

/// A pool that gives up on a connection which cannot be had in time.
pub(super) fn pool<M: Manager>(
    manager: M,
    size: usize,
    timeout: Duration,
) -> Result<Pool<M>, StoreError> {
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .recycle_timeout(Some(timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// When the database counts as away.
const BREAKER: BreakerPolicy = BreakerPolicy {
    failures: 3,
    open_for: Duration::from_millis(500),
    open_for_at_most: Duration::from_secs(2),
};

/// The breaker that all connections to one database share.
pub(super) fn breaker() -> Arc<Mutex<Breaker>> {
    Arc::new(Mutex::new(Breaker::new(BREAKER)))
}

/// Lends connections while the database is there.
pub(super) struct Lender<M: Manager> {
    pool: Pool<M>,
    breaker: Arc<Mutex<Breaker>>,
    gate: Arc<Gate>,
    /// Asks even while the database counts as away, to find out.
    asks_always: bool,
    /// Whether work may be given up half-way.
    gives_up: bool,
}

impl<M: Manager<Error: Display>> Lender<M> {
    pub(super) fn new(pool: Pool<M>, breaker: &Arc<Mutex<Breaker>>, gate: &Arc<Gate>) -> Self {
        Self {
            pool,
            breaker: Arc::clone(breaker),
            gate: Arc::clone(gate),
            asks_always: false,
            gives_up: true,
        }
    }

    /// Never gives up work that has begun: where the database runs in this process, there is nobody who
    /// could fail to answer, and diesel-async cannot take a transaction back on this runtime.
    pub(super) const fn never_giving_up(mut self) -> Self {
        self.gives_up = false;
        self
    }

    /// Runs work on a lent connection within its time.
    pub(super) async fn bounded<F: Future>(
        &self,
        timeout: Duration,
        work: F,
    ) -> Result<F::Output, Elapsed> {
        if self.gives_up {
            return tokio::time::timeout(timeout, work).await;
        }
        Ok(work.await)
    }

    /// Lends from the same pool, also while the database counts as away.
    pub(super) fn asking_always(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            breaker: Arc::clone(&self.breaker),
            gate: Arc::clone(&self.gate),
            asks_always: true,
            gives_up: self.gives_up,
        }
    }

    /// Lends a connection. To wait for one, to try it and to make another takes no longer than this all
    /// together.
    pub(super) async fn lend(&self, timeout: Duration) -> Result<Object<M>, StoreError> {
        self.gate.pass()?;
        if !self.asks_always && !self.lock_breaker().admit(Instant::now()) {
            return Err(StoreError::Away);
        }
        match tokio::time::timeout(timeout, self.pool.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            // That all connections are lent does not say that the database is away.
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => Err(StoreError::TimedOut(timeout)),
            Ok(Err(PoolError::Timeout(_))) => {
                self.failed();
                Err(StoreError::TimedOut(timeout))
            }
            Err(_) => Err(StoreError::TimedOut(timeout)),
            Ok(Err(error)) => {
                self.failed();
                Err(StoreError::Unavailable(error.to_string()))
            }
        }
    }

    /// Takes note of how it went with a connection.
    pub(super) fn heard<T>(&self, outcome: &Result<T, StoreError>) {
        match outcome {
            Err(StoreError::NotReady(_)) => {}
            Err(error) if !error.was_answered() => self.failed(),
            _ => {
                let change = self.lock_breaker().succeeded(Instant::now());
                if let Change::Closed(away_for) = change {
                    PartBack {
                        part: Part::Database,
                        away_for,
                    }
                    .emit();
                }
            }
        }
    }

    fn failed(&self) {
        if self.lock_breaker().failed(Instant::now()) == Change::Opened {
            PartAway {
                part: Part::Database,
            }
            .emit();
        }
    }

    fn lock_breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `$work` on a connection that `$lender` lends. One that does not answer in time is dropped: it may
/// be in the middle of a transaction, and must not go back to the pool like that.
macro_rules! within {
    ($lender:expr, $timeout:expr, |$connection:ident| $work:expr) => {
        Box::pin(async move {
            let mut lent = $lender.lend($timeout).await?;
            let work = async {
                let $connection = &mut *lent;
                $work.await
            };
            let outcome = $lender.bounded($timeout, work).await;
            let outcome = outcome.unwrap_or_else(|_| {
                drop(deadpool::managed::Object::take(lent));
                Err(StoreError::TimedOut($timeout))
            });
            $lender.heard(&outcome);
            outcome
        })
    };
}

/// Runs `$work` in a transaction that writes, and again if a deadlock, a lost connection or the like ended
/// it. Every such transaction may run twice: what it finds done already it leaves as it is.
macro_rules! transact {
    ($store:ident, $begin:ident, |$connection:ident| $work:expr) => {
        Box::pin(async move {
            let mut attempts = 0;
            loop {
                let outcome = within!(&$store.writers, $store.timeout, |$connection| async {
                    $connection.$begin(async |$connection| $work.await).await
                })
                .await;
                attempts += 1;
                match outcome {
                    Err(error) if $crate::store::connection::worth_another(&error, attempts) => {
                        tokio::time::sleep($crate::store::connection::BACKOFF.draw(attempts)).await;
                    }
                    outcome => return outcome,
                }
            }
        })
    };
}

pub(super) use transact;
pub(super) use within;

/// The waits between the attempts of one transaction.
pub(super) const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(20),
    cap: Duration::from_millis(200),
};

/// Whether a transaction that failed so often is tried again at once. One that ran out of time is not:
/// whoever waits for it has waited long enough.
pub(super) fn worth_another(error: &StoreError, attempts: u32) -> bool {
    let passing = matches!(error, StoreError::Busy(_) | StoreError::Unavailable(_));
    passing && attempts < 4
}
