//! The row of the ledger: its status, its priority and the steps of its history. `attempt.rs` has the transitions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::behavior::{Action, BehaviorEvent, Resource};
use super::fold::Pair;
use super::id::UserId;
use super::trace_parent::TraceParent;
use super::version::Version;
use super::words::words;

/// The status of a like event: `sync_events.status`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Recorded, under the recorder's lease, before its first attempt.
    Pending,
    /// Claimed by a worker, under its lease and fencing token.
    Processing,
    /// The read models contain its effect.
    Completed,
    /// An attempt failed; the next is due at `next_attempt_at`.
    Failed,
    /// No attempt follows: the data is invalid, or the attempts are exhausted.
    Dead,
}

words!(
    Status,
    "ledger status",
    [
        Pending = "pending",
        Processing = "processing",
        Completed = "completed",
        Failed = "failed",
        Dead = "dead",
    ]
);

impl Status {
    /// Returns whether the row still has to be completed or closed.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Failed)
    }
}

/// The priority of a due row: `sync_events.priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Rows that a job retries: they yield to all others.
    Bulk,
    /// Fresh rows.
    Normal,
    /// A row that an operator retries and waits for.
    Urgent,
}

impl Priority {
    /// Every priority, most urgent first.
    pub const DESCENDING: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// Returns its number in SQL: higher numbers are claimed first.
    #[must_use]
    pub const fn as_number(self) -> i64 {
        match self {
            Self::Bulk => -1,
            Self::Normal => 0,
            Self::Urgent => 1,
        }
    }
}

/// A step of an event's history: `likewise_sync_event_history.step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// An attempt failed because of the infrastructure. It does not count.
    Waiting,
    /// An attempt failed, and another follows.
    Failed,
    /// The last attempt failed.
    Dead,
    /// A worker abandoned an attempt, and another follows.
    Abandoned,
    /// An operator retried the event.
    Retried,
    /// An operator discarded the event.
    Discarded,
    /// An audit or a rebuild restored the event.
    Restored,
    /// An operator decided that the like of the pair does not count.
    Voided,
    /// An operator decided that it counts again.
    Unvoided,
}

words!(
    Step,
    "step",
    [
        Waiting = "waiting",
        Failed = "failed",
        Dead = "dead",
        Abandoned = "abandoned",
        Retried = "retried",
        Discarded = "discarded",
        Restored = "restored",
        Voided = "voided",
        Unvoided = "unvoided",
    ]
);

/// A ledger row that a worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The id of the event and of the row.
    pub event_id: Uuid,
    /// The user who liked or unliked.
    pub user_id: UserId,
    /// The resource.
    pub resource: Resource,
    /// Like or unlike.
    pub action: Action,
    /// The event's order among the events of the pair.
    pub version: Version,
    /// The number of failed attempts that count.
    pub retry_count: i32,
    /// The number of counted failures before the row is dead.
    pub max_retries: i32,
    /// The fencing token of this worker's claim. A completion under an older token changes nothing.
    pub fencing_token: i64,
    /// The place of the event in its trace, if it has one.
    pub trace: Option<TraceParent>,
}

impl LedgerRow {
    /// The token of a row that was never claimed: the recorder's.
    pub const FIRST_TOKEN: i64 = 1;

    /// Creates the row of a new like event; `None` for other behaviors.
    #[must_use]
    pub fn born(event: &BehaviorEvent, max_retries: i32) -> Option<Self> {
        Some(Self {
            event_id: event.event_id,
            user_id: event.user_id.clone(),
            resource: event.resource.clone(),
            action: event.action()?,
            version: event.version,
            retry_count: 0,
            max_retries,
            fencing_token: Self::FIRST_TOKEN,
            trace: event.trace,
        })
    }

    /// Returns the pair of its event.
    #[must_use]
    pub fn pair(&self) -> Pair {
        Pair {
            resource: self.resource.clone(),
            user_id: self.user_id.clone(),
        }
    }

    /// Returns whether the other row has the same pair, action and version.
    #[must_use]
    pub fn is_of_one_content_with(&self, other: &Self) -> bool {
        (&self.user_id, &self.resource, self.action, self.version)
            == (&other.user_id, &other.resource, other.action, other.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_completed_and_dead_rows_are_closed() {
        let closed: Vec<_> = Status::ALL.into_iter().filter(|s| !s.is_open()).collect();
        assert_eq!(closed, [Status::Completed, Status::Dead]);
    }
}
