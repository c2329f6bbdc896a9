//! The states of a ledger row and their transitions. The store and the actors call these rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::backoff::Backoff;
use super::behavior::{Action, BehaviorEvent, Resource, UnknownWord};
use super::id::UserId;
use super::fold::Pair;
use super::version::Version;

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

impl Status {
    /// Every status, in the order of a row's life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Processing,
        Self::Completed,
        Self::Failed,
        Self::Dead,
    ];

    /// Returns its name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }

    /// Returns whether the row still has to be completed or closed.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Failed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownWord(word.to_owned(), "ledger status"))
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
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Failed,
        Self::Dead,
        Self::Abandoned,
        Self::Retried,
        Self::Discarded,
        Self::Restored,
    ];

    /// Returns its name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Abandoned => "abandoned",
            Self::Retried => "retried",
            Self::Discarded => "discarded",
            Self::Restored => "restored",
        }
    }
}

impl FromStr for Step {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == word)
            .ok_or_else(|| UnknownWord(word.to_owned(), "step"))
    }
}

/// A ledger row in the hands of a worker.
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

/// The kind of a failure, which decides whether the row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The database was down, busy, locked, read-only, full or partly migrated. Never ends a row.
    Infrastructure,
    /// The database rejected the event or returned an unknown code. Another attempt may succeed, so the row ends after
    /// `max_retries`.
    Rejected,
    /// The data can never be stored. Ends the row at once.
    Invalid,
}

/// The next state of a row after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `failed` until this time, because of the infrastructure. Not counted in `retry_count`.
    Wait(DateTime<Utc>),
    /// `failed` until this time, because of the event. Counted in `retry_count`.
    Retry(DateTime<Utc>),
    /// `dead`.
    Dead,
}

impl Verdict {
    /// The longest back-off after an infrastructure failure. It is short because rows should complete soon after the
    /// recovery, and one claim takes many of them.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

    /// Judges a row after a failed attempt. The back-off grows with the failures of the event, or, for an
    /// infrastructure failure, with the number of claims, which the fencing token counts.
    #[must_use]
    pub fn after_failure(
        kind: FailureKind,
        row: &LedgerRow,
        now: DateTime<Utc>,
        backoff: &Backoff,
        draw: f64,
    ) -> Self {
        let failed = row.retry_count.saturating_add(1);
        match kind {
            FailureKind::Infrastructure => {
                let backoff = Backoff {
                    cap: backoff.cap.min(Self::LONGEST_WAIT),
                    ..*backoff
                };
                let claims = u32::try_from(row.fencing_token).unwrap_or(u32::MAX);
                Self::Wait(now + backoff.wait(claims, draw))
            }
            FailureKind::Rejected if failed <= row.max_retries => {
                let attempts = u32::try_from(failed).unwrap_or(1);
                Self::Retry(now + backoff.wait(attempts, draw))
            }
            FailureKind::Rejected | FailureKind::Invalid => Self::Dead,
        }
    }

    /// Returns whether the failure counts in `retry_count`.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        !matches!(self, Self::Wait(_))
    }

    /// Returns the history step of the failure.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self {
            Self::Wait(_) => Step::Waiting,
            Self::Retry(_) => Step::Failed,
            Self::Dead => Step::Dead,
        }
    }

    /// Returns the row's new status.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Wait(_) | Self::Retry(_) => Status::Failed,
            Self::Dead => Status::Dead,
        }
    }

    /// Returns when the row is due again, if ever.
    #[must_use]
    pub const fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Wait(at) | Self::Retry(at) => Some(*at),
            Self::Dead => None,
        }
    }
}

/// The result of claiming a due row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The row under its new fencing token.
    pub row: LedgerRow,
    /// `processing`, or `dead` if its attempts are exhausted.
    pub status: Status,
    /// The history step of the abandoned attempt, if there was one.
    pub error: Option<&'static str>,
}

impl Claim {
    /// The error message of an abandoned attempt.
    pub const ABANDONED: &'static str =
        "the lease ran out: the worker crashed, hung or lost the database during the attempt";

    /// Claims a due row with this status. A `processing` row was abandoned during an attempt, which counts as a failure of the
    /// event, so a row that kills its workers ends dead. It does not count if the database was `away`, because a live worker
    /// could not renew its lease.
    #[must_use]
    pub fn of(found: Status, mut row: LedgerRow, away: bool) -> Self {
        row.fencing_token += 1;
        let abandoned = found == Status::Processing && !away;
        if abandoned {
            row.retry_count += 1;
        }
        let exhausted = row.retry_count > row.max_retries;
        Self {
            row,
            status: if exhausted {
                Status::Dead
            } else {
                Status::Processing
            },
            error: abandoned.then_some(Self::ABANDONED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    };

    fn judge(kind: FailureKind, retry_count: i32) -> Verdict {
        let row = row(retry_count);
        Verdict::after_failure(kind, &row, DateTime::UNIX_EPOCH, &BACKOFF, 1.0)
    }

    #[test]
    fn rejected_row_is_dead_after_max_retries() {
        let verdicts: Vec<_> = (0..=5)
            .map(|n| judge(FailureKind::Rejected, n).status())
            .collect();
        assert_eq!(verdicts[..5], [Status::Failed; 5]);
        assert_eq!(verdicts[5], Status::Dead);
    }

    #[test]
    fn invalid_row_is_dead_at_once() {
        assert_eq!(judge(FailureKind::Invalid, 0), Verdict::Dead);
    }

    #[test]
    fn infrastructure_failure_is_not_counted_and_never_fatal() {
        for retry_count in [0, 5, i32::MAX] {
            let verdict = judge(FailureKind::Infrastructure, retry_count);
            assert_eq!(verdict.status(), Status::Failed);
            assert!(!verdict.is_counted());
        }
        assert!(judge(FailureKind::Rejected, 0).is_counted());
        assert!(judge(FailureKind::Invalid, 0).is_counted());
    }

    #[test]
    fn backoff_grows_with_each_failure_of_the_event() {
        assert_eq!(
            judge(FailureKind::Rejected, 2).next_attempt_at(),
            Some(DateTime::UNIX_EPOCH + Duration::from_secs(4))
        );
    }

    #[test]
    fn backoff_of_a_waiting_row_grows_with_each_claim_up_to_the_cap() {
        let waits = [1, 2, 3, 10, i64::MAX].map(|fencing_token| {
            let row = LedgerRow {
                fencing_token,
                ..row(0)
            };
            let kind = FailureKind::Infrastructure;
            Verdict::after_failure(kind, &row, DateTime::UNIX_EPOCH, &BACKOFF, 1.0)
                .next_attempt_at()
                .map(|at| at.timestamp())
        });
        assert_eq!(waits, [1, 2, 4, 30, 30].map(Some));
    }

    fn row(retry_count: i32) -> LedgerRow {
        LedgerRow {
            event_id: Uuid::nil(),
            user_id: 1,
            resource: Resource::video(1),
            action: Action::Like,
            version: Version(1),
            retry_count,
            max_retries: 5,
            fencing_token: 3,
        }
    }

    #[test]
    fn claim_increments_the_fencing_token() {
        for status in [Status::Pending, Status::Processing, Status::Failed] {
            assert_eq!(Claim::of(status, row(0), false).row.fencing_token, 4);
        }
    }

    #[test]
    fn abandoned_attempt_counts_and_the_last_one_is_fatal() {
        let retries = |status, count| {
            let claim = Claim::of(status, row(count), false);
            (claim.row.retry_count, claim.status)
        };
        assert_eq!(retries(Status::Pending, 0), (0, Status::Processing));
        assert_eq!(retries(Status::Failed, 5), (5, Status::Processing));
        assert_eq!(retries(Status::Processing, 4), (5, Status::Processing));
        assert_eq!(retries(Status::Processing, 5), (6, Status::Dead));
    }

    #[test]
    fn lease_expired_during_an_outage_is_not_counted() {
        let claim = Claim::of(Status::Processing, row(5), true);
        let claimed = (claim.row.retry_count, claim.status, claim.error);
        assert_eq!(claimed, (5, Status::Processing, None));
    }

    #[test]
    fn only_completed_and_dead_rows_are_closed() {
        let closed: Vec<_> = Status::ALL.into_iter().filter(|s| !s.is_open()).collect();
        assert_eq!(closed, [Status::Completed, Status::Dead]);
    }
}
