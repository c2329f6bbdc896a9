//! The shards of the in-memory cache: entries of one kind under locks, with eviction of the least recently used.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::{CountEntry, UserEntry};

/// The number of locks of each kind of entry.
const SHARDS: usize = 16;

/// The number of entries in flight that one eviction passes over.
const PASSED_OVER: usize = 64;

/// What the shards must know of an entry.
pub(super) trait Evictable {
    /// Returns its share of the bound.
    fn weight(&self) -> usize;

    /// Returns whether the database would answer with an earlier state if the entry were evicted.
    fn is_in_flight(&self) -> bool;
}

impl Evictable for UserEntry {
    fn weight(&self) -> usize {
        self.len() + 1
    }

    fn is_in_flight(&self) -> bool {
        Self::is_in_flight(self)
    }
}

impl Evictable for CountEntry {
    fn weight(&self) -> usize {
        self.len() + 1
    }

    fn is_in_flight(&self) -> bool {
        Self::is_in_flight(self)
    }
}

/// The entries of one kind.
pub(super) struct Shards<K: Hash + Eq, E> {
    shards: Vec<Mutex<Shard<K, E>>>,
}

/// The entries under one lock.
pub(super) struct Shard<K: Hash + Eq, E> {
    entries: LruCache<K, E>,
    weight: usize,
    most: usize,
}

impl<K: Hash + Eq, E: Evictable> Shards<K, E> {
    /// Creates shards whose entries weigh at most `most` together. Entries in flight may exceed it.
    pub(super) fn new(most: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                entries: LruCache::unbounded(),
                weight: 0,
                most: (most / SHARDS).max(1),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    /// Locks the shard of the keys with this spread.
    pub(super) fn lock(&self, spread: u64) -> MutexGuard<'_, Shard<K, E>> {
        lock(&self.shards[spread as usize % SHARDS])
    }

    /// Locks the shard of this number; `None` after the last one.
    pub(super) fn nth(&self, number: usize) -> Option<MutexGuard<'_, Shard<K, E>>> {
        self.shards.get(number).map(lock)
    }

    /// Returns the weight of all entries.
    pub(super) fn weight(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).weight).sum()
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.entries.clear();
            shard.weight = 0;
        }
    }
}

impl<K: Hash + Eq + Clone, E: Evictable> Shard<K, E> {
    /// Returns an entry, and notes that it was used.
    pub(super) fn get(&mut self, key: &K) -> Option<&E> {
        self.entries.get(key)
    }

    /// Returns an entry.
    pub(super) fn peek(&self, key: &K) -> Option<&E> {
        self.entries.peek(key)
    }

    /// Runs `work` on an entry, which `create` makes if it is missing, and enforces the bound.
    pub(super) fn with<T>(
        &mut self,
        key: &K,
        create: impl FnOnce() -> E,
        work: impl FnOnce(&mut E) -> T,
    ) -> T {
        if !self.entries.contains(key) {
            let entry = create();
            self.weight += entry.weight();
            self.entries.put(key.clone(), entry);
        }
        let done = self.with_any(key, work);
        done.unwrap_or_else(|| unreachable!("the entry was put above"))
    }

    /// Runs `work` on an entry, if it exists, and enforces the bound.
    pub(super) fn with_any<T>(&mut self, key: &K, work: impl FnOnce(&mut E) -> T) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        let before = entry.weight();
        let done = work(entry);
        self.weight = self.weight + entry.weight() - before;
        self.evict(key);
        Some(done)
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.pop(key) {
            self.weight -= entry.weight();
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// Evicts the least recently used entries that the database can answer for, but not the one in use.
    fn evict(&mut self, in_use: &K) {
        let mut passed_over = 0;
        while self.weight > self.most && self.entries.len() > 1 && passed_over < PASSED_OVER {
            let Some((key, entry)) = self.entries.pop_lru() else {
                return;
            };
            if entry.is_in_flight() || key == *in_use {
                self.entries.put(key, entry);
                passed_over += 1;
            } else {
                self.weight -= entry.weight();
            }
        }
    }
}

fn lock<K: Hash + Eq, E>(shard: &Mutex<Shard<K, E>>) -> MutexGuard<'_, Shard<K, E>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
