//! The memory of a process, which a crash loses.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use likewise::domain::{
    Action, Applied, BehaviorEvent, Bisection, CommitEffect, Coverage, EntryId, Flight,
    HybridClock, InFlight, LedgerRow, LikeCount, Pair, Resource, Version, VersionedState,
};
use likewise::messages::{ApplyOutcome, NotRecorded};
use likewise::store::{Settled, StoreError};

use super::stream::Delivered;

/// One process.
pub struct Process {
    pub api: bool,
    pub worker: bool,
    /// The error of its wall clock, in microseconds.
    pub skew: i64,
    /// `None` while it is down.
    pub memory: Option<Memory>,
}

/// Identifies a request or a delivery of a process.
pub type Id = u64;

#[derive(Default)]
pub struct Memory {
    pub clock: HybridClock,
    pub in_flight: Arc<InFlight>,
    pub last_id: Id,
    pub requests: BTreeMap<Id, Request>,
    pub deliveries: BTreeMap<Id, Delivery>,
    /// The queue of the recorder.
    pub to_record: Vec<Record>,
    pub recording: Option<Recording>,
    /// The queue of the sync publisher.
    pub to_sync: Vec<LedgerRow>,
    pub syncing: Option<Syncing>,
    /// The messages to the cache, taken in any order because there are several lanes.
    pub to_cache: Vec<ToCache>,
    pub looks: Vec<Look>,
    pub comparisons: Vec<Comparison>,
    /// The look-up at the start: the counts first, then the states.
    pub recent: Option<Option<BTreeMap<Resource, LikeCount>>>,
    /// Entries that could not be settled, or whose event could not be reverted.
    pub owed: BTreeMap<EntryId, Owed>,
    pub owed_all: bool,
    /// The last seen run of the cache; zero if it was unreachable.
    pub known_run: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owed {
    Settlement,
    PutBack,
}

impl Memory {
    pub fn new_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    pub fn owe(&mut self, entry: EntryId, what: Owed) {
        let owed = self.owed.entry(entry).or_insert(what);
        *owed = what.max(*owed);
    }
}

/// A like in flight.
#[derive(Debug)]
pub struct Request {
    pub pair: Pair,
    pub action: Action,
    pub event: BehaviorEvent,
    pub draws: usize,
    /// The event's place among the process's requests of its pair.
    pub flight: Flight,
    /// The newest stored version of the pair at the start of the request.
    pub stored_before: Version,
    /// The run of the cache when the event was sent.
    pub run: u64,
    /// Whether the cache received the event.
    pub told: bool,
    /// Whether the cache or the database knew the state of the pair.
    pub certain: bool,
    /// The answers of the cache and the database so far.
    pub applied: Option<ApplyOutcome>,
    /// Whether the database is read for what the cache lacks. Without a stream, the commit tells it first.
    pub loads_missing: bool,
    /// The cache's answer before the event was applied again.
    pub first: Option<ApplyOutcome>,
    /// The effect of the commit on the pair, if the recorder tells it.
    pub effect: Option<CommitEffect>,
    /// Whether the recorder answered after the settlement of the cache.
    pub is_settled: bool,
    pub durable: Durable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    Publishing,
    Recording,
    Reached,
    Nowhere,
}

/// A batch of delivered messages in work.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub messages: Vec<Delivered>,
    pub stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The recorder has not answered.
    Recording,
    /// Recorded or quarantined, to be acknowledged.
    Recorded,
    Unavailable,
    /// To be quarantined, and reverted in the cache if it is our own.
    Refused,
    /// To be quarantined; not in the cache.
    Undecodable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Request(Id),
    Delivery(Id),
}

#[derive(Debug, Clone)]
pub struct Record {
    pub events: Vec<BehaviorEvent>,
    pub redelivered: bool,
    pub asker: Asker,
}

/// The recorder's batch in flight.
pub struct Recording {
    pub batch: Vec<Record>,
    pub parts: Bisection,
    /// The positions in the batch of events that are not recorded.
    pub failures: Vec<(usize, NotRecorded)>,
    pub rows: Vec<LedgerRow>,
    /// Whether one transaction for both steps is to be tried.
    pub one_transaction: bool,
    /// What it has committed.
    pub settled: Option<Settled>,
    /// The requests that wait until the cache is settled, with what it did to their pairs.
    pub effects: Vec<(Id, CommitEffect)>,
    /// Whether it failed, so that it may have committed without an answer.
    pub commit_unknown: bool,
    pub answered: bool,
}

/// The sync publisher's batch in flight.
pub struct Syncing {
    pub rows: Vec<LedgerRow>,
    pub parts: Bisection,
    pub done: Vec<Settled>,
    pub failed: Vec<(Range<usize>, StoreError)>,
}

#[derive(Debug, Clone)]
pub enum ToCache {
    Apply(Id, Pair, VersionedState),
    /// With the requests that are answered afterwards.
    Settle(Settled, Vec<(Id, CommitEffect)>),
    Forget(Pair, Version),
}

/// A look-up in the database for facts that the cache lacks.
#[derive(Debug, Clone)]
pub struct Look {
    pub pair: Pair,
    /// The waiting request, with its version and the cache's answer.
    pub asker: Option<(Id, VersionedState, Option<Applied>)>,
    pub rounds: usize,
    pub seen: Seen,
}

#[derive(Debug, Clone)]
pub enum Seen {
    Nothing,
    Lives((u64, u64), Coverage),
    Count((u64, u64), Coverage, LikeCount),
    /// The rows of the user, or of the pair alone.
    All(
        (u64, u64),
        Coverage,
        LikeCount,
        Vec<(Resource, VersionedState)>,
    ),
    /// Filled: an event that waits is applied again.
    Filled(VersionedState),
}

/// A comparison of overdue events with the database.
#[derive(Debug, Clone)]
pub enum Comparison {
    Listed(BTreeMap<Pair, Version>),
    Compared(Settled, Vec<(Pair, Version)>),
}

/// The entries of rows.
pub fn entries(rows: &[LedgerRow]) -> BTreeSet<EntryId> {
    rows.iter()
        .flat_map(|row| EntryId::of_pair(&pair_of(row)))
        .collect()
}

pub fn pair_of(row: &LedgerRow) -> Pair {
    Pair {
        resource: row.resource.clone(),
        user_id: row.user_id.clone(),
    }
}
