//! Makes the pooled connections of a database. `open` in `mod.rs` and the file of each database call it.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Hook, HookError, Manager, QueueMode};
use diesel::ConnectionResult;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};

use super::endpoint::Endpoint;
use super::error::StoreError;
use super::gate::Gate;
use super::pool::Pools;
use super::schema::Schema;
use crate::config::StoreOptions;

/// The pools of a database whose connections are of type `C`.
pub(super) type PoolsOf<C> = Pools<AsyncDieselConnectionManager<C>>;

/// How long ago a connection to a server may have been lent last. A firewall or a NAT gateway may drop the state of an idle
/// connection without a word, and then the next statement waits until its time limit.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// How long a server keeps a session that sends nothing, at least. It is longer than the pool lends an idle connection.
const IDLE_SESSION: Duration = Duration::from_secs(90);

/// The time limits of a session on a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    /// How long a statement waits for a lock: see [`lock_wait`].
    pub(super) lock_wait: Duration,
    /// How long a transaction waits for its next statement. Then the server ends it, so that a process that hangs, or
    /// whose host is lost, does not keep its locks. A call of ours has timed out long before.
    pub(super) idle_in_transaction: Duration,
    /// How long a session waits for its next statement, in a transaction or not.
    pub(super) idle: Duration,
}

impl SessionLimits {
    /// Returns the limits of sessions for calls with this time limit.
    fn of(timeout: Duration) -> Self {
        let idle_in_transaction = 2 * timeout;
        Self {
            lock_wait: lock_wait(timeout),
            idle_in_transaction,
            idle: IDLE_SESSION.max(idle_in_transaction),
        }
    }
}

/// Creates the pools of a database that runs as a server, once the gate is open. `establish` takes the endpoint and
/// the limits of a session.
pub(super) fn open_server<C, F>(
    schema: &'static Schema,
    options: &StoreOptions,
    gate: &Arc<Gate>,
    establish: impl Fn(Arc<Endpoint>, SessionLimits) -> F + Send + Sync + 'static,
) -> Result<PoolsOf<C>, StoreError>
where
    C: PoolableConnection + 'static,
    F: Future<Output = ConnectionResult<C>> + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager,
{
    let limits = SessionLimits::of(options.timeout);
    let endpoint = Endpoint::server(options);
    let connections = connections(
        &options.url,
        options.max_connections,
        options.timeout,
        LONGEST_IDLE,
        move |_| establish(Arc::clone(&endpoint), limits),
    )?;
    Ok(Pools::new(
        schema,
        connections.clone(),
        connections,
        gate,
        true,
    ))
}

/// Creates a pool of at most `size` connections, each made by `establish` from the URL. `timeout` limits waiting for a
/// connection and making one. A connection is closed instead of being lent again this long after it was lent last.
pub(super) fn connections<C, F>(
    url: &str,
    size: usize,
    timeout: Duration,
    longest_idle: Duration,
    establish: impl Fn(String) -> F + Send + Sync + 'static,
) -> Result<managed::Pool<AsyncDieselConnectionManager<C>>, StoreError>
where
    C: PoolableConnection + 'static,
    F: Future<Output = ConnectionResult<C>> + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager,
{
    let mut config = ManagerConfig::default();
    // Our own pool finds out whether the server has closed a connection: see `Pool::run`.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| Box::pin(establish(url.to_owned())));
    let refuse_idle = Hook::<AsyncDieselConnectionManager<C>>::sync_fn(move |_, metrics| {
        if metrics.last_used() >= longest_idle {
            return Err(HookError::message("idle for too long"));
        }
        Ok(())
    });
    managed::Pool::builder(AsyncDieselConnectionManager::new_with_config(url, config))
        .max_size(size)
        // The connection that was used last has the warmest caches, here and in the server.
        .queue_mode(QueueMode::Lifo)
        // The pool closes a refused connection and takes the next one, or makes one.
        .pre_recycle(refuse_idle)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Returns how long a statement may wait for a lock: half of the time of a call, so that the server answers with its
/// error code before the call times out. At least a second, which is MySQL's resolution.
pub(super) fn lock_wait(timeout: Duration) -> Duration {
    (timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use deadpool::managed::Object;
    use diesel::{Connection, SqliteConnection};
    use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

    use super::*;

    #[test]
    fn connection_idle_for_too_long_is_not_lent_again() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        for (longest_idle, expected) in [(Duration::ZERO, 0), (LONGEST_IDLE, 1)] {
            let establish = |path: String| async move {
                SqliteConnection::establish(&path).map(SyncConnectionWrapper::new)
            };
            let pool = connections::<SyncConnectionWrapper<SqliteConnection>, _>(
                ":memory:",
                1,
                Duration::from_secs(10),
                longest_idle,
                establish,
            )
            .expect("a pool");
            let reused = runtime.block_on(async {
                drop(pool.get().await.expect("a connection"));
                let connection = pool.get().await.expect("a connection");
                Object::metrics(&connection).recycle_count
            });
            assert_eq!(reused, expected, "{longest_idle:?}");
        }
    }
}
