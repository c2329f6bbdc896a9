//! Rebuilds: read models and counts from the behaviors, and the cache from those, while serving.

use std::time::Duration;

use super::audit::{Audit, AuditOptions, AuditState};
use super::{AdminError, Dependencies, Progress};
use crate::domain::ResourceType;
use crate::store::Pass;

/// A rebuild of the read models and counts from `user_behaviors`, which also gives like events back the
/// ledger rows that they have lost.
///
/// It is an audit that mends at once whatever is not what the behaviors add up to: so a rebuild of what
/// is in order writes nothing, and each transaction leaves counts that equal their rows. The counts come
/// first and last: first, so that they start from the rows that are there. It begins anew, or goes on from
/// where another has come.
///
/// # Errors
/// If the database does not answer.
pub async fn read_models(
    dependencies: Dependencies,
    from: Option<AuditState>,
) -> Result<Audit, AdminError> {
    let options = AuditOptions {
        patience: Duration::ZERO,
        ..AuditOptions::new(true)
    };
    let counts = ResourceType::ALL.map(Pass::Counts);
    let mut passes = counts.to_vec();
    passes.extend([Pass::Ledger, Pass::Behaviors]);
    passes.extend(ResourceType::ALL.map(Pass::Likes));
    passes.extend(counts);
    Audit::of(dependencies, options, passes, None, from).await
}

/// How many entries are dropped in one step.
const ENTRIES_PER_STEP: usize = 1_000;

/// A rebuild of the cache: each entry is dropped, and built from the database for its next reader.
pub struct CacheRebuild {
    dependencies: Dependencies,
    cursor: Option<u64>,
    ended: bool,
    dropped: u64,
}

impl CacheRebuild {
    /// Begins.
    #[must_use]
    pub fn begin(dependencies: Dependencies) -> Self {
        Self {
            ended: dependencies.cache.is_none(),
            dependencies,
            cursor: None,
            dropped: 0,
        }
    }

    /// The number of entries dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the next entries; `None` if there are none left.
    ///
    /// # Errors
    /// If the cache fails; the same entries come again with the next step.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let Some(cache) = self.dependencies.cache.as_ref().filter(|_| !self.ended) else {
            return Ok(None);
        };
        let cursor = self.cursor.unwrap_or_default();
        let scanned = cache.scan(cursor, ENTRIES_PER_STEP).await?;
        self.dependencies.drop_entries(&scanned.resources).await?;
        self.dropped += scanned.resources.len() as u64;
        self.ended = scanned.cursor.is_none();
        self.cursor = scanned.cursor;
        Ok(Some(Progress {
            stage: "cache",
            done: self.dropped,
            total: self.dropped,
        }))
    }
}
