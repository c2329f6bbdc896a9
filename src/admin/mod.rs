//! The operators' use cases: ledger, event timeline, retry and discard, quarantine, and jobs (audit, rebuild,
//! prune). Called by `web/admin/`, by the command line and by the job runner; knows nothing of HTTP.

mod audit;
mod cache_audit;
mod erase;
mod erasures;
mod held_job;
mod history;
mod import;
mod job_kinds;
mod job_spec;
mod jobs;
mod ledger;
mod moderation;
mod operations;
mod pace;
mod prune;
mod quarantine;
mod rebuild;
mod report;
mod row_jobs;
mod runner;
mod timeline;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use actor_kit::Mailbox;
use chrono::{DateTime, Utc};

pub use audit::{Audit, AuditOptions, AuditState};
pub use erase::EraseState;
pub use erasures::ErasureReport;
pub use held_job::JobExit;
pub use history::{CompletionTimes, History, HistoryPoint};
pub use import::{ColumnNames, Format, Import, ImportInput, ImportOptions, ImportReport, Rejected};
pub use job_spec::{JobRequest, RebuildTarget};
pub use jobs::{Counted, JobAnswer};
pub use moderation::{CountedLikes, ModerationRequest};
pub use operations::{ActorOperations, OperationReport};
pub use prune::{Prune, PruneState};
pub use quarantine::QuarantinedMessage;
pub use rebuild::{CacheRebuild, read_models};
pub use report::{AuditReport, Example, Tally};
pub use runner::Runner;
pub use timeline::{Moment, ReadModel, Shows, Timeline};
pub use webhooks::{DeadWebhook, WebhookReceiver};

use crate::actors::cache_writer::CacheWriter;
use crate::cache::{Cache, CacheError};
use crate::config::PruneOptions;
use crate::nats::{Broker, NatsError, StreamReport};
use crate::store::{Job, LedgerFilter, LedgerHealth, LedgerPage, Store, StoreError};

/// The services that operators' work uses.
#[derive(Clone)]
pub struct Dependencies {
    /// The database.
    pub store: Arc<Store>,
    /// The cache, if this process can reach it.
    pub cache: Option<Arc<dyn Cache>>,
    /// The broker, if there is one: messages in its stream may not be in the database yet.
    pub broker: Option<Arc<Broker>>,
}

/// The progress of an audit, a rebuild or pruning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it reads now.
    pub stage: &'static str,
    /// Rows read so far, in all stages.
    pub done: u64,
    /// Rows to read when it began, in all stages.
    pub total: u64,
}

impl Dependencies {
    /// Drops these cache entries; their next reader builds them from the database.
    pub(crate) async fn drop_entries(
        &self,
        entries: &[crate::domain::EntryId],
    ) -> Result<(), CacheError> {
        const AT_ONCE: usize = 1_000;
        if let Some(cache) = &self.cache {
            for some in entries.chunks(AT_ONCE) {
                cache.drop_entries(some).await?;
            }
        }
        Ok(())
    }
}

/// The operators' use cases.
#[derive(Clone)]
pub struct AdminService {
    /// Database, cache and broker.
    pub dependencies: Dependencies,
    /// The cache writer, if this process runs one.
    pub cache_writer: Option<Mailbox<CacheWriter>>,
    /// The default ages for pruning, and the archive.
    pub prune: PruneOptions,
    /// The stream of facts, if facts are published to one.
    pub facts_stream: Option<String>,
    /// The shortest age at which behaviors may be pruned: the stream may redeliver younger ones.
    pub stream_max_age: Option<Duration>,
}

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The event, job or message does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Its state does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A dependency is missing or does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A step failed too often.
    #[error("{0}")]
    GivenUp(String),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] NatsError),
    /// The input of an import could not be read.
    #[error("cannot read {path}: {source}")]
    Input {
        /// Its path.
        path: String,
        /// The error.
        source: std::io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write the archive {path}: {source}")]
    Archive {
        /// Its path.
        path: String,
        /// The error.
        source: std::io::Error,
    },
}

impl AdminError {
    /// Returns the database's error, if it is one.
    #[must_use]
    pub const fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the error is worth a log line: an unreachable database is logged once, when it goes away.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        match self.of_store() {
            Some(error) => error.is_news(),
            None => true,
        }
    }
}

impl AdminService {
    /// Returns a summary of the ledger.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ledger_health(&self) -> Result<LedgerHealth, AdminError> {
        Ok(self.store().ledger_health(self.store().now()).await?)
    }

    /// Returns ledger rows, newest first, that follow the row of this time and id.
    ///
    /// # Errors
    /// If the filter is invalid, or the database fails.
    pub async fn search(
        &self,
        filter: &LedgerFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: usize,
    ) -> Result<LedgerPage, AdminError> {
        check(filter)?;
        Ok(self.store().search(filter, after, limit).await?)
    }

    /// Returns the settings of the stream and its consumer, configured and current.
    ///
    /// # Errors
    /// If NATS is not configured or does not answer.
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
}

/// Rejects a filter that not every database accepts.
fn check(filter: &LedgerFilter) -> Result<(), AdminError> {
    let invalid = |reason: &str| AdminError::Invalid(reason.to_owned());
    filter.check().map_err(invalid)
}
