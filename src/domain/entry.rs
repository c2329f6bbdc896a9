//! The cache entry of one resource, and its newest-wins rule.
//!
//! The in-memory cache runs this code; the Redis script `rule.lua` implements the same rule. For each pair the entry keeps
//! the state that requests asked for (`current`) beside the state that the database is known to hold (`settled`). The
//! shown like count is the database's count plus the likes in flight, so a count neither jumps back while events are in
//! flight nor drifts after they arrived.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::behavior::UserId;
use super::cached_pair::CachedPair;
use super::entry_view::EntryView;
use super::like_count::LikeCount;
use super::version::Version;
use super::versioned_state::VersionedState;

/// The result of [`Entry::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether the pair's state changed; `None` if the previous state is unknown.
    pub changed: Option<bool>,
    /// The version of a newer event of this pair that the entry holds. If set, nothing changed.
    pub newer: Option<Version>,
    /// The like count after the event; `None` if unknown.
    pub like_count: Option<i64>,
}

impl Applied {
    /// Returns whether a complete answer needs a [`fill`](Entry::fill).
    #[must_use]
    pub const fn needs_fill(&self) -> bool {
        self.newer.is_none() && (self.changed.is_none() || self.like_count.is_none())
    }
}

/// An entry's answer about a pair; `None` for unknown values. An entry never guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Whether the user likes the resource.
    pub liked: Option<bool>,
    /// The number of users who like it.
    pub like_count: Option<i64>,
}

/// The cached state of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of this lifetime of the entry. An entry that is rebuilt after an eviction, a flush or a trim has a
    /// different one, so that an older database read cannot fill it.
    incarnation: u64,
    count: Option<LikeCount>,
    /// Whether every pair of the database is present, so that an absent pair is not liked.
    complete: bool,
    /// Likes minus unlikes in flight to the database.
    in_flight: i64,
    /// The number of pairs without a `settled` state. The count is unknown while this is above zero.
    unknown: usize,
    // A page reads a hundred entries: the standard hasher would cost more than the lookup.
    pairs: HashMap<UserId, CachedPair, RandomState>,
}

impl Entry {
    /// Creates an empty entry.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            count: None,
            complete: false,
            in_flight: 0,
            unknown: 0,
            pairs: HashMap::default(),
        }
    }

    /// Returns the name of this lifetime of the entry: see [`fill`](Self::fill).
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns its share of the cache's bound: its pairs plus one.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.pairs.len() + 1
    }

    /// Returns whether it has no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns the state of a pair.
    #[must_use]
    pub fn read(&self, user_id: UserId) -> Reading {
        let liked = match self.pairs.get(&user_id) {
            Some(held) => Some(held.current.liked),
            None if self.complete => Some(false),
            None => None,
        };
        Reading {
            liked,
            like_count: self.like_count(),
        }
    }

    /// Returns the number of users who like the resource, with the likes in flight; `None` if unknown.
    #[must_use]
    pub fn like_count(&self) -> Option<i64> {
        let count = self.count.filter(|_| self.unknown == 0)?;
        Some(count.like_count + self.in_flight)
    }

    /// Returns the whole content.
    #[must_use]
    pub fn view(&self) -> EntryView {
        EntryView {
            count: self.count,
            complete: self.complete,
            in_flight: self.in_flight,
            unknown: i64::try_from(self.unknown).unwrap_or(i64::MAX),
            pairs: self
                .pairs
                .iter()
                .map(|(&user_id, &pair)| (user_id, pair))
                .collect(),
            unreadable: None,
        }
    }

    /// Applies an accepted event. The event wins if it is newer than the cached state.
    pub fn apply(&mut self, user_id: UserId, state: VersionedState) -> Applied {
        let never = CachedPair::settled(VersionedState::NEVER);
        let held = self.pairs.get(&user_id).copied();
        let held = held.or_else(|| self.complete.then_some(never));
        let (changed, newer) = match held {
            // The entry already has this event: its settlement arrived before this call.
            Some(held) if state == held.current => (None, None),
            Some(held) if state < held.current => (Some(false), Some(held.current.version)),
            held => {
                let pair = CachedPair {
                    current: state,
                    settled: held.and_then(|held| held.settled),
                };
                self.put(user_id, pair);
                (held.map(|held| state.liked != held.current.liked), None)
            }
        };
        Applied {
            changed,
            newer,
            like_count: self.like_count(),
        }
    }

    /// Applies the database's state after a commit: the states of pairs, and the count.
    ///
    /// Settlements may arrive late and out of order. One about an unknown pair or count may be older than another that
    /// arrived before the entry was built, so the entry ignores its content. It starts a new lifetime, named `incarnation`,
    /// because a reader may be about to fill the entry with a read from before this commit.
    pub fn settle(
        &mut self,
        states: impl IntoIterator<Item = (UserId, VersionedState)>,
        count: Option<LikeCount>,
        incarnation: u64,
    ) {
        for (user_id, state) in states {
            match self.pairs.get(&user_id).copied() {
                // A complete entry lacks only pairs that were never settled.
                Some(held) if held.settled.is_some() || self.complete || state >= held.current => {
                    self.put(user_id, held.settling(state));
                }
                None if self.complete => self.put(user_id, CachedPair::settled(state)),
                Some(_) | None => self.incarnation = incarnation,
            }
        }
        match (self.count, count) {
            (Some(held), Some(count)) if count.revision > held.revision => self.count = Some(count),
            (None, Some(_)) => self.incarnation = incarnation,
            _ => {}
        }
    }

    /// Fills the entry from a database read, if `incarnation` is still the current lifetime. Returns whether it was.
    pub fn fill(
        &mut self,
        incarnation: u64,
        states: impl IntoIterator<Item = (UserId, VersionedState)>,
        count: LikeCount,
    ) -> bool {
        if incarnation != self.incarnation {
            return false;
        }
        for (user_id, state) in states {
            let held = self.pairs.get(&user_id);
            let held = held.map_or_else(|| CachedPair::settled(state), |held| held.settling(state));
            self.put(user_id, held);
        }
        if self.count.is_none() && count == LikeCount::NEVER {
            self.complete = true;
        }
        if self.count.is_none_or(|held| count.revision > held.revision) {
            self.count = Some(count);
        }
        true
    }

    /// Reverts an event that was applied but could not be made durable.
    pub fn forget(&mut self, user_id: UserId, version: Version) {
        let Some(held) = self.pairs.get(&user_id).copied() else {
            return;
        };
        if held.current.version != version {
            return;
        }
        match held.settled {
            Some(settled) => self.put(user_id, CachedPair::settled(settled)),
            None => {
                self.pairs.remove(&user_id);
                self.unknown -= 1;
            }
        }
    }

    /// Drops settled pairs until at most `limit` pairs or only pairs in flight remain. If it drops any, a new lifetime named
    /// `incarnation` starts.
    pub fn trim(&mut self, limit: usize, incarnation: u64) {
        let mut surplus = self.pairs.len().saturating_sub(limit);
        if surplus == 0 {
            return;
        }
        self.pairs.retain(|_, held| {
            let drop = surplus > 0 && held.settled == Some(held.current);
            surplus -= usize::from(drop);
            !drop
        });
        self.complete = false;
        self.incarnation = incarnation;
    }

    fn put(&mut self, user_id: UserId, held: CachedPair) {
        if let Some(before) = self.pairs.insert(user_id, held) {
            self.in_flight -= before.in_flight();
            self.unknown -= usize::from(before.settled.is_none());
        }
        self.in_flight += held.in_flight();
        self.unknown += usize::from(held.settled.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn count(like_count: i64, revision: i64) -> LikeCount {
        LikeCount {
            like_count,
            revision,
        }
    }

    fn reading(liked: Option<bool>, like_count: Option<i64>) -> Reading {
        Reading { liked, like_count }
    }

    fn filled(count: LikeCount) -> Entry {
        let mut entry = Entry::new(1);
        assert!(entry.fill(1, [], count));
        entry
    }

    #[test]
    fn count_changes_on_accept_and_not_again_on_settlement() {
        let mut entry = filled(LikeCount::NEVER);
        assert_eq!(entry.apply(1, at(10, true)).like_count, Some(1));
        assert_eq!(entry.apply(2, at(11, true)).like_count, Some(2));
        entry.settle([(1, at(10, true))], Some(count(1, 1)), 3);
        assert_eq!(entry.read(1).like_count, Some(2));
    }

    #[test]
    fn older_event_returns_the_newer_version() {
        let mut entry = filled(LikeCount::NEVER);
        entry.apply(1, at(10, true));
        let applied = entry.apply(1, at(9, false));
        assert_eq!(applied.newer, Some(Version(10)));
        assert_eq!(entry.read(1).liked, Some(true));
    }

    #[test]
    fn unknown_pair_is_never_read_as_not_liked() {
        let mut entry = filled(count(3, 9));
        assert_eq!(entry.read(5), reading(None, Some(3)));
        assert_eq!(
            entry.apply(5, at(10, true)),
            Applied {
                changed: None,
                newer: None,
                like_count: None
            }
        );
        assert_eq!(entry.read(5), reading(Some(true), None));
        assert!(entry.fill(1, [(5, at(4, true))], count(3, 9)));
        assert_eq!(entry.read(5), reading(Some(true), Some(3)));
    }

    #[test]
    fn forgotten_event_restores_the_entry() {
        let mut entry = filled(LikeCount::NEVER);
        entry.apply(1, at(10, true));
        entry.forget(1, Version(10));
        assert_eq!(entry.read(1), reading(Some(false), Some(0)));
        assert_eq!(entry.apply(1, at(9, true)).changed, Some(true));
    }

    #[test]
    fn settlement_below_a_forgotten_event_is_kept() {
        let mut entry = Entry::new(1);
        entry.apply(2, at(10, true));
        assert!(entry.fill(1, [(1, VersionedState::NEVER)], LikeCount::NEVER));
        entry.settle([(2, at(4, true))], Some(count(1, 1)), 2);
        entry.forget(2, Version(10));
        assert_eq!(entry.read(2), reading(Some(true), Some(1)));
    }

    #[test]
    fn trimming_keeps_in_flight_events_and_rejects_older_fills() {
        let mut entry = filled(LikeCount::NEVER);
        entry.apply(1, at(10, true));
        entry.settle([(2, at(4, true))], Some(count(1, 1)), 3);
        entry.trim(1, 2);
        assert_eq!(entry.read(1), reading(Some(true), Some(2)));
        assert_eq!(entry.read(2).liked, None);
        assert!(!entry.fill(1, [(2, at(3, false))], LikeCount::NEVER));
    }
}
