//! Connections on loan from a pool, each for a bounded time.

use std::fmt::Display;
use std::time::Duration;

use deadpool::managed::{Manager, Object, Pool};

use super::error::StoreError;

/// How long `verify` may read: it looks at everything.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

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

/// Lends a connection.
pub(super) async fn lend<M: Manager<Error: Display>>(
    pool: &Pool<M>,
) -> Result<Object<M>, StoreError> {
    pool.get()
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Runs `$work` on a connection lent from `$pool`. One that does not answer in time is dropped: it may
/// be in the middle of a transaction, and must not go back to the pool like that.
macro_rules! within {
    ($pool:expr, $timeout:expr, |$connection:ident| $work:expr) => {
        Box::pin(async move {
            let mut lent = $crate::store::connection::lend($pool).await?;
            let outcome = tokio::time::timeout($timeout, async {
                let $connection = &mut *lent;
                $work.await
            })
            .await;
            outcome.unwrap_or_else(|_| {
                drop(deadpool::managed::Object::take(lent));
                Err(StoreError::TimedOut($timeout))
            })
        })
    };
}

pub(super) use within;
