//! The typed messages between actors, in the order of the flow.

use actor_kit::Request;

use crate::domain::{
    Applied, BehaviorEvent, ErasedKind, KeyedRequest, LedgerRow, Pair, Reading, Resource, Started,
    UserId, Version, VersionedState,
};
use crate::store::{Settled, StoredResponse};

/// To the cache writer: applies an accepted event.
#[derive(Debug, Clone)]
pub struct Apply {
    /// The user and the resource.
    pub pair: Pair,
    /// The state that the event sets.
    pub state: VersionedState,
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
    /// The events that are not recorded, by ascending position. All others are committed.
    type Reply = Vec<(usize, NotRecorded)>;

    fn is_failure(failures: &Self::Reply) -> bool {
        !failures.is_empty()
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
