//! Writes the chunks of an import to the database, and tells the cache and other services of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::actors::cache_writer::settlements;
use crate::admin::{AdminError, Dependencies};
use crate::cache::{CacheError, Settlement};
use crate::domain::{Backoff, FailureKind, Resource, Version};
use crate::live::announce;
use crate::store::{ImportChunk, Imported, Settled, Store, StoreError};

/// How long an import tries again while the database or Redis does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pairs in one call of the cache. A call with all pairs of a chunk takes a busy Redis longer than its answer may take,
/// and likes wait for it meanwhile.
const SETTLED_AT_ONCE: usize = 2_000;

/// The waits between its attempts.
const TRY_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

/// Writes a chunk. After a failure, it looks for what is recorded already.
pub(super) async fn write(store: &Store, chunk: &ImportChunk) -> Result<Imported, AdminError> {
    let careful = ImportChunk {
        may_be_recorded: true,
        ..chunk.clone()
    };
    let has_failed = Cell::new(false);
    let written = insist(async || {
        let chunk = match has_failed.replace(true) {
            true => &careful,
            false => chunk,
        };
        store.import(chunk, store.now()).await
    });
    written.await?.ok_or_else(|| {
        AdminError::Conflict(
            "a newer run goes on with this import in another process; wait for its end".to_owned(),
        )
    })
}

/// Settles the cache and announces changed counts after a commit, as a worker does.
pub(super) async fn tell(
    dependencies: &Dependencies,
    settled: Option<Settled>,
) -> Result<(), CacheError> {
    let Some(settled) = settled else {
        return Ok(());
    };
    settle(dependencies, &settled).await?;
    announce(dependencies.broker.as_ref(), &settled).await;
    Ok(())
}

/// Settles the cache.
pub(super) async fn settle(
    dependencies: &Dependencies,
    settled: &Settled,
) -> Result<(), CacheError> {
    let Some(cache) = &dependencies.cache else {
        return Ok(());
    };
    let (settlements, _) = settlements(std::iter::once(settled));
    for part in parts(settlements) {
        let started = Instant::now();
        let mut tries = 0;
        while let Err(error) = cache
            .settle(&part, Version::at(dependencies.store.now()))
            .await
        {
            if started.elapsed() > PATIENCE {
                return Err(error);
            }
            tries += 1;
            tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
        }
    }
    Ok(())
}

/// Splits settlements into those of about [`SETTLED_AT_ONCE`] pairs.
fn parts(settlements: BTreeMap<Resource, Settlement>) -> Vec<BTreeMap<Resource, Settlement>> {
    let mut parts = Vec::new();
    let (mut part, mut pairs) = (BTreeMap::new(), 0);
    for (resource, settlement) in settlements {
        pairs += settlement.states.len();
        part.insert(resource, settlement);
        if pairs >= SETTLED_AT_ONCE {
            parts.push(std::mem::take(&mut part));
            pairs = 0;
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Repeats a call of the database while it does not answer, and twice if the database refused the data: an event was
/// recorded before, or another process has recorded one at the same time.
pub(super) async fn insist<T>(
    call: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        tries += 1;
        let is_over = match error.kind() {
            FailureKind::Infrastructure => started.elapsed() > PATIENCE,
            _ => tries > 2,
        };
        if is_over {
            return Err(error);
        }
        tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Action, VersionedState};

    #[test]
    fn settlements_are_split_by_their_pairs() {
        let state = VersionedState::new(Version(1), Action::Like);
        let of = |video: i64| {
            let users = 1..=900;
            let settlement = Settlement {
                states: users.map(|user: i64| (user.into(), state)).collect(),
                ..Settlement::default()
            };
            (Resource::video(video), settlement)
        };
        let all: BTreeMap<Resource, Settlement> = (1..=5).map(of).collect();
        let parts = parts(all.clone());
        let sizes: Vec<_> = parts.iter().map(BTreeMap::len).collect();
        assert_eq!(sizes, [3, 2]);
        assert_eq!(parts.into_iter().flatten().count(), all.len());
        assert!(super::parts(BTreeMap::new()).is_empty());
    }
}
