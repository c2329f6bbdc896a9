//! Pools with a circuit breaker: connections on loan, each for a bounded time.
//!
//! Every operation of the store runs its work with [`read!`](super::read) or [`transact!`](super::transact), which
//! find the pool of the database at hand.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use deadpool::managed::{self, Manager, Object, PoolError, TimeoutType};
use tokio::time::error::Elapsed;

use super::error::StoreError;
use super::gate::Gate;
use super::schema::Schema;
use super::session::{Connected, Mode, Session};
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

/// Makes `size` connections at the most, and gives up on one that cannot be had in time.
pub(super) fn connections<M: Manager>(
    manager: M,
    size: usize,
    timeout: Duration,
) -> Result<managed::Pool<M>, StoreError> {
    managed::Pool::builder(manager)
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
const PROBE: &str = "DELETE FROM likewise_retention WHERE 1 = 0";

/// Tries a write.
///
/// # Errors
/// If the database accepts none. One that is only busy accepts writes.
pub(super) async fn probe<S: Session>(session: &mut S) -> Result<(), StoreError> {
    match session.batch(&session.schema().named(PROBE)).await {
        Err(StoreError::Busy(_)) => Ok(()),
        probed => probed,
    }
}

/// What all connections to one database share.
pub(super) struct Condition {
    breaker: Mutex<Breaker>,
    /// Connections that are older belong to a server that was read-only.
    stale_before: Mutex<Option<Instant>>,
    /// When a write last failed because of the infrastructure.
    impaired_at: Mutex<Option<DateTime<Utc>>>,
}

impl Condition {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            breaker: Mutex::new(Breaker::new(BREAKER)),
            stale_before: Mutex::default(),
            impaired_at: Mutex::default(),
        })
    }

    /// Takes note that the database accepts writes: it no longer counts as away.
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

    /// Takes note of how it went with a transaction that writes, by the clock that leases go by.
    pub(super) fn wrote<T>(&self, outcome: &Result<T, StoreError>, now: DateTime<Utc>) {
        if let Err(error) = outcome
            && error.kind() == FailureKind::Infrastructure
        {
            *lock(&self.impaired_at) = Some(now);
        }
    }

    /// When a write last failed because of the infrastructure, as far as this process knows.
    pub(super) fn impaired_at(&self) -> Option<DateTime<Utc>> {
        *lock(&self.impaired_at)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pools of one database.
pub(super) struct Pools<M: Manager> {
    /// For what only reads.
    pub(super) readers: Pool<M>,
    /// For transactions that write; may be the same connections.
    pub(super) writers: Pool<M>,
    /// Lends also while the database counts as away, to find out.
    pub(super) prober: Pool<M>,
    /// What they share.
    pub(super) condition: Arc<Condition>,
}

impl<M: Manager> Clone for Pools<M> {
    fn clone(&self) -> Self {
        Self {
            readers: self.readers.clone(),
            writers: self.writers.clone(),
            prober: self.prober.clone(),
            condition: Arc::clone(&self.condition),
        }
    }
}

impl<M: Manager> Pools<M> {
    /// Pools over these connections. `gives_up` says whether work may be given up half-way: see [`Pool`].
    pub(super) fn new(
        schema: &'static Schema,
        readers: managed::Pool<M>,
        writers: managed::Pool<M>,
        gate: &Arc<Gate>,
        gives_up: bool,
    ) -> Self {
        let condition = Condition::new();
        let pool = |connections, asks_always| Pool {
            schema,
            connections,
            condition: Arc::clone(&condition),
            gate: Arc::clone(gate),
            asks_always,
            gives_up,
        };
        Self {
            prober: pool(readers.clone(), true),
            readers: pool(readers, false),
            writers: pool(writers, false),
            condition,
        }
    }
}

/// Lends connections while the database is there.
pub(super) struct Pool<M: Manager> {
    schema: &'static Schema,
    connections: managed::Pool<M>,
    pub(super) condition: Arc<Condition>,
    gate: Arc<Gate>,
    /// Lends even while the database counts as away, to find out.
    asks_always: bool,
    /// Whether work may be given up half-way. Where the database runs in this process, there is nobody who
    /// could fail to answer, and diesel-async cannot roll a transaction back on this runtime.
    gives_up: bool,
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            schema: self.schema,
            connections: self.connections.clone(),
            condition: Arc::clone(&self.condition),
            gate: Arc::clone(&self.gate),
            asks_always: self.asks_always,
            gives_up: self.gives_up,
        }
    }
}

impl<M> Pool<M>
where
    M: Manager<Error: Display>,
    Connected<Object<M>>: Session,
{
    /// Runs work on a lent connection, all together within about twice this time. A connection that does not
    /// answer in time is dropped: it may be in the middle of a transaction, and must not go back like that.
    pub(super) async fn run<T>(
        &self,
        timeout: Duration,
        work: impl AsyncFnOnce(&mut Connected<Object<M>>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lent = self.lend(timeout).await?;
        let outcome = self.bounded(timeout, work(&mut lent)).await;
        let outcome = outcome.unwrap_or(Err(StoreError::TimedOut(timeout)));
        if let Err(error) = &outcome
            && error.ends_connection()
        {
            drop(Object::take(lent.connection));
        }
        self.heard(&outcome);
        outcome
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

    /// Lends a connection. To wait for one, to try it and to make another takes no longer than this all
    /// together. While the database counts as away, only one caller at a time gets that far, and only if
    /// the connection accepts a write.
    pub(super) async fn lend(&self, timeout: Duration) -> Result<Connected<Object<M>>, StoreError> {
        self.gate.pass()?;
        let is_trial = {
            let mut breaker = lock(&self.condition.breaker);
            if !self.asks_always && !breaker.admit(Instant::now()) {
                return Err(StoreError::Away);
            }
            breaker.is_open() && !self.asks_always
        };
        let connection = match tokio::time::timeout(timeout, self.take()).await {
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
        let mut lent = Connected {
            connection,
            schema: self.schema,
        };
        if is_trial {
            let probed = self.bounded(timeout, probe(&mut lent)).await;
            let probed = probed.unwrap_or(Err(StoreError::TimedOut(timeout)));
            self.heard(&probed);
            if let Err(error) = probed
                && !error.was_answered()
            {
                drop(Object::take(lent.connection));
                return Err(error);
            }
            self.condition.close();
        }
        Ok(lent)
    }

    /// Takes a connection from the pool, but none to a server that was found read-only.
    async fn take(&self) -> Result<Object<M>, PoolError<M::Error>> {
        loop {
            let connection = self.connections.get().await?;
            let stale_before = *lock(&self.condition.stale_before);
            if stale_before.is_none_or(|before| Object::metrics(&connection).created > before) {
                return Ok(connection);
            }
            drop(Object::take(connection));
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
                self.connections.retain(|_, _| false);
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
}

/// Runs `$work` on a connection of the store that reads: `read!(self, timeout, |session| thing(session, ...))`.
macro_rules! read {
    ($store:expr, $timeout:expr, |$session:ident| $work:expr) => {
        $crate::store::pool::on!($store, readers, $timeout, |$session| $work)
    };
}

/// Runs `$work` on a connection of one of the store's pools.
macro_rules! on {
    ($store:expr, $pool:ident, $timeout:expr, |$session:ident| $work:expr) => {
        match &$store.backend {
            $crate::store::Backend::Sqlite(pools) => {
                pools
                    .$pool
                    .run($timeout, async |$session| $work.await)
                    .await
            }
            $crate::store::Backend::Mysql(pools) => {
                pools
                    .$pool
                    .run($timeout, async |$session| $work.await)
                    .await
            }
            $crate::store::Backend::Postgres(pools) => {
                pools
                    .$pool
                    .run($timeout, async |$session| $work.await)
                    .await
            }
        }
    };
}

/// Runs `$work` in a transaction that writes: `transact!(self, |session| thing(session, ...))`. Runs it again if a
/// deadlock, a lost connection or the like ended it, all together within the store's timeout. Every such
/// transaction may run twice: what it finds done already it leaves as it is.
macro_rules! transact {
    ($store:expr, |$session:ident| $work:expr) => {{
        let mut attempts = $crate::store::pool::Attempts::within($store.timeout);
        let outcome = loop {
            let outcome = $crate::store::pool::on!($store, writers, attempts.left(), |$session| {
                $crate::store::pool::in_transaction($session, async |$session| $work.await)
            });
            if let Some(outcome) = attempts.last(outcome).await {
                break outcome;
            }
        };
        $store.wrote(&outcome);
        outcome
    }};
}

pub(super) use on;
pub(super) use read;
pub(super) use transact;

/// Runs work in a transaction that writes.
pub(super) async fn in_transaction<S: Session, T: Send>(
    session: &mut S,
    work: impl AsyncFnOnce(&mut S) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    session.begin(Mode::Write).await?;
    let outcome = work(session).await;
    session.end(outcome).await
}

/// The attempts at one transaction.
pub(super) struct Attempts {
    timeout: Duration,
    deadline: Instant,
    made: u32,
}

impl Attempts {
    /// Attempts that take no longer than this all together.
    pub(super) fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            made: 0,
        }
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Takes the outcome of an attempt. Returns it if it is final; otherwise waits for the next attempt.
    pub(super) async fn last<T>(
        &mut self,
        outcome: Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        self.made += 1;
        let wait = BACKOFF.draw(self.made);
        match outcome {
            Err(error)
                if worth_another(&error, self.made) && Instant::now() + wait < self.deadline =>
            {
                tokio::time::sleep(wait).await;
                None
            }
            Err(StoreError::TimedOut(_)) => Some(Err(StoreError::TimedOut(self.timeout))),
            outcome => Some(outcome),
        }
    }
}

/// The waits between the attempts of one transaction.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(20),
    cap: Duration::from_millis(200),
};

/// Whether a transaction that failed so often is tried again at once. One that ran out of time is not:
/// whoever waits for it has waited long enough.
fn worth_another(error: &StoreError, attempts: u32) -> bool {
    let passing = matches!(error, StoreError::Busy(_) | StoreError::Unavailable(_));
    passing && attempts < 4
}
