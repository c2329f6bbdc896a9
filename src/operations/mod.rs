//! What operators do, without HTTP: looking into the ledger, mending events, jobs, and quarantine. Called by
//! `web/admin/`, by the command line and by the job runner.

mod events;
mod jobs;
mod quarantine;
mod runner;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use jobs::{Counted, JobAnswer, JobRequest, RebuildTarget};
pub use quarantine::QuarantinedMessage;
pub use runner::{Ended, Runner};
pub use timeline::{Moment, ReadModel, Shows, Timeline};

use crate::actors::cache_writer::{CacheWriter, take_back};
use crate::actors::kit::Mailbox;
use crate::domain::LedgerRow;
use crate::maintenance::{MaintenanceError, Parts, PruneOptions};
use crate::nats::{Broker, StreamReport};
use crate::store::{LedgerFilter, LedgerHealth, LedgerPage, Store, StoreError};

/// Where operators come to.
#[derive(Clone)]
pub struct Desk {
    /// The database, the cache and the broker.
    pub parts: Parts,
    /// The writer of the cache, where this process has one.
    pub cache_writer: Option<Mailbox<CacheWriter>>,
    /// What is pruned by default, and where to.
    pub prune: PruneOptions,
    /// For how long at least a behavior is kept: what waits in the stream may come again.
    pub stream_max_age: Option<Duration>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
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
    /// Maintenance failed.
    #[error(transparent)]
    Maintenance(#[from] MaintenanceError),
}

impl OperationError {
    /// The database's part in it.
    #[must_use]
    pub const fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::Maintenance(MaintenanceError::Store(error)) => Some(error),
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

impl Desk {
    /// The ledger at a glance.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ledger_health(&self) -> Result<LedgerHealth, OperationError> {
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
    ) -> Result<LedgerPage, OperationError> {
        check(filter)?;
        Ok(self.store().search(filter, after, limit).await?)
    }

    /// The settings of the stream and its consumer, configured and current.
    ///
    /// # Errors
    /// If there is no NATS, or it does not answer.
    pub async fn stream(&self) -> Result<StreamReport, OperationError> {
        let Some(broker) = self.broker() else {
            return Err(OperationError::NotFound(
                "this process has no NATS (LIKEWISE_NATS_URL)".to_owned(),
            ));
        };
        let report = broker.inspect().await;
        report.map_err(|error| OperationError::Unavailable(error.to_string()))
    }

    fn store(&self) -> &dyn Store {
        self.parts.store.as_ref()
    }

    fn broker(&self) -> Option<&Arc<Broker>> {
        self.parts.broker.as_ref()
    }

    /// Takes discarded events back out of the cache, which would count them as on their way for ever.
    async fn forget(&self, rows: &[LedgerRow]) -> Result<(), OperationError> {
        match &self.cache_writer {
            Some(cache_writer) => take_back(cache_writer, rows).await,
            None => {
                let resources: Vec<_> = rows.iter().map(|row| row.resource).collect();
                self.parts
                    .drop_entries(&resources)
                    .await
                    .map_err(MaintenanceError::from)?;
            }
        }
        Ok(())
    }
}

/// Refuses a filter that not every database understands.
fn check(filter: &LedgerFilter) -> Result<(), OperationError> {
    let refused = |reason: &str| OperationError::Invalid(reason.to_owned());
    filter.check().map_err(refused)
}
