//! The shared cache: real entries in a Redis that may be unavailable, evict, and restart with older data. Also the
//! excuses that the final check grants an entry.

use std::collections::{BTreeMap, BTreeSet};

use likewise::domain::{
    Applied, Entry, LikeCount, Pair, Reading, Resource, Version, VersionedState,
};
use likewise::store::Settled;

#[derive(Default)]
pub struct Cache {
    pub entries: BTreeMap<Resource, Entry>,
    /// The data after the next restart.
    saved: BTreeMap<Resource, Entry>,
    lives: u64,
    /// The number of this run of the server.
    pub run: u64,
    /// Entries with an event that no process will settle or revert, because a process died in between. A real entry
    /// loses such an event when it expires, is evicted or dropped.
    pub haunted: BTreeMap<Resource, &'static str>,
    /// Entries that missed a settlement because the process died. The next starting worker settles them.
    pub untold: BTreeSet<Resource>,
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

    fn entry(&mut self, resource: Resource) -> &mut Entry {
        let life = self.new_life();
        let entry = self.entries.entry(resource);
        entry.or_insert_with(|| Entry::new(life))
    }

    pub fn read(&self, pair: &Pair) -> Reading {
        let entry = self.entries.get(&pair.resource);
        entry.map_or_else(Reading::default, |entry| entry.read(pair.user_id))
    }

    pub fn apply(&mut self, pair: Pair, mark: VersionedState) -> Applied {
        self.entry(pair.resource).apply(pair.user_id, mark)
    }

    pub fn settle(&mut self, settled: &Settled) {
        let resources: BTreeSet<Resource> = resources_of(settled).collect();
        for resource in resources {
            let life = self.new_life();
            if let Some(entry) = self.entries.get_mut(&resource) {
                let of_it = settled.states.iter();
                let marks = of_it
                    .filter(|(pair, _)| pair.resource == resource)
                    .map(|(pair, mark)| (pair.user_id, *mark));
                entry.settle(marks, settled.counts.get(&resource).copied(), life);
            }
        }
    }

    pub fn forget(&mut self, pair: Pair, version: Version) {
        if let Some(entry) = self.entries.get_mut(&pair.resource) {
            entry.forget(pair.user_id, version);
        }
    }

    pub fn open(&mut self, resource: Resource) -> u64 {
        self.entry(resource).incarnation()
    }

    pub fn fill(&mut self, pair: Pair, life: u64, mark: VersionedState, count: LikeCount) -> bool {
        let entry = self.entries.get_mut(&pair.resource);
        entry.is_some_and(|entry| entry.fill(life, [(pair.user_id, mark)], count))
    }

    /// Evicts down to the events in flight, because the order of eviction is not drawn from the seed.
    pub fn trim(&mut self, resource: Resource) {
        let life = self.new_life();
        if let Some(entry) = self.entries.get_mut(&resource) {
            entry.trim(0, life);
        }
    }

    pub fn drop_entry(&mut self, resource: Resource) {
        self.entries.remove(&resource);
        self.haunted.remove(&resource);
        self.untold.remove(&resource);
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.haunted.clear();
        self.untold.clear();
    }

    pub fn save(&mut self) {
        self.saved = self.entries.clone();
    }

    pub fn start_again(&mut self) {
        self.run += 1;
        self.entries = self.saved.clone();
        self.haunted.clear();
        self.untold.clear();
    }

    /// No process will repair the current entry.
    pub fn haunt(&mut self, resource: Resource, why: &'static str) {
        if self.entries.contains_key(&resource) {
            self.haunted.insert(resource, why);
        }
    }

    pub fn leave_untold(&mut self, resources: impl IntoIterator<Item = Resource>) {
        let there = resources
            .into_iter()
            .filter(|resource| self.entries.contains_key(resource));
        self.untold.extend(there);
    }
}

pub fn resources_of(settled: &Settled) -> impl Iterator<Item = Resource> {
    let of_pairs = settled.states.keys().map(|pair| pair.resource);
    of_pairs.chain(settled.counts.keys().copied())
}
