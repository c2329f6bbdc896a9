//! The shared cache: real entries in a Redis that may be unavailable, evict, and restart with older data. Also the
//! excuses that the final check grants an entry.

use std::collections::{BTreeMap, BTreeSet};

use likewise::domain::{
    Applied, CountEntry, CountFill, Counting, Coverage, EntryId, LikeCount, OVERDUE_AFTER, Pair,
    Reading, Resource, UserEntry, UserId, Version, VersionedState,
};
use likewise::store::Settled;

#[derive(Default, Clone)]
struct Entries {
    users: BTreeMap<UserId, UserEntry>,
    counts: BTreeMap<Resource, CountEntry>,
}

#[derive(Default)]
pub struct Cache {
    entries: Entries,
    /// The data after the next restart.
    saved: Entries,
    lives: u64,
    /// The number of this run of the server.
    pub run: u64,
    /// Entries with an event that no process will settle or revert, because a process died in between. A comparison of
    /// what is overdue with the database mends them.
    pub haunted: BTreeMap<EntryId, &'static str>,
    /// Entries that missed a settlement because the process died. The next starting worker settles them.
    pub untold: BTreeSet<EntryId>,
    /// Entries of a server that came back with older data, which no process has noticed.
    pub outdated: BTreeSet<EntryId>,
}

impl Cache {
    pub fn new() -> Self {
        Self {
            run: 1,
            ..Self::default()
        }
    }

    fn new_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    fn user(&mut self, user_id: UserId) -> &mut UserEntry {
        let life = self.new_life();
        let entry = self.entries.users.entry(user_id);
        entry.or_insert_with(|| UserEntry::new(life))
    }

    pub fn read(&self, pair: &Pair, now: Version) -> Reading {
        let user = self.entries.users.get(&pair.user_id);
        let held = user.map(|entry| entry.read(&pair.resource));
        let count = self.entries.counts.get(&pair.resource);
        let before = overdue_before(now);
        let is_old = held.is_some_and(|held| held.is_in_flight() && held.state.version < before);
        Reading {
            liked: held.and_then(likewise::domain::CachedPair::liked),
            like_count: count.and_then(CountEntry::like_count),
            is_overdue: is_old || count.is_some_and(|count| count.is_overdue(before)),
        }
    }

    /// The state of a pair and the count of its resource, as far as they are known.
    pub fn known(&self, pair: &Pair) -> (Option<VersionedState>, Option<LikeCount>) {
        let user = self.entries.users.get(&pair.user_id);
        let count = self.entries.counts.get(&pair.resource);
        let state = user.and_then(|entry| entry.read(&pair.resource).known());
        (state, count.and_then(|entry| entry.view().count))
    }

    pub fn apply(&mut self, pair: &Pair, mark: VersionedState, now: Version) -> Applied {
        let applied = self.user(pair.user_id.clone()).apply(&pair.resource, mark);
        let mut like_count = None;
        if let Some(count) = self.entries.counts.get_mut(&pair.resource) {
            if let Counting::Join(event) = applied.counting {
                count.join(&pair.user_id, event, now);
            }
            like_count = count.like_count();
        }
        Applied {
            changed: applied.changed,
            newer: applied.newer,
            like_count: like_count.filter(|_| applied.counting != Counting::Unknown),
        }
    }

    pub fn settle(&mut self, settled: &Settled, now: Version) {
        for (pair, mark) in &settled.states {
            let life = self.new_life();
            if let Some(entry) = self.entries.users.get_mut(&pair.user_id) {
                entry.settle(&pair.resource, *mark, life);
            }
        }
        let of_pairs = settled.states.keys().map(|pair| pair.resource.clone());
        let resources: BTreeSet<_> = of_pairs.chain(settled.counts.keys().cloned()).collect();
        for resource in resources {
            let life = self.new_life();
            if let Some(entry) = self.entries.counts.get_mut(&resource) {
                let marks = settled
                    .states
                    .iter()
                    .filter(|(pair, _)| pair.resource == resource)
                    .map(|(pair, mark)| (&pair.user_id, *mark));
                entry.settle(marks, settled.counts.get(&resource).copied(), life, now);
            }
        }
    }

    pub fn forget(&mut self, pair: &Pair, version: Version, now: Version) {
        if let Some(entry) = self.entries.users.get_mut(&pair.user_id) {
            entry.forget(&pair.resource, version);
        }
        if let Some(entry) = self.entries.counts.get_mut(&pair.resource) {
            entry.forget(&pair.user_id, version, now);
        }
    }

    /// The incarnations of the entries of a pair; zero for a known count.
    pub fn open(&mut self, pair: &Pair) -> (u64, u64) {
        let user = self.user(pair.user_id.clone()).incarnation();
        let life = self.new_life();
        let count = self.entries.counts.entry(pair.resource.clone());
        let count = count.or_insert_with(|| CountEntry::new(life));
        (user, count.incarnation().unwrap_or_default())
    }

    /// Fills the rows of a user, and a count. Returns whether both were taken.
    pub fn fill(
        &mut self,
        pair: &Pair,
        lives: (u64, u64),
        coverage: Coverage,
        rows: &[(Resource, VersionedState)],
        count: LikeCount,
    ) -> bool {
        let user = self.entries.users.get_mut(&pair.user_id);
        let rows = rows.iter().cloned();
        let taken = user.is_some_and(|entry| entry.fill(lives.0, coverage, rows));
        let entry = self.entries.counts.get_mut(&pair.resource);
        entry.is_some_and(|entry| entry.fill(lives.1, count) != CountFill::Refused) && taken
    }

    pub fn coverage(&self, user_id: &UserId) -> Coverage {
        let entry = self.entries.users.get(user_id);
        entry.map_or(Coverage::Unfilled, UserEntry::coverage)
    }

    /// The events of the entries of a pair that have been in flight since before a version.
    pub fn overdue(
        &mut self,
        pair: &Pair,
        before: Version,
        now: Version,
    ) -> BTreeMap<Pair, Version> {
        let mut overdue = BTreeMap::new();
        if let Some(entry) = self.entries.users.get(&pair.user_id) {
            for (resource, held) in entry.view().pairs {
                if held.is_in_flight() && held.state.version < before {
                    let user_id = pair.user_id.clone();
                    overdue.insert(Pair { resource, user_id }, held.state.version);
                }
            }
        }
        if let Some(entry) = self.entries.counts.get_mut(&pair.resource) {
            for (user_id, version) in entry.overdue(before, usize::MAX, now) {
                let resource = pair.resource.clone();
                overdue.insert(Pair { resource, user_id }, version);
            }
        }
        overdue
    }

    /// Evicts down to the events in flight, because the order of eviction is not drawn from the seed.
    pub fn trim(&mut self, user_id: &UserId) {
        let life = self.new_life();
        if let Some(entry) = self.entries.users.get_mut(user_id) {
            entry.trim(0, life);
        }
    }

    fn has(&self, entry: &EntryId) -> bool {
        match entry {
            EntryId::User(user_id) => self.entries.users.contains_key(user_id),
            EntryId::Count(resource) => self.entries.counts.contains_key(resource),
        }
    }

    pub fn drop_entry(&mut self, entry: &EntryId) {
        match entry {
            EntryId::User(user_id) => {
                self.entries.users.remove(user_id);
            }
            EntryId::Count(resource) => {
                self.entries.counts.remove(resource);
            }
        }
        self.haunted.remove(entry);
        self.untold.remove(entry);
        self.outdated.remove(entry);
    }

    pub fn clear(&mut self) {
        self.entries = Entries::default();
        self.haunted.clear();
        self.untold.clear();
        self.outdated.clear();
    }

    pub fn save(&mut self) {
        self.saved = self.entries.clone();
    }

    pub fn start_again(&mut self) {
        self.run += 1;
        self.entries = self.saved.clone();
        self.haunted.clear();
        self.untold.clear();
        self.outdated.clear();
    }

    /// No process will settle or revert an event of this pair.
    pub fn haunt(&mut self, pair: &Pair, why: &'static str) {
        for entry in EntryId::of_pair(pair) {
            if self.has(&entry) {
                self.haunted.insert(entry, why);
            }
        }
    }

    pub fn haunt_entry(&mut self, entry: &EntryId, why: &'static str) {
        if self.has(entry) {
            self.haunted.insert(entry.clone(), why);
        }
    }

    pub fn leave_untold(&mut self, entries: impl IntoIterator<Item = EntryId>) {
        let there = entries.into_iter().filter(|entry| self.has(entry));
        let there: Vec<_> = there.collect();
        self.untold.extend(there);
    }

    /// No process notices that all entries are old.
    pub fn leave_outdated(&mut self) {
        let users = self.entries.users.keys().cloned().map(EntryId::User);
        let counts = self.entries.counts.keys().cloned().map(EntryId::Count);
        self.outdated = users.chain(counts).collect();
    }

    /// Whether the final check excuses an entry.
    pub fn is_excused(&self, entry: &EntryId) -> bool {
        self.haunted.contains_key(entry)
            || self.untold.contains(entry)
            || self.outdated.contains(entry)
    }

    pub fn show(&self, pair: &Pair) -> String {
        format!(
            "{:?} {:?}",
            self.entries.users.get(&pair.user_id),
            self.entries.counts.get(&pair.resource)
        )
    }
}

pub fn overdue_before(now: Version) -> Version {
    let micros = i64::try_from(OVERDUE_AFTER.as_micros()).unwrap_or(i64::MAX);
    Version(now.0 - micros)
}

pub fn entries_of(settled: &Settled) -> impl Iterator<Item = EntryId> {
    let of_pairs = settled.states.keys().flat_map(EntryId::of_pair);
    of_pairs.chain(settled.counts.keys().cloned().map(EntryId::Count))
}
