//! What the service reads from the database before it serves.

use std::sync::Arc;

use actor_kit::Mailbox;
use futures_util::future::LocalBoxFuture;

use crate::actors::CacheWriter;
use crate::domain::{HybridClock, Version};
use crate::messages::Settle;
use crate::store::{Settled, Store, StoreError};
use crate::telemetry::{Dependency, DependencyFailed};

/// How many of the last recorded behaviors a starting process learns their newest version from.
const LEARN_FROM: usize = 1_000;

/// Measures the database's clock, and draws no version below those recorded last if this process's clock is a
/// little behind.
pub(super) async fn learn(clock: &HybridClock, store: &Store) {
    let newest = async {
        store.measure_clock().await?;
        store.newest_version(LEARN_FROM).await
    };
    match newest.await {
        Ok(newest) => clock.observe_at(newest, Version::at(store.now())),
        Err(error) => DependencyFailed {
            dependency: Dependency::Database,
            doing: "reading the newest version",
            error: &error,
        }
        .emit(),
    }
}

/// How many of the last recorded like events a starting worker tells the cache of again.
const RECENT: usize = 20_000;

/// Tells the cache what the database holds of the pairs that were recorded last: a worker that was
/// killed between a commit and its settlement told it nothing.
pub(super) fn settle_recent(
    store: Arc<Store>,
    cache_writer: Mailbox<CacheWriter>,
) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        let settle = async {
            let pairs = store.recent_pairs(RECENT).await?;
            let found = store.find(&pairs).await?;
            Ok::<_, StoreError>(Settled {
                states: found.states,
                counts: found.counts,
                changed: Vec::new(),
            })
        };
        match settle.await {
            Ok(settled) => {
                // The cache writer answers for itself if the cache cannot be reached.
                let _ = cache_writer.ask_or_wait(Settle { settled }).await;
            }
            Err(error) => DependencyFailed {
                dependency: Dependency::Database,
                doing: "settling what was recorded last",
                error: &error,
            }
            .emit(),
        }
    })
}
