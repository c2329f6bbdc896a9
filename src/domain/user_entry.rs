//! The cache entry of one user: which resources the user likes, and its newest-wins rule.
//!
//! The in-memory cache runs this code; the Redis script in `src/cache/redis/rule/` implements the same rule. One read
//! of the database fills an entry with all rows of its user, liked and unliked, so that a resource without a pair is not
//! liked.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::behavior::Resource;
use super::cached_entry::Coverage;
use super::cached_pair::{CachedPair, Join, Progress};
use super::entry_view::UserView;
use super::version::Version;
use super::versioned_state::VersionedState;

/// The result of [`UserEntry::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserApplied {
    /// Whether the pair's state changed; `None` if the previous state is unknown.
    pub changed: Option<bool>,
    /// The version of a newer event of this pair that the entry holds. If set, nothing changed.
    pub newer: Option<Version>,
    /// What the resource's count entry has to count.
    pub counting: Counting,
}

/// What the count entry of the resource has to count for an applied event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// The event is in flight.
    Join(Join),
    /// Nothing: the database holds the event, or a newer one won.
    Nothing,
    /// The event is in flight, and its difference is unknown until the entry is filled.
    Unknown,
}

/// The cached state of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// The name of this lifetime of the entry. An entry that is rebuilt after an eviction, a flush or a trim has a
    /// different one, so that an older database read cannot fill it.
    incarnation: u64,
    coverage: Coverage,
    // A page reads a hundred pairs: the standard hasher would cost more than the lookup.
    pairs: HashMap<Resource, CachedPair, RandomState>,
    in_flight: usize,
}

impl UserEntry {
    /// The largest number of pairs. A read from Redis transfers the whole entry, about 35 bytes a pair.
    pub const MOST_PAIRS: usize = 2_000;

    /// Creates an empty entry.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            coverage: Coverage::Unfilled,
            pairs: HashMap::default(),
            in_flight: 0,
        }
    }

    /// Returns the name of this lifetime of the entry: see [`fill`](Self::fill).
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Returns which pairs it holds.
    #[must_use]
    pub const fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns whether it has no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns whether a pair is in flight. The in-memory cache does not evict such an entry, because the database would
    /// answer with an earlier state.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Returns the pair of a resource; [`CachedPair::UNKNOWN`] if only the database knows it.
    #[must_use]
    pub fn read(&self, resource: &Resource) -> CachedPair {
        let absent = match self.coverage {
            Coverage::Complete => CachedPair::settled(VersionedState::NEVER),
            Coverage::Unfilled | Coverage::Partial => CachedPair::UNKNOWN,
        };
        self.pairs.get(resource).copied().unwrap_or(absent)
    }

    /// Returns the whole content.
    #[must_use]
    pub fn view(&self) -> UserView {
        UserView {
            coverage: self.coverage,
            pairs: self
                .pairs
                .iter()
                .map(|(resource, pair)| (resource.clone(), *pair))
                .collect(),
            unreadable: None,
        }
    }

    /// Applies an accepted event. The event wins if it is newer than the cached state.
    pub fn apply(&mut self, resource: &Resource, state: VersionedState) -> UserApplied {
        let held = self.read(resource);
        if let Some(known) = held.known() {
            // The entry already has this event: a repeated call, or its settlement arrived before this call.
            if state == known {
                return UserApplied {
                    changed: None,
                    newer: None,
                    counting: counting(held),
                };
            }
            if state < known {
                return UserApplied {
                    changed: Some(false),
                    newer: Some(known.version),
                    counting: Counting::Nothing,
                };
            }
        }
        let base = match held.progress {
            Progress::Settled => Some(held.state.liked),
            Progress::InFlight { base } => base,
            Progress::Reverted | Progress::Unknown => None,
        };
        let pair = CachedPair {
            state,
            progress: Progress::InFlight { base },
        };
        self.put(resource, pair);
        UserApplied {
            changed: held.known().map(|known| known.liked != state.liked),
            newer: None,
            counting: counting(pair),
        }
    }

    /// Applies the database's state of a pair after a commit.
    ///
    /// Settlements may arrive late and out of order. One about an unknown pair may be older than another that arrived
    /// before the entry was built, so the entry ignores its content. It starts a new lifetime, named `incarnation`,
    /// because a reader may be about to fill the entry with a read from before this commit.
    pub fn settle(&mut self, resource: &Resource, state: VersionedState, incarnation: u64) {
        let held = self.read(resource);
        match held.progress {
            Progress::Settled if state > held.state => {
                self.put(resource, CachedPair::settled(state));
            }
            Progress::InFlight { .. } if state >= held.state => {
                self.put(resource, CachedPair::settled(state));
            }
            // An earlier event of the pair may have been committed, and a revert would restore the state before it.
            Progress::InFlight { base: Some(base) } if base != state.liked => {
                let progress = Progress::InFlight { base: None };
                self.put(resource, CachedPair { progress, ..held });
                self.incarnation = incarnation;
            }
            Progress::Reverted => {
                self.put(resource, CachedPair::UNKNOWN);
                self.incarnation = incarnation;
            }
            Progress::InFlight { base: None } | Progress::Unknown => self.incarnation = incarnation,
            Progress::Settled | Progress::InFlight { base: Some(_) } => {}
        }
    }

    /// Fills the entry from a database read, if `incarnation` is still the current lifetime. Returns whether it was.
    /// `coverage` tells whether the rows are all of the user's.
    pub fn fill(
        &mut self,
        incarnation: u64,
        coverage: Coverage,
        rows: impl IntoIterator<Item = (Resource, VersionedState)>,
    ) -> bool {
        if incarnation != self.incarnation {
            return false;
        }
        for (resource, stored) in rows {
            let held = self.pairs.get(&resource).copied();
            let held = held.unwrap_or(CachedPair::UNKNOWN);
            self.put(&resource, held.filled(stored));
        }
        if coverage == Coverage::Complete {
            // The database has no row of the pairs that are still unknown.
            for pair in self.pairs.values_mut() {
                match pair.progress {
                    Progress::Reverted | Progress::Unknown | Progress::InFlight { base: None } => {
                        *pair = pair.filled(VersionedState::NEVER);
                    }
                    Progress::Settled | Progress::InFlight { base: Some(_) } => {}
                }
            }
        }
        self.coverage = self.coverage.max(coverage);
        true
    }

    /// Reverts an event that was applied but could not be made durable.
    pub fn forget(&mut self, resource: &Resource, version: Version) {
        let held = self.read(resource);
        if held.is_in_flight() && held.state.version == version {
            self.put(resource, held.reverted());
        }
    }

    /// Drops the oldest pairs that the database is known to hold, until at most `limit` pairs or only pairs in flight
    /// remain. If it drops any, a new lifetime named `incarnation` starts.
    pub fn trim(&mut self, limit: usize, incarnation: u64) {
        let surplus = self.pairs.len().saturating_sub(limit);
        let mut droppable: Vec<_> = self
            .pairs
            .iter()
            .filter(|(_, pair)| !pair.is_in_flight())
            .map(|(resource, pair)| {
                (
                    pair.state.version,
                    resource.key().to_string(),
                    resource.clone(),
                )
            })
            .collect();
        if surplus == 0 || droppable.is_empty() {
            return;
        }
        droppable.sort_unstable();
        for (_, _, resource) in droppable.into_iter().take(surplus) {
            self.pairs.remove(&resource);
        }
        self.coverage = self.coverage.min(Coverage::Partial);
        self.incarnation = incarnation;
    }

    fn put(&mut self, resource: &Resource, pair: CachedPair) {
        self.in_flight += usize::from(pair.is_in_flight());
        let before = match self.pairs.get_mut(resource) {
            Some(held) => Some(std::mem::replace(held, pair)),
            None => self.pairs.insert(resource.clone(), pair),
        };
        self.in_flight -= usize::from(before.is_some_and(CachedPair::is_in_flight));
    }
}

const fn counting(pair: CachedPair) -> Counting {
    match pair.progress {
        Progress::InFlight { base: Some(base) } => Counting::Join(Join {
            state: pair.state,
            base,
        }),
        Progress::InFlight { base: None } => Counting::Unknown,
        Progress::Settled | Progress::Reverted | Progress::Unknown => Counting::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: Resource = Resource::video(7);
    const OTHER: Resource = Resource::video(8);

    fn at(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn filled(rows: &[(Resource, VersionedState)]) -> UserEntry {
        let mut entry = UserEntry::new(1);
        assert!(entry.fill(1, Coverage::Complete, rows.iter().cloned()));
        entry
    }

    fn join(version: i64, liked: bool, base: bool) -> Counting {
        Counting::Join(Join {
            state: at(version, liked),
            base,
        })
    }

    #[test]
    fn absent_pair_of_a_complete_entry_is_not_liked() {
        let entry = filled(&[(VIDEO, at(5, true))]);
        assert_eq!(entry.read(&VIDEO).known(), Some(at(5, true)));
        assert_eq!(entry.read(&OTHER).known(), Some(VersionedState::NEVER));
        let mut unfilled = UserEntry::new(1);
        assert_eq!(unfilled.read(&OTHER).known(), None);
        assert!(unfilled.fill(1, Coverage::Partial, [(VIDEO, at(5, true))]));
        assert_eq!(unfilled.read(&VIDEO).known(), Some(at(5, true)));
        assert_eq!(unfilled.read(&OTHER).known(), None);
    }

    #[test]
    fn older_event_returns_the_newer_version() {
        let mut entry = filled(&[]);
        assert_eq!(
            entry.apply(&VIDEO, at(10, true)).counting,
            join(10, true, false)
        );
        let applied = entry.apply(&VIDEO, at(9, false));
        assert_eq!(applied.newer, Some(Version(10)));
        assert_eq!(entry.read(&VIDEO).known(), Some(at(10, true)));
    }

    #[test]
    fn event_of_an_unfilled_entry_joins_after_the_fill() {
        let mut entry = UserEntry::new(1);
        let applied = entry.apply(&VIDEO, at(10, true));
        assert_eq!(
            (applied.changed, applied.counting),
            (None, Counting::Unknown)
        );
        assert!(entry.fill(1, Coverage::Complete, [(VIDEO, at(4, true))]));
        assert_eq!(
            entry.apply(&VIDEO, at(10, true)).counting,
            join(10, true, true)
        );
    }

    #[test]
    fn settled_event_is_not_put_in_flight_again() {
        let mut entry = filled(&[]);
        entry.settle(&VIDEO, at(10, true), 2);
        assert_eq!(
            entry.apply(&VIDEO, at(10, true)).counting,
            Counting::Nothing
        );
    }

    #[test]
    fn reverted_pair_is_as_before_until_a_settlement_arrives() {
        let mut entry = filled(&[(VIDEO, at(4, true))]);
        entry.apply(&VIDEO, at(10, false));
        entry.forget(&VIDEO, Version(9));
        assert_eq!(entry.read(&VIDEO).known(), Some(at(10, false)));
        entry.forget(&VIDEO, Version(10));
        assert_eq!(entry.read(&VIDEO).liked(), Some(true));
        // It may be late.
        entry.settle(&VIDEO, at(3, false), 2);
        assert_eq!(entry.read(&VIDEO).liked(), None);
        let stale = entry.fill(1, Coverage::Complete, [(VIDEO, at(4, true))]);
        assert!(!stale, "the read may be older than the settlement");
        assert!(entry.fill(2, Coverage::Complete, [(VIDEO, at(4, true))]));
        assert_eq!(entry.read(&VIDEO).known(), Some(at(4, true)));
    }

    #[test]
    fn revert_after_the_commit_of_an_earlier_event_is_no_guess() {
        let mut entry = filled(&[]);
        entry.apply(&VIDEO, at(10, true));
        entry.apply(&VIDEO, at(11, false));
        entry.settle(&VIDEO, at(10, true), 2);
        entry.forget(&VIDEO, Version(11));
        assert_eq!(entry.read(&VIDEO).liked(), None);
    }

    #[test]
    fn trimming_keeps_events_in_flight_and_the_newest_pairs() {
        let mut entry = filled(&[(VIDEO, at(4, true)), (OTHER, at(6, true))]);
        entry.apply(&Resource::video(9), at(5, true));
        entry.trim(2, 2);
        assert_eq!(entry.read(&VIDEO).known(), None);
        assert_eq!(entry.read(&OTHER).known(), Some(at(6, true)));
        assert_eq!(entry.read(&Resource::video(9)).known(), Some(at(5, true)));
        assert!(!entry.fill(1, Coverage::Complete, []));
    }
}
