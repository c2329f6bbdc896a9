//! Rebuilds the read models and counts from the behaviors, and the cache from those, while the service runs.
//! Run by the job runner and by `likewise rebuild`.

use std::time::Duration;

use super::audit::{Audit, AuditOptions, AuditState};
use super::{AdminError, Dependencies, Progress};
use crate::store::Pass;

/// Starts or resumes a rebuild of the read models and counts from `user_behaviors`. It also restores missing
/// ledger rows.
///
/// The rebuild is an audit without a grace period that repairs. It writes nothing where the data is correct,
/// and each transaction leaves counts equal to their rows. Counts come first, so that they equal the existing
/// rows, and last again.
///
/// # Errors
/// If the database does not answer.
pub async fn read_models(
    dependencies: Dependencies,
    from: Option<AuditState>,
) -> Result<Audit, AdminError> {
    let options = AuditOptions {
        grace_period: Duration::ZERO,
        ..AuditOptions::new(true)
    };
    let types = dependencies.store.resource_types();
    let counts: Vec<_> = types.iter().map(Pass::Counts).collect();
    let mut passes = counts.clone();
    passes.extend([Pass::Ledger, Pass::Behaviors]);
    passes.extend(types.iter().map(Pass::Likes));
    passes.extend(counts);
    passes.extend(types.iter().map(Pass::BehaviorCounts));
    Audit::with_passes(dependencies, options, passes, None, from).await
}

/// The number of entries dropped in one step.
const ENTRIES_PER_STEP: usize = 1_000;

/// A rebuild of the cache in progress. It drops each entry; the next read builds it from the database.
pub struct CacheRebuild {
    dependencies: Dependencies,
    cursor: Option<u64>,
    ended: bool,
    dropped: u64,
}

impl CacheRebuild {
    /// Starts at the first entry.
    #[must_use]
    pub fn begin(dependencies: Dependencies) -> Self {
        Self {
            ended: dependencies.cache.is_none(),
            dependencies,
            cursor: None,
            dropped: 0,
        }
    }

    /// Returns the number of entries dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the next entries. Returns `None` after the last ones.
    ///
    /// # Errors
    /// If the cache fails. The next step drops the same entries again.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let Some(cache) = self.dependencies.cache.as_ref().filter(|_| !self.ended) else {
            return Ok(None);
        };
        let cursor = self.cursor.unwrap_or_default();
        let scanned = cache.scan(cursor, ENTRIES_PER_STEP).await?;
        self.dependencies.drop_entries(&scanned.entries).await?;
        self.dropped += scanned.entries.len() as u64;
        self.ended = scanned.cursor.is_none();
        self.cursor = scanned.cursor;
        Ok(Some(Progress {
            stage: "cache",
            done: self.dropped,
            total: self.dropped,
        }))
    }
}
