//! The typed messages between actors, in the order of the flow.

use actor_kit::Request;

use crate::domain::{
    Applied, BehaviorEvent, CommitEffect, ErasedKind, KeyedRequest, LedgerRow, Pair, Reading,
    Resource, Started, UserId, Version, VersionedState,
};
use crate::store::{Settled, StoredResponse};

/// To the cache writer: applies an accepted event.
#[derive(Debug, Clone)]
pub struct Apply {
    /// The user and the resource.
    pub pair: Pair,
    /// The state that the event sets.
    pub state: VersionedState,
    /// Whether the cache writer loads what the cache lacks from the database before it answers. Without that, the answer
    /// may be [incomplete](ApplyOutcome::is_incomplete).
    pub loads_missing: bool,
}

/// The reply to an [`Apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplyOutcome {
    /// The effect of the event in the cache; `None` if the cache could not be written.
    pub applied: Option<Applied>,
    /// The version of a newer event of the pair that only the database holds.
    pub stored: Option<Version>,
}

impl ApplyOutcome {
    /// Returns the version of a newer event of the pair that the cache or the database holds.
    #[must_use]
    pub fn newer(&self) -> Option<Version> {
        let cached = self.applied.and_then(|applied| applied.newer);
        cached.max(self.stored)
    }

    /// Returns whether it lacks what the database knows.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.applied.is_none_or(|applied| applied.needs_fill())
    }

    /// Completes it by what the commit of this event did.
    #[must_use]
    pub fn completed_by(self, effect: &CommitEffect, event: VersionedState) -> Self {
        Self {
            applied: self.applied.map(|applied| effect.complete(applied, event)),
            stored: self.stored.max(effect.newer_than(event)),
        }
    }

    /// Completes it by the answer to the same event, applied again. If that meets a newer event, it does not tell whether
    /// the first time changed the pair.
    #[must_use]
    pub fn completed_again(self, again: Self) -> Self {
        let changed = self.applied.and_then(|applied| applied.changed);
        let applied = again.applied.map(|again| Applied {
            changed: changed.or(again.changed.filter(|_| again.newer.is_none())),
            ..again
        });
        Self { applied, ..again }
    }
}

impl Request for Apply {
    type Reply = ApplyOutcome;

    fn is_failure(outcome: &ApplyOutcome) -> bool {
        outcome.applied.is_none()
    }
}

/// To the cache writer: reverts an event that could not be made durable.
#[derive(Debug, Clone)]
pub struct Forget {
    /// The user and the resource.
    pub pair: Pair,
    /// The event's version.
    pub version: Version,
}

impl From<&LedgerRow> for Forget {
    fn from(row: &LedgerRow) -> Self {
        Self {
            pair: row.pair(),
            version: row.version,
        }
    }
}

impl Request for Forget {
    type Reply = ();
}

/// To the cache writer: reads from the database what the cache lacks about some resources, and fills the cache.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The user whose likes are read; `None` for the counts alone.
    pub user_id: Option<UserId>,
    /// The resources, each once.
    pub resources: Vec<Resource>,
}

impl Request for Lookup {
    /// In the order of the resources. Unknown values are absent.
    type Reply = Vec<Reading>;

    fn weight(&self) -> usize {
        self.resources.len()
    }
}

/// To the cache writer: compares events that have been in flight for too long with the database.
#[derive(Debug, Clone)]
pub struct Reconcile {
    /// The user whose entry may hold such events; `None` if only the counts were read.
    pub user_id: Option<UserId>,
    /// The resources whose count entries may hold such events.
    pub resources: Vec<Resource>,
}

impl Request for Reconcile {
    type Reply = ();
}

/// To the idempotency keeper: claims the key for a request, or returns the stored answer.
#[derive(Debug, Clone)]
pub struct Begin {
    /// The request.
    pub request: KeyedRequest,
}

/// Why a key cannot be looked up or stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub String);

impl Request for Begin {
    type Reply = Result<Started, NotKept>;

    fn is_failure(started: &Self::Reply) -> bool {
        started.is_err()
    }
}

/// To the idempotency keeper: stores the answer to a request.
#[derive(Debug, Clone)]
pub struct End {
    /// The request and its answer.
    pub response: StoredResponse,
}

impl Request for End {
    type Reply = Result<(), NotKept>;

    fn is_failure(kept: &Self::Reply) -> bool {
        kept.is_err()
    }

    /// Grows with the length of the answer, so that a batch of long answers is bounded too.
    fn weight(&self) -> usize {
        1 + self.response.answer.as_ref().map_or(0, String::len) / 4096
    }
}

/// To the event publisher: publishes an accepted event.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The event.
    pub event: BehaviorEvent,
}

/// Why an event was not acknowledged. The broker may hold it nevertheless, if its acknowledgement was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPublished(pub String);

impl Request for Publish {
    type Reply = Result<(), NotPublished>;

    fn is_failure(published: &Self::Reply) -> bool {
        published.is_err()
    }
}

/// To the behavior recorder: appends behaviors.
#[derive(Debug, Clone)]
pub struct Record {
    /// At least one.
    pub events: Vec<BehaviorEvent>,
    /// Whether the stream has delivered one of them before: an earlier attempt may have recorded it, or stopped its worker.
    pub redelivered: bool,
    /// Whether the sender needs the effect of the commit on the pair of its only event, a like event. The answer then waits
    /// for the settlement of the cache.
    pub asks_effect: bool,
}

/// The reply to a [`Record`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordOutcome {
    /// The events that are not recorded, by ascending position. All others are committed.
    pub failures: Vec<(usize, NotRecorded)>,
    /// The effect of the commit on the event's pair, if the sender asked for it. `None` if the commit did not update the read
    /// models.
    pub effect: Option<CommitEffect>,
    /// Whether the cache is settled by that effect. False if the settlement took too long.
    pub is_settled: bool,
}

/// Why one event was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The database cannot store any event now.
    #[error("{0}")]
    Unavailable(String),
    /// The database rejects this event now, and may store it later.
    #[error("{0}")]
    Rejected(String),
    /// The database can never store this event.
    #[error("{0}")]
    Refused(String),
    /// The event's id belongs to a recorded event of other content, which stands.
    #[error("its event id belongs to another event, which was recorded first and stands")]
    Conflict,
    /// The event's user or resource is erased, so nothing of it is kept.
    #[error("its {0} is erased")]
    Erased(ErasedKind),
}

impl Request for Record {
    type Reply = RecordOutcome;

    fn is_failure(outcome: &RecordOutcome) -> bool {
        !outcome.failures.is_empty()
    }

    fn weight(&self) -> usize {
        self.events.len()
    }
}

/// To the sync publisher: applies ledger rows, leased by this process, to the read models.
#[derive(Debug, Clone)]
pub struct Sync {
    /// At least one.
    pub rows: Vec<LedgerRow>,
}

/// The reply to a [`Sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncOutcome {
    /// The database was in working order: the rows are completed, or failed because of their events.
    Ended,
    /// The infrastructure failed, so some rows wait for another attempt.
    Waiting,
}

impl Request for Sync {
    type Reply = SyncOutcome;

    fn weight(&self) -> usize {
        self.rows.len()
    }
}

/// To the sync publisher: a batch was recorded and synced in one transaction, so the cache has to be settled, and counts and
/// facts have to be published.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The number of ledger rows that the commit completed.
    pub rows: usize,
    /// The read models after the commit.
    pub settled: Settled,
}

impl Request for Committed {
    type Reply = ();

    fn weight(&self) -> usize {
        self.rows
    }
}

/// To the fact publisher: a commit may have added facts to the outbox.
#[derive(Debug, Clone, Copy)]
pub struct FactsCommitted;

impl Request for FactsCommitted {
    type Reply = ();
}

/// To the cache writer: sets the states and counts that a commit stored.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The states and counts of the committed pairs and resources.
    pub settled: Settled,
}

impl Request for Settle {
    type Reply = ();

    fn weight(&self) -> usize {
        self.settled.states.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(changed: Option<bool>, newer: Option<i64>) -> ApplyOutcome {
        ApplyOutcome {
            applied: Some(Applied {
                changed,
                newer: newer.map(Version),
                like_count: Some(3),
            }),
            stored: None,
        }
    }

    #[test]
    fn newer_event_does_not_tell_what_the_first_time_changed() {
        let overtaken = outcome(Some(false), Some(9));
        for (first, again, changed) in [
            (None, outcome(Some(true), None), Some(true)),
            (None, outcome(None, None), None),
            (None, overtaken, None),
            (Some(true), overtaken, Some(true)),
            (Some(true), outcome(None, None), Some(true)),
        ] {
            let completed = outcome(first, None).completed_again(again);
            let applied = completed.applied.expect("an answer of the cache");
            assert_eq!(applied.changed, changed, "{first:?}, {again:?}");
            assert_eq!(completed.newer(), again.newer());
        }
        let unanswered = outcome(Some(true), None).completed_again(ApplyOutcome::default());
        assert_eq!(unanswered, ApplyOutcome::default());
    }
}
