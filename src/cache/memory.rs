//! The in-memory cache: runs the rule of `domain/entry.rs` under a lock, with a bound on its pairs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::{Cache, CacheFuture, Filling, Incarnation, Scanned, Settlement};
use crate::domain::{Applied, Entry, EntryView, Pair, Reading, Resource, Version, VersionedState};

const SHARDS: usize = 16;

/// The entries of this process, with eviction of the least recently used.
pub struct MemoryCache {
    shards: Vec<Mutex<Shard>>,
    incarnations: AtomicU64,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    pairs_per_shard: usize,
    pairs_per_resource: usize,
}

struct Shard {
    entries: LruCache<Resource, Entry>,
    pairs: usize,
}

impl MemoryCache {
    /// Creates a cache of at most `pairs` pairs and resources (about 100 bytes each). One resource takes at most a tenth, so
    /// that a popular one does not evict all others.
    #[must_use]
    pub fn new(pairs: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                entries: LruCache::unbounded(),
                pairs: 0,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            incarnations: AtomicU64::new(1),
            limits: Limits {
                pairs_per_shard: (pairs / SHARDS).max(1),
                pairs_per_resource: (pairs / SHARDS / 10).max(1),
            },
        }
    }

    /// Returns the number of pairs and resources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).pairs).sum()
    }

    /// Returns whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `work` on a resource's entry, creating a missing one, and enforces the bounds.
    fn with_entry<T>(&self, resource: Resource, work: impl FnOnce(&mut Entry) -> T) -> T {
        let mut shard = self.shard(resource);
        let Shard { entries, pairs } = &mut *shard;
        let before = entries.peek(&resource).map_or(0, Entry::weight);
        let entry = entries.get_or_insert_mut(resource, || Entry::new(self.new_life()));
        let result = work(entry);
        if entry.len() > self.limits.pairs_per_resource {
            // Trim half of them, so that the next pair does not trim again.
            entry.trim(self.limits.pairs_per_resource / 2, self.new_life());
        }
        *pairs = *pairs + entry.weight() - before;
        while *pairs > self.limits.pairs_per_shard && entries.len() > 1 {
            let Some((_, evicted)) = entries.pop_lru() else {
                break;
            };
            *pairs -= evicted.weight();
        }
        result
    }

    /// Runs `work` on a resource's entry, if it exists.
    fn with_entry_if_any(&self, resource: Resource, work: impl FnOnce(&mut Entry)) {
        let known = self.shard(resource).entries.contains(&resource);
        if known {
            self.with_entry(resource, work);
        }
    }

    fn new_life(&self) -> Incarnation {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, resource: Resource) -> MutexGuard<'_, Shard> {
        let index = resource.id as usize % SHARDS;
        lock(&self.shards[index])
    }

    fn read_pair(&self, pair: &Pair) -> Reading {
        let mut shard = self.shard(pair.resource);
        let entry = shard.entries.get(&pair.resource);
        entry.map_or_else(Reading::default, |entry| entry.read(pair.user_id))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache for MemoryCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move { Ok(()) })
    }

    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>> {
        Box::pin(async move { Ok(pairs.iter().map(|pair| self.read_pair(pair)).collect()) })
    }

    fn counts<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<i64>>> {
        Box::pin(async move {
            let count = |resource: &Resource| {
                let mut shard = self.shard(*resource);
                shard.entries.get(resource).and_then(Entry::like_count)
            };
            Ok(resources.iter().map(count).collect())
        })
    }

    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>> {
        Box::pin(async move {
            let apply = |(pair, state): &(Pair, VersionedState)| {
                self.with_entry(pair.resource, |entry| entry.apply(pair.user_id, *state))
            };
            Ok(events.iter().map(apply).collect())
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for (resource, settlement) in settlements {
                let new_life = self.new_life();
                self.with_entry_if_any(*resource, |entry| {
                    let states = settlement
                        .states
                        .iter()
                        .map(|(user_id, state)| (*user_id, *state));
                    entry.settle(states, settlement.count, new_life);
                });
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for (pair, version) in events {
                self.with_entry_if_any(pair.resource, |entry| {
                    entry.forget(pair.user_id, *version);
                });
            }
            Ok(())
        })
    }

    fn open<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>> {
        Box::pin(async move {
            let open =
                |resource: &Resource| self.with_entry(*resource, |entry| entry.incarnation());
            Ok(resources.iter().map(open).collect())
        })
    }

    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>> {
        Box::pin(async move {
            let fill = |filling: &Filling| {
                self.with_entry(filling.resource, |entry| {
                    let filled = entry.fill(filling.incarnation, filling.state, filling.count);
                    filled.then(|| match filling.state {
                        Some((user_id, _)) => entry.read(user_id),
                        None => Reading {
                            liked: None,
                            like_count: entry.like_count(),
                        },
                    })
                })
            };
            Ok(fillings.iter().map(fill).collect())
        })
    }

    fn drop_entries<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for resource in resources {
                let mut shard = self.shard(*resource);
                if let Some(entry) = shard.entries.pop(resource) {
                    shard.pairs -= entry.weight();
                }
            }
            Ok(())
        })
    }

    // One shard at a time, whatever the count.
    fn scan(&self, cursor: u64, _: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let Some(shard) = self.shards.get(cursor as usize) else {
                return Ok(Scanned::default());
            };
            let shard = lock(shard);
            Ok(Scanned {
                resources: shard
                    .entries
                    .iter()
                    .map(|(resource, _)| *resource)
                    .collect(),
                cursor: Some(cursor + 1),
            })
        })
    }

    fn inspect<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move {
            let view = |resource: &Resource| {
                let shard = self.shard(*resource);
                shard.entries.peek(resource).map(Entry::view)
            };
            Ok(resources.iter().map(view).collect())
        })
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            for shard in &self.shards {
                let mut shard = lock(shard);
                shard.entries.clear();
                shard.pairs = 0;
            }
            Ok(())
        })
    }

    // The cache ends with its process.
    fn restarted(&self) -> CacheFuture<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    fn kind(&self) -> &'static str {
        "in-process"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LikeCount;

    fn filling(video: i64, incarnation: Incarnation) -> Filling {
        Filling {
            resource: Resource::video(video),
            incarnation,
            state: Some((
                1,
                VersionedState {
                    version: Version(1),
                    liked: true,
                },
            )),
            count: LikeCount {
                like_count: 1,
                revision: 1,
            },
        }
    }

    #[actix::test]
    async fn memory_is_bounded_and_evicted_entries_are_unknown() {
        let cache = MemoryCache::new(160);
        for video in 1..=1_000 {
            let opened = cache
                .open(&[Resource::video(video)])
                .await
                .expect("in process");
            let filled = cache
                .fill(&[filling(video, opened[0])])
                .await
                .expect("in process");
            assert_eq!(
                filled[0],
                Some(Reading {
                    liked: Some(true),
                    like_count: Some(1)
                })
            );
        }
        assert!(cache.len() <= 160, "{} pairs", cache.len());
        let pair = Pair {
            resource: Resource::video(1),
            user_id: 1,
        };
        assert_eq!(
            cache.read(&[pair]).await.expect("in process"),
            [Reading::default()]
        );
    }

    #[actix::test]
    async fn one_resource_cannot_fill_the_cache() {
        let cache = MemoryCache::new(16_000);
        let resource = Resource::video(7);
        for user_id in 1..5_000 {
            let pair = Pair { resource, user_id };
            let state = VersionedState {
                version: Version(1),
                liked: true,
            };
            cache.apply(&[(pair, state)]).await.expect("in process");
            let settlement = Settlement {
                states: BTreeMap::from([(user_id, state)]),
                count: None,
            };
            let settlements = BTreeMap::from([(resource, settlement)]);
            cache.settle(&settlements).await.expect("in process");
        }
        assert!((50..=101).contains(&cache.len()), "{} pairs", cache.len());
    }
}
