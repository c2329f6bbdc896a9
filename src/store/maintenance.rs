//! What keeps the database in order over time: audits that compare and mend, and retention.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Check, StoreFuture};
use crate::domain::{Pair, Resource, ResourceType, UserId};

/// One walk of an audit through a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Through the behaviors, by user: each like event has its ledger row.
    Behaviors,
    /// Through the ledger, by event id: each row has its behavior and is in a state that can be.
    Ledger,
    /// Through a read model and its events, by user: each pair is what its events add up to, and its resource
    /// has a count.
    Likes(ResourceType),
    /// Through the counts, by resource: each is the number of liked rows.
    Counts(ResourceType),
}

/// A place in a [`Pass`]: the key of the last row that it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Position {
    /// A user or a resource.
    Number(i64),
    /// An event id, as it is stored.
    Id(String),
}

impl Pass {
    /// Where it begins: before the first row.
    #[must_use]
    pub const fn start(self) -> Position {
        match self {
            Self::Ledger => Position::Id(String::new()),
            _ => Position::Number(i64::MIN),
        }
    }
}

/// A part of a pass: the rows after one position, up to and with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The pass.
    pub pass: Pass,
    /// After which row it begins.
    pub after: Position,
    /// With which row it ends; `None` for the end of the table.
    pub until: Option<Position>,
    /// How many behaviors, ledger rows or counts it has; zero for likes, which the behaviors stand for.
    pub rows: i64,
}

/// The ways in which the data can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A like event without a ledger row.
    MissingLedgerRow,
    /// A ledger row without a behavior.
    MissingBehavior,
    /// A ledger row in a state that nothing leads to, so that it may never come to its end.
    BrokenLedgerRow,
    /// A pair whose row in the read model is not what its events add up to.
    WrongLike,
    /// A like count that is not the number of liked rows.
    WrongCount,
    /// A cache entry that says what the database does not.
    StaleCacheEntry,
    /// An acknowledged event in quarantine, so that it has no effect.
    AcknowledgedEventInQuarantine,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 7] = [
        Self::MissingLedgerRow,
        Self::MissingBehavior,
        Self::BrokenLedgerRow,
        Self::WrongLike,
        Self::WrongCount,
        Self::StaleCacheEntry,
        Self::AcknowledgedEventInQuarantine,
    ];

    /// The word for it in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingLedgerRow => "missing_ledger_row",
            Self::MissingBehavior => "missing_behavior",
            Self::BrokenLedgerRow => "broken_ledger_row",
            Self::WrongLike => "wrong_like",
            Self::WrongCount => "wrong_count",
            Self::StaleCacheEntry => "stale_cache_entry",
            Self::AcknowledgedEventInQuarantine => "acknowledged_event_in_quarantine",
        }
    }
}

/// What a [`Discrepancy`] is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A like event, by its id as it is stored.
    Event(String),
    /// A user and a resource.
    Pair(Pair),
    /// A resource.
    Resource(Resource),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => write!(f, "event {id}"),
            Self::Pair(pair) => write!(f, "user {}, {}", pair.user_id, pair.resource),
            Self::Resource(resource) => write!(f, "{resource}"),
        }
    }
}

/// One place where the data is not as promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// In which way.
    pub finding: Finding,
    /// Where.
    pub subject: Subject,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// How many rows it wrote or removed.
    pub rows: usize,
    /// The resources whose likes or count it touched: what the cache holds of them may be wrong.
    pub resources: Vec<Resource>,
}

/// How many rows of each table an audit walks through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// `user_behaviors`.
    pub behaviors: i64,
    /// `sync_events`.
    pub ledger_rows: i64,
    /// `like_counts`.
    pub counts: i64,
}

/// A behavior as it is archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedBehavior {
    /// Its place in the table.
    pub user_behavior_id: i64,
    /// Its identity.
    pub event_id: String,
    /// Who.
    pub user_id: UserId,
    /// The kind of resource.
    pub resource_type: String,
    /// Which one.
    pub resource_id: i64,
    /// What was done.
    pub behavior_type: String,
    /// Its place among the events of the pair.
    pub version: i64,
    /// Who said so.
    pub source: String,
    /// When it was done.
    pub behavior_time: DateTime<Utc>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
}

/// Some behaviors that may be pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prunable {
    /// They.
    pub behaviors: Vec<ArchivedBehavior>,
    /// The last row that was looked at, where the next look begins; `None` if there are no more.
    pub position: Option<i64>,
}

/// What the database has under one event id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled {
    /// How many behaviors.
    pub behaviors: i64,
    /// How many ledger rows.
    pub ledger_rows: i64,
    /// The ledger row's status.
    pub status: Option<String>,
}

/// What audits, rebuilds and retention ask of the database; a part of [`Store`](super::Store).
pub trait Maintenance: Send + Sync {
    /// What there is under each of these event ids.
    fn journaled<'a>(&'a self, ids: &'a [Uuid]) -> StoreFuture<'a, BTreeMap<Uuid, Journaled>>;

    /// Acknowledged events in quarantine that nobody has resolved: they have no effect. Counts all of them and
    /// shows so many. The index makes it cheap.
    fn acknowledged_in_quarantine(&self, examples: usize) -> StoreFuture<'_, Check>;

    /// Which of these events are or were in quarantine, by their id, and why.
    fn quarantined_events<'a>(
        &'a self,
        ids: &'a [Uuid],
    ) -> StoreFuture<'a, BTreeMap<String, String>>;

    /// About how large the tables are, by the database's own statistics; zero if it has none.
    fn sizes(&self) -> StoreFuture<'_, Sizes>;

    /// The part of a pass that begins after this position and has about so many rows.
    fn chunk(&self, pass: Pass, after: Position, rows: usize) -> StoreFuture<'_, Chunk>;

    /// What is wrong in a chunk, as of one moment. Some of it may be a passing state of the live pipeline:
    /// what is still wrong after a while is not.
    fn inspect<'a>(&'a self, chunk: &'a Chunk) -> StoreFuture<'a, Vec<Discrepancy>>;

    /// Puts right what is still wrong of these, under the locks that the live pipeline takes too: ledger
    /// and behaviors from each other, read models from the behaviors, counts from the read models.
    fn repair<'a>(
        &'a self,
        found: &'a [Discrepancy],
        now: DateTime<Utc>,
    ) -> StoreFuture<'a, Repaired>;

    /// Which of these pairs have a like event that has not come to its end.
    fn open_pairs<'a>(&'a self, pairs: &'a [Pair]) -> StoreFuture<'a, Vec<Pair>>;

    /// How many ledger rows were due before this moment and are still open: nobody works on them.
    fn overdue(&self, before: DateTime<Utc>) -> StoreFuture<'_, i64>;

    /// Deletes completed ledger rows that were recorded before this moment, with their history, at most
    /// `limit` of them; answers how many. From then on, a behavior recorded before it needs no ledger row.
    fn prune_ledger(&self, before: DateTime<Utc>, limit: usize) -> StoreFuture<'_, usize>;

    /// Behaviors recorded before this moment that no promise needs: those that are no like events, and
    /// completed like events that a newer completed one of the same pair has superseded. Looks at `limit`
    /// rows after this position.
    fn prunable(
        &self,
        before: DateTime<Utc>,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'_, Prunable>;

    /// Deletes these behaviors with their ledger rows and their history.
    fn prune_behaviors<'a>(&'a self, behaviors: &'a [ArchivedBehavior]) -> StoreFuture<'a, ()>;
}
