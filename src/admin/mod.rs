//! What operators do, without HTTP: looking into the ledger, mending events, jobs, and quarantine. Called by
//! `web/admin/`, by the command line and by the job runner.

mod audit;
mod cache_audit;
mod jobs;
mod ledger;
mod prune;
mod quarantine;
mod rebuild;
mod report;
mod runner;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use audit::{Audit, AuditOptions, AuditState};
pub use jobs::{Counted, JobAnswer, JobRequest, RebuildTarget};
pub use prune::{Prune, PruneState};
pub use quarantine::QuarantinedMessage;
pub use rebuild::{CacheRebuild, read_models};
pub use report::{AuditReport, Example, Tally};
pub use runner::{JobExit, Runner};
pub use timeline::{Moment, ReadModel, Shows, Timeline};

use actor_kit::Mailbox;

use crate::actors::cache_writer::{CacheWriter, revert};
use crate::cache::{Cache, CacheError};
use crate::config::PruneOptions;
use crate::domain::LedgerRow;
use crate::nats::{Broker, NatsError, StreamReport};
use crate::store::{LedgerFilter, LedgerHealth, LedgerPage, Store, StoreError};

/// What operators work on.
#[derive(Clone)]
pub struct Dependencies {
    /// The database.
    pub store: Arc<Store>,
    /// The cache, if it can be reached from this process.
    pub cache: Option<Arc<dyn Cache>>,
    /// The broker, if there is one: what waits in its stream is not in the database yet.
    pub broker: Option<Arc<Broker>>,
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

impl Dependencies {
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

/// What operators do with the ledger, jobs and quarantine.
#[derive(Clone)]
pub struct AdminService {
    /// The database, the cache and the broker.
    pub dependencies: Dependencies,
    /// The writer of the cache, where this process has one.
    pub cache_writer: Option<Mailbox<CacheWriter>>,
    /// What is pruned by default, and where to.
    pub prune: PruneOptions,
    /// For how long at least a behavior is kept: what waits in the stream may come again.
    pub stream_max_age: Option<Duration>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is in a state in which this cannot be done.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A part that is needed is not there.
    #[error("{0}")]
    Unavailable(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It has failed too often.
    #[error("{0}")]
    GivenUp(String),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] NatsError),
    /// The archive could not be written.
    #[error("cannot write the archive {path}: {source}")]
    Archive {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl AdminError {
    /// The database's part in it.
    #[must_use]
    pub const fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }

    /// Whether it is news: that the database is away has been said when it went.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        match self.of_store() {
            Some(error) => error.is_news(),
            None => true,
        }
    }
}

impl AdminService {
    /// The ledger at a glance.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ledger_health(&self) -> Result<LedgerHealth, AdminError> {
        Ok(self.store().ledger_health(self.store().now()).await?)
    }

    /// Ledger rows, newest first, after the one of this moment and id.
    ///
    /// # Errors
    /// If no row can be as the filter says, or the database fails.
    pub async fn search(
        &self,
        filter: &LedgerFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<LedgerPage, AdminError> {
        check(filter)?;
        Ok(self.store().search(filter, after, limit).await?)
    }

    /// The settings of the stream and its consumer, configured and current.
    ///
    /// # Errors
    /// If there is no NATS, or it does not answer.
    pub async fn stream(&self) -> Result<StreamReport, AdminError> {
        let Some(broker) = self.broker() else {
            return Err(AdminError::NotFound(
                "this process has no NATS (LIKEWISE_NATS_URL)".to_owned(),
            ));
        };
        let report = broker.inspect().await;
        report.map_err(|error| AdminError::Unavailable(error.to_string()))
    }

    fn store(&self) -> &Store {
        self.dependencies.store.as_ref()
    }

    fn broker(&self) -> Option<&Arc<Broker>> {
        self.dependencies.broker.as_ref()
    }

    /// Takes discarded events back out of the cache, which would count them as on their way for ever.
    async fn forget(&self, rows: &[LedgerRow]) -> Result<(), AdminError> {
        match &self.cache_writer {
            Some(cache_writer) => revert(cache_writer, rows).await,
            None => {
                let resources: Vec<_> = rows.iter().map(|row| row.resource).collect();
                self.dependencies
                    .drop_entries(&resources)
                    .await
                    .map_err(AdminError::from)?;
            }
        }
        Ok(())
    }
}

/// Refuses a filter that not every database understands.
fn check(filter: &LedgerFilter) -> Result<(), AdminError> {
    let refused = |reason: &str| AdminError::Invalid(reason.to_owned());
    filter.check().map_err(refused)
}
