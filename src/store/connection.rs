//! Connections on loan from a pool, each for a bounded time.

use std::fmt::Display;
use std::time::Duration;

use deadpool::managed::{Manager, Object, Pool, PoolError};

use super::error::StoreError;
use crate::domain::Backoff;

/// How long `verify` may read: it looks at everything.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long an audit may read in one chunk.
pub(super) const INSPECT_TIMEOUT: Duration = Duration::from_secs(60);

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

/// Lends a connection. To wait for one, to try it and to make another takes no longer than this all
/// together.
pub(super) async fn lend<M: Manager<Error: Display>>(
    pool: &Pool<M>,
    timeout: Duration,
) -> Result<Object<M>, StoreError> {
    match tokio::time::timeout(timeout, pool.get()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(PoolError::Timeout(_))) | Err(_) => Err(StoreError::TimedOut(timeout)),
        Ok(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
    }
}

/// Runs `$work` on a connection lent from `$pool`. One that does not answer in time is dropped: it may
/// be in the middle of a transaction, and must not go back to the pool like that.
macro_rules! within {
    ($pool:expr, $timeout:expr, |$connection:ident| $work:expr) => {
        Box::pin(async move {
            let mut lent = $crate::store::connection::lend($pool, $timeout).await?;
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
