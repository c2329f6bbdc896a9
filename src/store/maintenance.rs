//! Repairs: correct the discrepancies that audits find.

use chrono::{DateTime, Utc};

use super::{Discrepancy, StoreFuture};
use crate::domain::Resource;

/// The outcome of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The number of written and deleted rows.
    pub rows: usize,
    /// The resources with changed likes or counts: their cache entries may be stale.
    pub resources: Vec<Resource>,
}

/// The operations of repairs that have not moved yet.
pub trait Maintenance: Send + Sync {
    /// Repairs those of the discrepancies that still exist, under the locks of the live pipeline.
    fn repair<'a>(
        &'a self,
        found: &'a [Discrepancy],
        now: DateTime<Utc>,
    ) -> StoreFuture<'a, Repaired>;
}
