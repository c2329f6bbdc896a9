//! Jobs: work on many rows that operators or the schedule ask for, done by one worker at a time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::behavior::UnknownWord;

/// What a job does: `jobs.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Gives failed and dead events another try.
    Retry,
    /// Closes events that are not completed, as dead.
    Discard,
    /// Compares the data, and mends it if it is told to.
    Audit,
    /// Makes read models, counts or cache anew.
    Rebuild,
    /// Deletes what is old enough.
    Prune,
}

/// How far a job has come: `jobs.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Nobody has begun it.
    Queued,
    /// A worker is at it, or was until its lease ran out.
    Running,
    /// It is done.
    Completed,
    /// An operator ended it.
    Cancelled,
    /// It cannot be done.
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

    /// The word for it in SQL and JSON.
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

    /// The word for it in SQL and JSON.
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

    /// Whether there is something left to do.
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
