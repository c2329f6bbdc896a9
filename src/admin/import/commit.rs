//! Writes the chunks of an import to the database, and tells the cache and other services of them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::actors::cache_writer::settlements;
use crate::admin::{AdminError, Dependencies};
use crate::cache::CacheError;
use crate::domain::{Backoff, FailureKind, Version};
use crate::live::announce;
use crate::store::{ImportChunk, Imported, Settled, Store, StoreError, Turn};

/// How long an import tries again while the database or Redis does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The waits between its attempts.
const TRY_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

/// Writes a chunk in its turn. After a failure, it begins in its turn too, and looks for what is recorded already.
pub(super) async fn write(
    store: &Store,
    chunk: &ImportChunk,
    turn: &Turn,
) -> Result<Imported, AdminError> {
    let careful = ImportChunk {
        may_be_recorded: true,
        ..chunk.clone()
    };
    let has_failed = Cell::new(false);
    let written = insist(async || {
        let chunk = match has_failed.replace(true) {
            true => {
                turn.wait().await;
                &careful
            }
            false => chunk,
        };
        store.import(chunk, turn, store.now()).await
    });
    written.await?.ok_or_else(|| {
        AdminError::Conflict(
            "another process runs this import, or has begun it anew; wait for its end".to_owned(),
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
    let started = Instant::now();
    let mut tries = 0;
    while let Err(error) = cache
        .settle(&settlements, Version::at(dependencies.store.now()))
        .await
    {
        if started.elapsed() > PATIENCE {
            return Err(error);
        }
        tries += 1;
        tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
    }
    Ok(())
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
