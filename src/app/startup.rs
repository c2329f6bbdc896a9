//! Reads the identity of the deployment, the newest version and the recent pairs from the database at the start of a
//! process.

use std::sync::Arc;
use std::time::Duration;

use actor_kit::Mailbox;
use futures_util::future::LocalBoxFuture;

use crate::actors::cache_writer::{CacheWriter, settle};
use crate::actors::deployment::DeploymentWatch;
use crate::actors::probe::{DependencyState, Probe};
use crate::domain::{Backoff, FailureKind, HybridClock, Pair, Version};
use crate::store::{Store, StoreError};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked, StartedWithout};

/// Reads the identity of the deployment, and notices that the database was restored.
pub(super) async fn identify(deployment: &mut DeploymentWatch) {
    if let Err(error) = deployment.beat().await {
        DependencyFailed {
            dependency: Dependency::Database,
            doing: "reading the identity of the deployment",
            error: &error,
        }
        .emit();
    }
}

/// The number of behaviors, last recorded first, whose newest version a starting process reads.
const LEARN_FROM: usize = 1_000;

/// Measures the database's clock and observes the newest recorded version, so that new versions are above it even if
/// the database's clock is slightly behind.
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

/// The number of like events, last recorded first, whose pairs a starting worker settles in the cache.
const RECENT: usize = 20_000;

/// The number of pairs in one settlement. More at once would fill the cache writer's mailbox, and reads and likes would be refused
/// meanwhile.
const AT_ONCE: usize = 500;

/// The action's name in logs.
const SETTLING: &str = "settling recent pairs";

/// The waits between its attempts.
const TRY_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    // Workers record what has waited meanwhile, and the pairs to settle must still be among the recent ones.
    cap: Duration::from_millis(500),
};

/// Settles the cache for the pairs recorded last: a worker may have been killed between a commit and its settlement. If the
/// database fails, tries again without delaying the start: only this brings such an event of another service to the cache.
pub(super) fn settle_recent(
    store: Arc<Store>,
    cache_writer: Mailbox<CacheWriter>,
) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        if !should_settle_again(&store, &cache_writer).await {
            return;
        }
        actix::spawn(async move {
            for tries in 1.. {
                tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
                if !should_settle_again(&store, &cache_writer).await {
                    return;
                }
            }
        });
    })
}

/// Settles the recent pairs. Returns whether that failed, and another attempt may succeed.
async fn should_settle_again(store: &Store, cache_writer: &Mailbox<CacheWriter>) -> bool {
    let dependency = Dependency::Database;
    match settle_in_parts(store, cache_writer).await {
        Ok(()) => {
            let doing = SETTLING;
            DependencyWorked { dependency, doing }.emit();
            false
        }
        Err(error) => {
            DependencyFailed {
                dependency,
                doing: SETTLING,
                error: &error,
            }
            .emit_if(error.is_news());
            error.kind() == FailureKind::Infrastructure
        }
    }
}

async fn settle_in_parts(
    store: &Store,
    cache_writer: &Mailbox<CacheWriter>,
) -> Result<(), StoreError> {
    let pairs: Vec<Pair> = store.recent_pairs(RECENT).await?.into_iter().collect();
    for part in pairs.chunks(AT_ONCE) {
        let found = store.find(&part.iter().cloned().collect()).await?;
        settle(cache_writer, found.into()).await;
    }
    Ok(())
}

/// Says loudly which dependencies that the settings name cannot be used at the start, and what that means.
pub(super) async fn report_missing(probe: Probe) {
    let reports = probe.report().await;
    for (dependency, setting, meaning) in [
        (
            Dependency::Cache,
            "LIKEWISE_REDIS_URL",
            "likes are accepted uncached, and reads go to the database",
        ),
        (
            Dependency::Broker,
            "LIKEWISE_NATS_URL",
            "likes are recorded in the database directly, and events in the stream wait",
        ),
    ] {
        let report = reports.get(dependency.as_str());
        if report.is_some_and(|report| report.state == DependencyState::Down) {
            StartedWithout {
                dependency,
                setting,
                meaning,
            }
            .emit();
        }
    }
}
