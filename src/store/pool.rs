//! Pools with a circuit breaker, which lend a connection for a limited time.
//!
//! Every operation of the store runs its work with the macros of `transact.rs`, which select the pool of the database.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Manager, Object, PoolError, TimeoutType};
use scopeguard::{ScopeGuard, guard};
use tokio::time::error::Elapsed;

use super::condition::{Condition, probe};
use super::error::StoreError;
use super::gate::Gate;
use super::schema::Schema;
use super::session::{Connected, Session};
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
    /// Creates pools over these connections. For `is_server`, see [`Pool`].
    pub(super) fn new(
        schema: &'static Schema,
        readers: managed::Pool<M>,
        writers: managed::Pool<M>,
        gate: &Arc<Gate>,
        is_server: bool,
    ) -> Self {
        let condition = Arc::new(Condition::new());
        let pool = |connections, asks_always| Pool {
            schema,
            connections,
            condition: Arc::clone(&condition),
            gate: Arc::clone(gate),
            asks_always,
            is_server,
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
        let pools = match self.readers.is_server {
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
    /// Whether the database is a server, which may close a connection, and whose work ends at its time limit. A database
    /// inside this process always answers, in the end.
    is_server: bool,
}

/// A lent connection. It is closed unless it is taken out: work that is cancelled may be in the middle of a statement or of
/// a transaction.
type Lent<M> = ScopeGuard<Connected<Object<M>>, fn(Connected<Object<M>>)>;

fn close<M: Manager>(lent: Connected<Object<M>>) {
    drop(Object::take(lent.connection));
}

/// Shows whether the server still has the other end of a connection.
const CHECK: &str = "SELECT 1";

/// Returns whether the connection was lent before, so that the server may have closed it since.
fn is_used<M: Manager>(connection: &Object<M>) -> bool {
    Object::metrics(connection).recycle_count > 0
}

impl<M> Pool<M>
where
    M: Manager<Error: Display>,
    Connected<Object<M>>: Session,
{
    /// Runs work on a lent connection, within about twice this time in total. A connection that does not answer in time, or
    /// whose caller is gone, is closed.
    ///
    /// Without a check, which costs a round trip, the server may have closed the connection since it was last used. Returns
    /// `None` if the server had closed it, which the first statement shows. Nothing was done then.
    pub(super) async fn run<T>(
        &self,
        timeout: Duration,
        is_checked: bool,
        work: impl AsyncFnOnce(&mut Connected<Object<M>>) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let mut lent = match self.lend(timeout, is_checked).await {
            Ok(lent) => lent,
            Err(error) => return Some(Err(error)),
        };
        let may_be_closed = self.is_server && !is_checked && is_used(&lent.connection);
        let outcome = self.bounded(timeout, work(&mut lent)).await;
        let outcome = outcome.unwrap_or(Err(StoreError::TimedOut(timeout)));
        let is_lost = matches!(outcome, Err(StoreError::Unavailable(_)));
        if is_lost && may_be_closed && !lent.has_answered {
            // Not reported: the next connection shows whether the server answers.
            return None;
        }
        if !outcome.as_ref().is_err_and(StoreError::ends_connection) {
            // Back into the pool.
            drop(ScopeGuard::into_inner(lent));
        }
        self.heard(&outcome);
        Some(outcome)
    }

    /// Runs work within its time limit.
    async fn bounded<F: Future>(&self, timeout: Duration, work: F) -> Result<F::Output, Elapsed> {
        if self.is_server {
            return tokio::time::timeout(timeout, work).await;
        }
        Ok(work.await)
    }

    /// Lends a connection. `timeout` limits the time for waiting, checking and connecting in total. While the database
    /// counts as away, it admits one caller at a time, and only if the connection accepts a write.
    async fn lend(&self, timeout: Duration, check: bool) -> Result<Lent<M>, StoreError> {
        self.gate.pass()?;
        let is_trial = !self.asks_always && self.condition.admit()?;
        let mut lent = match tokio::time::timeout(timeout, self.take(check || is_trial)).await {
            Ok(Ok(lent)) => lent,
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
        if is_trial {
            let probed = self.bounded(timeout, probe(&mut *lent)).await;
            let probed = probed.unwrap_or(Err(StoreError::TimedOut(timeout)));
            self.heard(&probed);
            probed?;
            self.condition.close();
        }
        Ok(lent)
    }

    /// Takes a connection from the pool, but none to a server that was read-only, and with a check none that the server has
    /// closed.
    async fn take(&self, check: bool) -> Result<Lent<M>, PoolError<M::Error>> {
        loop {
            let connection = self.connections.get().await?;
            let created = Object::metrics(&connection).created;
            let check = check && self.is_server && is_used(&connection);
            let mut lent: Lent<M> = guard(Connected::new(connection, self.schema), close);
            if !self.condition.is_stale(created) && (!check || lent.batch(CHECK).await.is_ok()) {
                return Ok(lent);
            }
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
