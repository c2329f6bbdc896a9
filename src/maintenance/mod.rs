//! What keeps the data in order over time, without HTTP and without actix: audits that compare and mend,
//! rebuilds, and retention. Called by the command line and by the job runner.

mod audit;
mod cache_audit;
mod prune;
mod rebuild;
mod report;

use std::sync::Arc;

pub use audit::{Audit, AuditOptions, AuditState};
pub use prune::{Prune, PruneOptions, PruneState};
pub use rebuild::{CacheRebuild, read_models};
pub use report::{AuditReport, Example, Tally};

use crate::cache::{Cache, CacheError};
use crate::nats::{Broker, NatsError};
use crate::store::{Store, StoreError};

/// The parts that maintenance works on.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The cache, if it can be reached from this process.
    pub cache: Option<Arc<dyn Cache>>,
    /// The broker, if there is one: what waits in its stream is not in the database yet.
    pub broker: Option<Arc<Broker>>,
}

/// Why maintenance could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] NatsError),
    /// The archive could not be written.
    #[error("cannot write the archive {path}: {source}")]
    Archive {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// How far a piece of maintenance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: &'static str,
    /// Rows looked at so far, of all stages.
    pub done: u64,
    /// Rows that there were to look at when it began, of all stages.
    pub total: u64,
}

impl Parts {
    /// Drops what the cache holds of these resources, to be built anew from the database.
    pub(crate) async fn drop_entries(
        &self,
        resources: &[crate::domain::Resource],
    ) -> Result<(), CacheError> {
        const AT_ONCE: usize = 1_000;
        if let Some(cache) = &self.cache {
            for some in resources.chunks(AT_ONCE) {
                cache.drop_entries(some).await?;
            }
        }
        Ok(())
    }
}
