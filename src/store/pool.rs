//! Pools with a circuit breaker, which lend a connection for a limited time.
//!
//! Every operation of the store runs its work with [`read!`](super::read) or [`transact!`](super::transact), which
//! select the pool of the database.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Manager, Object, PoolError, TimeoutType};
use futures_util::FutureExt;
use tokio::time::error::Elapsed;

use super::condition::{Condition, probe};
use super::error::StoreError;
use super::gate::Gate;
use super::schema::Schema;
use super::session::{Connected, Mode, Session};
use crate::domain::Backoff;
use crate::telemetry::PoolUse;

/// The time limit of `verify`, which reads every row.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The time limit of a search.
pub(super) const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit for creating a job with its snapshot.
pub(super) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// The time limit of one transaction of an import.
pub(super) const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// The time limit of one chunk of an audit, as a multiple of that of other calls.
pub(super) const INSPECT_TIMEOUTS: u32 = 4;

/// The pools of one database.
pub(super) struct Pools<M: Manager> {
    /// For work that only reads.
    pub(super) readers: Pool<M>,
    /// For transactions that write; may use the same connections.
    pub(super) writers: Pool<M>,
    /// For probes: lends a connection even while the database counts as away.
    pub(super) prober: Pool<M>,
    /// The condition of the database, which the pools share.
    pub(super) condition: Arc<Condition>,
}

impl<M: Manager> Pools<M> {
    /// Creates pools over these connections. For `gives_up`, see [`Pool`].
    pub(super) fn new(
        schema: &'static Schema,
        readers: managed::Pool<M>,
        writers: managed::Pool<M>,
        gate: &Arc<Gate>,
        gives_up: bool,
    ) -> Self {
        let condition = Arc::new(Condition::new());
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

impl<M: Manager> Pools<M> {
    /// Returns the use of the pools.
    pub(super) fn used(&self) -> Vec<PoolUse> {
        let pools = match self.readers.gives_up {
            true => vec![("all", &self.readers)],
            false => vec![("readers", &self.readers), ("writers", &self.writers)],
        };
        pools
            .into_iter()
            .map(|(name, pool)| {
                let status = pool.connections.status();
                PoolUse {
                    pool: name,
                    most: status.max_size,
                    open: status.size,
                    idle: status.available,
                    waiting: status.waiting,
                }
            })
            .collect()
    }
}

/// Lends connections while the database is reachable.
pub(super) struct Pool<M: Manager> {
    schema: &'static Schema,
    connections: managed::Pool<M>,
    pub(super) condition: Arc<Condition>,
    gate: Arc<Gate>,
    /// Lends even while the database counts as away.
    asks_always: bool,
    /// Whether work may be cancelled at its time limit. A database inside this process always answers, and there
    /// diesel-async cannot roll back a cancelled transaction on this runtime.
    gives_up: bool,
}

impl<M> Pool<M>
where
    M: Manager<Error: Display>,
    Connected<Object<M>>: Session,
{
    /// Runs work on a lent connection, within about twice this time in total. A connection that does not answer in time
    /// is dropped, because it may be inside a transaction.
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

    /// Runs work within its time limit.
    async fn bounded<F: Future>(&self, timeout: Duration, work: F) -> Result<F::Output, Elapsed> {
        if self.gives_up {
            return tokio::time::timeout(timeout, work).await;
        }
        Ok(work.await)
    }

    /// Lends a connection. `timeout` limits the time for waiting, checking and connecting in total. While the database
    /// counts as away, it admits one caller at a time, and only if the connection accepts a write.
    async fn lend(&self, timeout: Duration) -> Result<Connected<Object<M>>, StoreError> {
        self.gate.pass()?;
        let is_trial = !self.asks_always && self.condition.admit()?;
        let connection = match tokio::time::timeout(timeout, self.take()).await {
            Ok(Ok(connection)) => connection,
            // The database may answer although all connections are lent.
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

    /// Takes a connection from the pool, but none to a server that was read-only.
    async fn take(&self) -> Result<Object<M>, PoolError<M::Error>> {
        loop {
            let connection = self.connections.get().await?;
            if !self
                .condition
                .is_stale(Object::metrics(&connection).created)
            {
                return Ok(connection);
            }
            drop(Object::take(connection));
        }
    }

    /// Reports the outcome of work on a connection. After a read-only answer, no connection is used again.
    fn heard<T>(&self, outcome: &Result<T, StoreError>) {
        if let Err(StoreError::ReadOnly(_)) = outcome {
            self.condition.outdate();
            self.connections.retain(|_, _| false);
        }
        self.condition.heard(outcome);
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
/// deadlock, a lost connection or the like ended it, within the store's timeout in total, or another one:
/// `transact!(self, timeout, |session| ...)`. The work must be idempotent.
macro_rules! transact {
    ($store:expr, |$session:ident| $work:expr) => {
        $crate::store::pool::transact!($store, $store.timeout, |$session| $work)
    };
    ($store:expr, $timeout:expr, |$session:ident| $work:expr) => {
        $crate::store::pool::retried!($store, $timeout, |left| {
            $crate::store::pool::on!($store, writers, left, |$session| {
                $crate::store::pool::in_transaction($session, async |$session| $work.await)
            })
        })
    };
}

/// As [`transact!`], for work on inputs that it owns: `transact_owned!(self, timeout, inputs, |session, inputs| thing(session,
/// inputs))`. On SQLite a whole attempt runs in one blocking task, where other work needs a task for each statement.
macro_rules! transact_owned {
    ($store:expr, $timeout:expr, $owned:expr, |$session:ident, $inputs:ident| $work:expr) => {{
        let owned = ::std::sync::Arc::new($owned);
        if let $crate::store::Backend::Sqlite(pools) = &$store.backend {
            $crate::store::pool::retried!($store, $timeout, |left| {
                let owned = ::std::sync::Arc::clone(&owned);
                let work = move |session: &mut $crate::store::sqlite::Blocking<'_>| {
                    let $inputs = &*owned;
                    $crate::store::pool::ready($crate::store::pool::in_transaction(
                        session,
                        async |$session| $work.await,
                    ))
                };
                pools
                    .writers
                    .run(left, async move |lent| lent.blocking(work).await)
                    .await
            })
        } else {
            let $inputs = &*owned;
            $crate::store::pool::transact!($store, $timeout, |$session| $work)
        }
    }};
}

/// Repeats an attempt, which gets the time that is left, as [`transact!`] says.
macro_rules! retried {
    ($store:expr, $timeout:expr, |$left:ident| $attempt:expr) => {{
        let mut attempts = $crate::store::pool::Attempts::within($timeout);
        let outcome = loop {
            let $left = attempts.left();
            let outcome = $attempt;
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
pub(super) use retried;
pub(super) use transact;
pub(super) use transact_owned;

/// Returns the output of work on a [`Blocking`](super::sqlite::Blocking) session, which never waits.
pub(super) fn ready<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never()
        .unwrap_or_else(|| unreachable!("a blocking session answers at once"))
}

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
    /// The error of the attempt before this one.
    earlier: Option<StoreError>,
}

impl Attempts {
    /// Allows attempts within this time in total.
    pub(super) fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            made: 0,
            earlier: None,
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
                self.earlier = Some(error);
                tokio::time::sleep(wait).await;
                None
            }
            // The attempt before opened the breaker, and may have committed.
            Err(StoreError::Away) => Some(Err(self.earlier.take().unwrap_or(StoreError::Away))),
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

/// Returns whether a transaction is tried again after this many failed attempts. A time-out ends it, because its caller
/// has waited long enough.
fn worth_another(error: &StoreError, attempts: u32) -> bool {
    let passing = matches!(error, StoreError::Busy(_) | StoreError::Unavailable(_));
    passing && attempts < 4
}
