//! The transitions of a ledger row: claiming it, and a failed attempt. The store and the actors call these rules.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::backoff::Backoff;
use super::ledger::{LedgerRow, Status, Step};

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

impl FailureKind {
    /// Its name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }
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
    use uuid::Uuid;

    use super::*;
    use crate::domain::behavior::{Action, Resource};
    use crate::domain::version::Version;

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
            user_id: 1.into(),
            resource: Resource::video(1),
            action: Action::Like,
            version: Version(1),
            retry_count,
            max_retries: 5,
            fencing_token: 3,
            trace: None,
        }
    }

    #[test]
    fn claim_increments_the_fencing_token() {
        for status in [Status::Pending, Status::Processing, Status::Failed] {
            assert_eq!(Claim::of(status, row(0), false).row.fencing_token, 4);
        }
    }

    #[test]
    fn last_abandoned_attempt_makes_the_row_dead() {
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
}
