//! Connections on loan from a pool, each for a bounded time.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use deadpool::managed::{Manager, Object, Pool, PoolError, TimeoutType};
use diesel_async::SimpleAsyncConnection;
use tokio::time::error::Elapsed;

use super::codes::Explain;
use super::error::StoreError;
use super::migrate::Gate;
use crate::domain::{Backoff, Breaker, BreakerPolicy, Change, FailureKind};
use crate::telemetry::{Dependency, DependencyAway, DependencyBack};

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

/// How long a statement may wait for a lock: half of what one call may take, so that the server answers with
/// its code before the call is given up. A second at least, which is as finely as MySQL counts.
pub(super) fn lock_wait(timeout: Duration) -> Duration {
    (timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// When the database counts as away.
const BREAKER: BreakerPolicy = BreakerPolicy {
    failures: 3,
    open_for: Duration::from_millis(500),
    open_for_at_most: Duration::from_secs(2),
};

/// A write that changes no row: it shows whether the database accepts writes, and costs as much as a ping. A
/// read would succeed on a replica.
const PROBE: &str = "DELETE FROM retention WHERE 1 = 0";

/// What all connections to one database share.
pub(super) struct Condition {
    breaker: Mutex<Breaker>,
    /// Connections that are older belong to a server that was read-only.
    stale_before: Mutex<Option<Instant>>,
    /// When a write last failed because of the infrastructure.
    impaired_at: Mutex<Option<DateTime<Utc>>>,
}

impl Condition {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            breaker: Mutex::new(Breaker::new(BREAKER)),
            stale_before: Mutex::default(),
            impaired_at: Mutex::default(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lends connections while the database is there.
pub(super) struct Lender<M: Manager> {
    pool: Pool<M>,
    condition: Arc<Condition>,
    gate: Arc<Gate>,
    /// Lends even while the database counts as away, to find out.
    asks_always: bool,
    /// Whether work may be given up half-way.
    gives_up: bool,
}

impl<M> Lender<M>
where
    M: Manager<Error: Display, Type: SimpleAsyncConnection + Explain + Send>,
{
    pub(super) fn new(pool: Pool<M>, condition: &Arc<Condition>, gate: &Arc<Gate>) -> Self {
        Self {
            pool,
            condition: Arc::clone(condition),
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
            condition: Arc::clone(&self.condition),
            gate: Arc::clone(&self.gate),
            asks_always: true,
            gives_up: self.gives_up,
        }
    }

    /// Lends a connection. To wait for one, to try it and to make another takes no longer than this all
    /// together. While the database counts as away, only one caller at a time gets that far, and only if
    /// the connection accepts a write.
    pub(super) async fn lend(&self, timeout: Duration) -> Result<Object<M>, StoreError> {
        self.gate.pass()?;
        let is_trial = {
            let mut breaker = lock(&self.condition.breaker);
            if !self.asks_always && !breaker.admit(Instant::now()) {
                return Err(StoreError::Away);
            }
            breaker.is_open() && !self.asks_always
        };
        let mut connection = match tokio::time::timeout(timeout, self.take()).await {
            Ok(Ok(connection)) => connection,
            // That all connections are lent does not say that the database is away.
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) | Err(_) => {
                return Err(StoreError::TimedOut(timeout));
            }
            Ok(Err(error)) => {
                let error = match error {
                    PoolError::Timeout(_) => StoreError::TimedOut(timeout),
                    error => StoreError::Unavailable(error.to_string()),
                };
                self.heard(&Err::<(), _>(error.clone()));
                return Err(error);
            }
        };
        if is_trial {
            let probed = self.bounded(timeout, self.probe(&mut connection)).await;
            let probed = probed.unwrap_or(Err(StoreError::TimedOut(timeout)));
            self.heard(&probed);
            if let Err(error) = probed
                && !error.was_answered()
            {
                drop(Object::take(connection));
                return Err(error);
            }
            self.close();
        }
        Ok(connection)
    }

    /// Takes a connection from the pool, but none to a server that was found read-only.
    async fn take(&self) -> Result<Object<M>, PoolError<M::Error>> {
        loop {
            let connection = self.pool.get().await?;
            let stale_before = *lock(&self.condition.stale_before);
            if stale_before.is_none_or(|before| Object::metrics(&connection).created > before) {
                return Ok(connection);
            }
            drop(Object::take(connection));
        }
    }

    /// Tries a write on a lent connection.
    ///
    /// # Errors
    /// If the database accepts none. One that is only busy accepts writes.
    pub(super) async fn probe(&self, connection: &mut M::Type) -> Result<(), StoreError> {
        match connection.batch_execute(PROBE).await {
            Ok(()) => Ok(()),
            Err(error) => match connection.explain(error).await {
                StoreError::Busy(_) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Takes note that the database accepts writes: it no longer counts as away.
    pub(super) fn close(&self) {
        let change = lock(&self.condition.breaker).succeeded(Instant::now());
        if let Change::Closed(away_for) = change {
            DependencyBack {
                dependency: Dependency::Database,
                away_for,
            }
            .emit();
        }
    }

    /// Takes note of how it went with a connection. A success does not show that a database which was found
    /// read-only accepts writes again: see [`close`](Self::close).
    pub(super) fn heard<T>(&self, outcome: &Result<T, StoreError>) {
        let now = Instant::now();
        let change = match outcome {
            Err(error) if error.was_answered() => {
                lock(&self.condition.breaker).answered();
                return;
            }
            Ok(_) => {
                lock(&self.condition.breaker).answered();
                return;
            }
            Err(StoreError::ReadOnly(_)) => {
                *lock(&self.condition.stale_before) = Some(now);
                self.pool.retain(|_, _| false);
                lock(&self.condition.breaker).trip(now)
            }
            Err(_) => lock(&self.condition.breaker).failed(now),
        };
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

    /// Takes note of how it went with a transaction that writes, by the clock that leases go by.
    pub(super) fn wrote<T>(&self, outcome: &Result<T, StoreError>, now: DateTime<Utc>) {
        if let Err(error) = outcome
            && error.kind() == FailureKind::Infrastructure
        {
            *lock(&self.condition.impaired_at) = Some(now);
        }
    }

    /// When a write last failed because of the infrastructure, as far as this process knows.
    pub(super) fn impaired_at(&self) -> Option<DateTime<Utc>> {
        *lock(&self.condition.impaired_at)
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
            let outcome = outcome.unwrap_or(Err(StoreError::TimedOut($timeout)));
            if let Err(error) = &outcome
                && error.ends_connection()
            {
                drop(deadpool::managed::Object::take(lent));
            }
            $lender.heard(&outcome);
            outcome
        })
    };
}

/// Runs `$work` in a transaction on this connection.
macro_rules! in_transaction {
    ($begin:ident, $connection:ident, $work:expr) => {{
        let outcome = $connection
            .$begin(async |$connection| Ok::<_, Raised>($work.await?))
            .await;
        match outcome {
            Ok(done) => Ok(done),
            Err(raised) => Err(raised.explained_by($connection).await),
        }
    }};
}

/// Runs `$work` in a transaction that writes, and again if a deadlock, a lost connection or the like ended
/// it, all together within the store's timeout. Every such transaction may run twice: what it finds done
/// already it leaves as it is.
macro_rules! transact {
    ($store:ident, $begin:ident, |$connection:ident| $work:expr) => {
        Box::pin(async move {
            let mut attempts = 0;
            let deadline = std::time::Instant::now() + $store.timeout;
            let outcome = loop {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                let outcome = within!(&$store.writers, left, |$connection| async {
                    in_transaction!($begin, $connection, $work)
                })
                .await;
                attempts += 1;
                let wait = $crate::store::connection::BACKOFF.draw(attempts);
                match outcome {
                    Err(error)
                        if $crate::store::connection::worth_another(&error, attempts)
                            && std::time::Instant::now() + wait < deadline =>
                    {
                        tokio::time::sleep(wait).await;
                    }
                    Err(StoreError::TimedOut(_)) => {
                        break Err(StoreError::TimedOut($store.timeout));
                    }
                    outcome => break outcome,
                }
            };
            $store
                .writers
                .wrote(&outcome, $crate::store::Store::now($store));
            outcome
        })
    };
}

pub(super) use in_transaction;
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
