//! Jobs: work on many rows for an operator or the schedule. One worker at a time runs a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::behavior::UnknownWord;

/// The kind of a job: `jobs.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Retries failed and dead events.
    Retry,
    /// Closes events that are not completed as dead.
    Discard,
    /// Compares the data, and optionally repairs it.
    Audit,
    /// Rebuilds read models, counts or cache.
    Rebuild,
    /// Deletes old rows.
    Prune,
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

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Retry,
        Self::Discard,
        Self::Audit,
        Self::Rebuild,
        Self::Prune,
    ];

    /// Returns its name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
            Self::Audit => "audit",
            Self::Rebuild => "rebuild",
            Self::Prune => "prune",
        }
    }
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
    ];

    /// Returns its name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Returns whether the job still has work.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownWord(word.to_owned(), "kind of job"))
    }
}

impl FromStr for JobState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownWord(word.to_owned(), "state of a job"))
    }
}
