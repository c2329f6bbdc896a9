//! The requests in flight of each pair in one process, with their versions.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::fold::Pair;
use super::version::Version;

const SHARDS: usize = 64;

/// Orders the concurrent requests of one pair within a process by their versions.
///
/// Two concurrent requests of one pair may reach the cache in either order. The later one wins, and the earlier one may
/// find its version in the cache. If this process drew that version, the earlier request keeps its place in the order and
/// needs no new version. A newer version from elsewhere means that another clock runs ahead.
#[derive(Debug)]
pub struct InFlight {
    shards: Vec<Mutex<Shard>>,
}

type Shard = HashMap<Pair, Requests, RandomState>;

/// The requests of one pair. There is rarely more than one, which needs no allocation.
#[derive(Debug)]
struct Requests {
    oldest: Drawn,
    later: VecDeque<Drawn>,
}

#[derive(Debug, Clone, Copy)]
struct Drawn {
    version: Version,
    ended: bool,
}

impl Requests {
    fn versions(&self) -> impl Iterator<Item = Version> {
        let drawn = iter::once(&self.oldest).chain(&self.later);
        drawn.map(|drawn| drawn.version)
    }

    /// Ends a request, and removes the ended ones that no earlier one precedes. Returns whether one is left.
    fn end(&mut self, version: Version) -> bool {
        let mut drawn = iter::once(&mut self.oldest).chain(&mut self.later);
        let ending = drawn.find(|drawn| drawn.version == version && !drawn.ended);
        if let Some(ending) = ending {
            ending.ended = true;
        }
        while self.oldest.ended {
            let Some(next) = self.later.pop_front() else {
                return false;
            };
            self.oldest = next;
        }
        true
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl InFlight {
    /// Begins a request of this pair. `draw` gets the newest version that this process drew for requests of
    /// the pair that are still in flight, or [`Version::NEVER`], and returns the request's version.
    pub fn begin(self: &Arc<Self>, pair: Pair, draw: impl FnOnce(Version) -> Version) -> Flight {
        let mut shard = self.shard(&pair);
        let requests = shard.entry(pair.clone());
        let newest = match &requests {
            MapEntry::Occupied(requests) => requests.get().versions().max(),
            MapEntry::Vacant(_) => None,
        };
        let version = draw(newest.unwrap_or(Version::NEVER));
        let drawn = Drawn {
            version,
            ended: false,
        };
        requests
            .and_modify(|requests| requests.later.push_back(drawn))
            .or_insert_with(|| Requests {
                oldest: drawn,
                later: VecDeque::new(),
            });
        drop(shard);
        Flight {
            in_flight: Arc::clone(self),
            pair,
            version,
        }
    }

    /// Returns how many pairs have a request in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Returns whether no pair has a request in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, pair: &Pair) -> MutexGuard<'_, Shard> {
        let mixed = pair
            .user_id
            .spread()
            .wrapping_mul(31)
            .wrapping_add(pair.resource.id.spread());
        lock(&self.shards[mixed as usize % SHARDS])
    }

    fn holds(&self, pair: &Pair, version: Version) -> bool {
        let shard = self.shard(pair);
        let requests = shard.get(pair);
        requests.is_some_and(|requests| requests.versions().any(|drawn| drawn == version))
    }

    /// Ends a request. Keeps its version while an earlier request of the pair is in flight, which may still find it in the
    /// cache.
    fn end(&self, pair: &Pair, version: Version) {
        let mut shard = self.shard(pair);
        let MapEntry::Occupied(mut entry) = shard.entry(pair.clone()) else {
            return;
        };
        if !entry.get_mut().end(version) {
            entry.remove();
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub struct Flight {
    in_flight: Arc<InFlight>,
    pair: Pair,
    version: Version,
}

impl Flight {
    /// The request's pair.
    #[must_use]
    pub const fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The request's version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns whether this process drew `newer` for a later request of the same pair.
    #[must_use]
    pub fn is_followed_by(&self, newer: Version) -> bool {
        newer > self.version && self.in_flight.holds(&self.pair, newer)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.in_flight.end(&self.pair, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HybridClock, Resource};

    const PAIR: Pair = Pair {
        resource: Resource::video(7),
        user_id: crate::domain::Id::Number(1),
    };

    fn begin(in_flight: &Arc<InFlight>, version: i64) -> Flight {
        in_flight.begin(PAIR, |_| Version(version))
    }

    #[test]
    fn requests_of_one_pair_get_ascending_versions() {
        let (in_flight, clock) = (Arc::default(), HybridClock::default());
        let wall = Version(100);
        let draw = |newest| clock.above_at(newest, wall);
        // One was drawn above a version from the future: those that follow it lie above that.
        let first = InFlight::begin(&in_flight, PAIR, |_| Version(9_000_000_000));
        let second = in_flight.begin(PAIR, draw);
        assert_eq!(second.version(), Version(9_000_000_001));
        drop((first, second));
        // Once they have ended, the clock decides again, which drew once.
        let third = in_flight.begin(PAIR, draw);
        assert_eq!(third.version(), Version(wall.0 + 1));
    }

    #[test]
    fn only_later_local_requests_follow() {
        let in_flight = Arc::default();
        let earlier = begin(&in_flight, 10);
        let later = begin(&in_flight, 20);
        assert!(earlier.is_followed_by(Version(20)));
        assert!(!later.is_followed_by(Version(10)));
        assert!(!earlier.is_followed_by(Version(15)), "another's version");
        let other = Pair {
            user_id: 2.into(),
            ..PAIR
        };
        let other = in_flight.begin(other, |_| Version(5));
        assert!(!other.is_followed_by(Version(20)), "another pair's version");
    }

    #[test]
    fn ended_requests_are_kept_while_earlier_ones_run() {
        let in_flight = Arc::default();
        let earlier = begin(&in_flight, 10);
        drop(begin(&in_flight, 20));
        assert!(earlier.is_followed_by(Version(20)));
        drop(earlier);
        assert!(in_flight.is_empty());
        assert!(!begin(&in_flight, 15).is_followed_by(Version(20)));
    }

    #[test]
    fn ended_requests_leave_no_state() {
        let in_flight = Arc::default();
        let mut flights: Vec<_> = (1..100).map(|n| begin(&in_flight, n)).collect();
        flights.reverse();
        drop(flights);
        assert!(in_flight.is_empty());
    }
}
