//! Jobs: work on many rows for an operator or the schedule. One worker at a time runs a job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::moderation::Moderation;
use super::words::words;

/// The kind of a job: `jobs.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Retries failed and dead events.
    Retry,
    /// Closes events that are not completed as dead.
    Discard,
    /// Publishes messages in quarantine again.
    Republish,
    /// Discards messages in quarantine.
    DiscardMessages,
    /// Sends dead letters of webhooks again.
    RetryWebhooks,
    /// Deletes dead letters of webhooks.
    DiscardWebhooks,
    /// Compares the data, and optionally repairs it.
    Audit,
    /// Rebuilds read models, counts or cache.
    Rebuild,
    /// Deletes old rows.
    Prune,
    /// Decides that likes of a user do not count.
    Void,
    /// Decides that they count again.
    Restore,
    /// Erases a user or a resource.
    Erase,
}

impl JobKind {
    /// The kinds that read whole tables without anyone waiting for them. Between two steps they make way for other jobs.
    pub const UPKEEP: [Self; 2] = [Self::Audit, Self::Prune];

    /// Returns whether it is upkeep.
    #[must_use]
    pub fn is_upkeep(self) -> bool {
        Self::UPKEEP.contains(&self)
    }

    /// Returns whether it works on the likes of one user.
    #[must_use]
    pub const fn is_of_user(self) -> bool {
        matches!(self, Self::Void | Self::Restore)
    }
}

impl From<Moderation> for JobKind {
    fn from(moderation: Moderation) -> Self {
        match moderation {
            Moderation::Void => Self::Void,
            Moderation::Restore => Self::Restore,
        }
    }
}

/// The state of a job: `jobs.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// The job waits for a worker.
    Queued,
    /// A worker runs the job, or its lease expired.
    Running,
    /// The job finished.
    Completed,
    /// An operator cancelled the job.
    Cancelled,
    /// The job failed.
    Failed,
}

words!(
    JobKind,
    "kind of job",
    [
        Retry = "retry",
        Discard = "discard",
        Republish = "republish",
        DiscardMessages = "discard_messages",
        RetryWebhooks = "retry_webhooks",
        DiscardWebhooks = "discard_webhooks",
        Audit = "audit",
        Rebuild = "rebuild",
        Prune = "prune",
        Void = "void",
        Restore = "restore",
        Erase = "erase",
    ]
);

words!(
    JobState,
    "state of a job",
    [
        Queued = "queued",
        Running = "running",
        Completed = "completed",
        Cancelled = "cancelled",
        Failed = "failed",
    ]
);

impl JobState {
    /// Returns whether the job still has work.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}
