//! Makes the pooled connections of a database. `open` in `mod.rs` and the file of each database call it.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Manager};
use diesel::ConnectionResult;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};

use super::endpoint::Endpoint;
use super::error::StoreError;
use super::gate::Gate;
use super::pool::Pools;
use crate::config::StoreOptions;

/// The pools of a database whose connections are of type `C`.
pub(super) type PoolsOf<C> = Pools<AsyncDieselConnectionManager<C>>;

/// Creates the pools of a database that runs as a server, once the gate is open. `establish` takes the endpoint and
/// the [`lock_wait`].
pub(super) fn open_server<C, F>(
    options: &StoreOptions,
    gate: &Arc<Gate>,
    establish: impl Fn(Arc<Endpoint>, Duration) -> F + Send + Sync + 'static,
) -> Result<PoolsOf<C>, StoreError>
where
    C: PoolableConnection + 'static,
    F: Future<Output = ConnectionResult<C>> + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager,
{
    let lock_wait = lock_wait(options.timeout);
    let endpoint = Endpoint::server(options);
    let connections = connections(
        &options.url,
        options.max_connections,
        options.timeout,
        // Detects a connection that the server has closed before it is used.
        RecyclingMethod::Verified,
        move |_| establish(Arc::clone(&endpoint), lock_wait),
    )?;
    Ok(Pools::new(connections.clone(), connections, gate, true))
}

/// Creates a pool of at most `size` connections, each made by `establish` from the URL. `timeout` limits waiting for a
/// connection, making one and checking one.
pub(super) fn connections<C, F>(
    url: &str,
    size: usize,
    timeout: Duration,
    recycling: RecyclingMethod<C>,
    establish: impl Fn(String) -> F + Send + Sync + 'static,
) -> Result<managed::Pool<AsyncDieselConnectionManager<C>>, StoreError>
where
    C: PoolableConnection + 'static,
    F: Future<Output = ConnectionResult<C>> + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager,
{
    let mut config = ManagerConfig::default();
    config.recycling_method = recycling;
    config.custom_setup = Box::new(move |url| Box::pin(establish(url.to_owned())));
    managed::Pool::builder(AsyncDieselConnectionManager::new_with_config(url, config))
        .max_size(size)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .recycle_timeout(Some(timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Returns how long a statement may wait for a lock: half of the time of a call, so that the server answers with its
/// error code before the call times out. At least a second, which is MySQL's resolution.
pub(super) fn lock_wait(timeout: Duration) -> Duration {
    (timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(5))
}
