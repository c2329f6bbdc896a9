//! The typed messages between actors, in the order of the flow.

use actor_kit::Request;

use crate::domain::{
    Applied, BehaviorEvent, KeyedRequest, LedgerRow, Pair, Reading, Resource, Started, UserId,
    Version, VersionedState,
};
use crate::store::{Settled, StoredResponse};

/// To the cache writer: an accepted event.
#[derive(Debug, Clone)]
pub struct Apply {
    /// Whose like of what.
    pub pair: Pair,
    /// What the event asks for.
    pub mark: VersionedState,
}

/// What came of an [`Apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplyOutcome {
    /// What the event did in the cache; `None` if the cache could not be written.
    pub applied: Option<Applied>,
    /// The version of a newer event of the pair that the database holds and the cache did not tell of.
    pub stored: Option<Version>,
}

impl ApplyOutcome {
    /// The version of a newer event of the pair that the cache or the database holds.
    #[must_use]
    pub fn newer(&self) -> Option<Version> {
        let cached = self.applied.and_then(|applied| applied.newer);
        cached.max(self.stored)
    }
}

impl Request for Apply {
    type Reply = ApplyOutcome;
}

/// To the cache writer: put back an event that could not be made durable.
#[derive(Debug, Clone)]
pub struct Forget {
    /// Whose like of what.
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

/// To the cache writer: reads from the database what the cache lacks about a resource, and fills the cache.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The resource.
    pub resource: Resource,
    /// The user whose like is read; `None` for the count alone.
    pub user_id: Option<UserId>,
}

impl Request for Lookup {
    /// Unknown values are absent.
    type Reply = Reading;
}

/// To the idempotency keeper: a request with a key, to be worked on.
#[derive(Debug, Clone)]
pub struct Begin {
    /// The request.
    pub request: KeyedRequest,
}

/// Why a key cannot be looked up or kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub String);

impl Request for Begin {
    type Reply = Result<Started, NotKept>;
}

/// To the idempotency keeper: a request was worked on.
#[derive(Debug, Clone)]
pub struct End {
    /// Which, and what was answered.
    pub response: StoredResponse,
}

impl Request for End {
    type Reply = Result<(), NotKept>;

    /// By the kilobytes of the answer, so that a batch of long ones is bounded too.
    fn weight(&self) -> usize {
        1 + self.response.answer.as_ref().map_or(0, String::len) / 4096
    }
}

/// To the event publisher: an accepted event.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The event.
    pub event: BehaviorEvent,
}

/// Why an event was not published, as far as is known: an acknowledgement may have been lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPublished(pub String);

impl Request for Publish {
    type Reply = Result<(), NotPublished>;
}

/// To the behavior recorder: behaviors to append.
#[derive(Debug, Clone)]
pub struct Record {
    /// At least one.
    pub events: Vec<BehaviorEvent>,
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
}

impl Request for Record {
    /// The events that are not recorded, by ascending position. All others are committed.
    type Reply = Vec<(usize, NotRecorded)>;

    fn weight(&self) -> usize {
        self.events.len()
    }
}

/// To the sync publisher: ledger rows that this process holds, to bring the read models up to.
#[derive(Debug, Clone)]
pub struct Sync {
    /// At least one.
    pub rows: Vec<LedgerRow>,
}

impl Request for Sync {
    type Reply = ();

    fn weight(&self) -> usize {
        self.rows.len()
    }
}

/// To the cache writer: what the database holds after a commit.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The states and counts of what the commit touched.
    pub settled: Settled,
}

impl Request for Settle {
    type Reply = ();

    fn weight(&self) -> usize {
        self.settled.states.len()
    }
}
