//! What a process holds in its memory, all of which a crash loses.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use likewise::domain::{
    Action, Applied, BehaviorEvent, Bisection, Flight, HybridClock, InFlight, LedgerRow, LikeCount,
    Pair, Resource, Version, VersionedState,
};
use likewise::messages::{ApplyOutcome, NotRecorded};
use likewise::store::{Settled, StoreError};

use super::stream::Delivered;

/// One process.
pub struct Process {
    pub api: bool,
    pub worker: bool,
    /// How far its wall clock is off, in microseconds.
    pub skew: i64,
    /// `None` while it is down.
    pub memory: Option<Memory>,
}

/// Names a request or a delivery of a process.
pub type Id = u64;

#[derive(Default)]
pub struct Memory {
    pub clock: HybridClock,
    pub in_flight: Arc<InFlight>,
    pub last_id: Id,
    pub requests: BTreeMap<Id, Request>,
    pub deliveries: BTreeMap<Id, Delivery>,
    /// What waits for the recorder.
    pub to_record: Vec<Record>,
    pub recording: Option<Recording>,
    /// What waits for the sync publisher.
    pub to_sync: Vec<LedgerRow>,
    pub syncing: Option<Syncing>,
    /// What is on its way to the cache: taken out in any order, for there are several lanes.
    pub to_cache: Vec<ToCache>,
    pub looks: Vec<Look>,
    /// Looked for at the start: the counts first, then the states.
    pub recent: Option<Option<BTreeMap<Resource, LikeCount>>>,
    /// Entries that could not be settled, and such that could not be relieved of an event.
    pub owed: BTreeMap<Resource, Owed>,
    pub owed_all: bool,
    /// The run of the cache that was last seen; zero for one that could not be reached.
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

    pub fn owe(&mut self, resource: Resource, what: Owed) {
        let owed = self.owed.entry(resource).or_insert(what);
        *owed = what.max(*owed);
    }
}

/// A like on its way to be accepted.
#[derive(Debug)]
pub struct Request {
    pub pair: Pair,
    pub action: Action,
    pub event: BehaviorEvent,
    pub draws: usize,
    /// Its place among the process's requests of its pair.
    pub flight: Flight,
    /// The newest version that was stored of the pair when the request began.
    pub stored_before: Version,
    /// The run of the cache when it was sent.
    pub run: u64,
    /// Whether the cache was told of it.
    pub told: bool,
    /// Whether the cache, or else the database, knew the state of the pair.
    pub certain: bool,
    /// What the cache and the database answered, if they have.
    pub applied: Option<ApplyOutcome>,
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
    /// Recorded or in quarantine, so to be acknowledged.
    Recorded,
    Unavailable,
    /// To be quarantined, and reverted in the cache if it is ours.
    Refused,
    /// To be quarantined, and not in the cache.
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
    pub asker: Asker,
}

/// The recorder's batch in flight.
pub struct Recording {
    pub batch: Vec<Record>,
    pub parts: Bisection,
    /// The events that are not recorded, by their position in the batch.
    pub failures: Vec<(usize, NotRecorded)>,
    pub rows: Vec<LedgerRow>,
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
    Settle(Settled),
    Forget(Pair, Version),
}

/// A look into the database for what the cache could not tell.
#[derive(Debug, Clone)]
pub struct Look {
    pub pair: Pair,
    /// The request whose answer needs it, with its version and what the cache has said.
    pub asker: Option<(Id, VersionedState, Option<Applied>)>,
    pub rounds: usize,
    pub seen: Seen,
}

#[derive(Debug, Clone, Copy)]
pub enum Seen {
    Nothing,
    Life(u64),
    Count(u64, LikeCount),
    All(u64, LikeCount, VersionedState),
}

/// The resources of rows.
pub fn resources(rows: &[LedgerRow]) -> BTreeSet<Resource> {
    rows.iter().map(|row| row.resource.clone()).collect()
}

pub fn pair_of(row: &LedgerRow) -> Pair {
    Pair {
        resource: row.resource.clone(),
        user_id: row.user_id.clone(),
    }
}
