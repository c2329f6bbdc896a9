//! The cache entry of one resource: its like count and the events in flight.
//!
//! The in-memory cache runs this code; the Redis script in `src/cache/redis/rule/` implements the same rule. The shown
//! like count is the database's count plus the differences of the events in flight, so a count neither jumps back while
//! events are in flight nor drifts after they arrived. Every operation on one event costs O(log n) of the events in flight.

use std::collections::{BTreeMap, BTreeSet};

use super::cached_pair::Join;
use super::entry_view::CountView;
use super::id::UserId;
use super::like_count::LikeCount;
use super::version::Version;
use super::versioned_state::VersionedState;

/// The database's count in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Known(LikeCount),
    /// The name of this lifetime of the unknown count: see [`CountEntry::fill`].
    Unknown(u64),
}

/// What became of the filling of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountFill {
    /// The entry is as new as the filling, or newer.
    Taken,
    /// The entry keeps an earlier count: see [`CountEntry::fill`].
    Kept,
    /// The lifetime of the unknown count has ended.
    Refused,
}

/// The cached count of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountEntry {
    stored: Stored,
    /// The newest event in flight of each user.
    in_flight: BTreeMap<UserId, Join>,
    /// The same events, oldest first.
    by_age: BTreeSet<(Version, UserId)>,
    /// The sum of the differences of the events in flight.
    sum: i64,
    /// No event in flight is older than this, in the database's time.
    oldest: Option<Version>,
}

impl CountEntry {
    /// Creates an entry of an unknown count.
    #[must_use]
    pub const fn new(incarnation: u64) -> Self {
        Self {
            stored: Stored::Unknown(incarnation),
            in_flight: BTreeMap::new(),
            by_age: BTreeSet::new(),
            sum: 0,
            oldest: None,
        }
    }

    /// Returns the name of this lifetime of an unknown count; `None` if the count is known.
    #[must_use]
    pub const fn incarnation(&self) -> Option<u64> {
        match self.stored {
            Stored::Known(_) => None,
            Stored::Unknown(incarnation) => Some(incarnation),
        }
    }

    /// Returns the number of users who like the resource, with the likes in flight; `None` if unknown.
    #[must_use]
    pub const fn like_count(&self) -> Option<i64> {
        match self.stored {
            Stored::Known(count) => Some(count.like_count + self.sum),
            Stored::Unknown(_) => None,
        }
    }

    /// Returns whether events are in flight. The in-memory cache does not evict such an entry, because the database would
    /// answer with an earlier count.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Returns the number of events in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether no event is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Returns whether an event may have been in flight since before this version.
    #[must_use]
    pub fn is_overdue(&self, before: Version) -> bool {
        self.oldest.is_some_and(|oldest| oldest < before)
    }

    /// Returns whether an event of this user is in flight.
    #[must_use]
    pub fn holds(&self, user_id: &UserId) -> bool {
        self.in_flight.contains_key(user_id)
    }

    /// Returns the whole content.
    #[must_use]
    pub fn view(&self) -> CountView {
        CountView {
            count: match self.stored {
                Stored::Known(count) => Some(count),
                Stored::Unknown(_) => None,
            },
            sum: self.sum,
            size: self.in_flight.len(),
            in_flight: self.in_flight.clone(),
            unreadable: None,
        }
    }

    /// Counts an event as in flight, unless the entry has it or a newer one of its user, or the count is unknown. `now` is
    /// the database's time.
    pub fn join(&mut self, user_id: &UserId, event: Join, now: Version) {
        if let Stored::Unknown(_) = self.stored {
            return;
        }
        let mut event = event;
        if let Some(held) = self.in_flight.get(user_id).copied() {
            if held.state >= event.state {
                return;
            }
            // The count does not have the earlier event yet either.
            event.base = held.base;
            self.remove(user_id);
        }
        let version = event.state.version;
        // A version from the future does not hide how long its event has been in flight.
        self.oldest = Some(match self.oldest {
            Some(oldest) if !self.in_flight.is_empty() => oldest.min(version),
            _ => version.min(now),
        });
        self.insert(user_id.clone(), event);
    }

    /// Applies the database's count after a commit, and the states of pairs. Events that the database holds leave.
    ///
    /// Settlements may arrive late and out of order. A count that the entry does not know is ignored, because it may be
    /// older than one that arrived before the entry was built; the entry starts a new lifetime, named `incarnation`.
    pub fn settle<'a>(
        &mut self,
        states: impl IntoIterator<Item = (&'a UserId, VersionedState)>,
        count: Option<LikeCount>,
        incarnation: u64,
        now: Version,
    ) {
        let held = match self.stored {
            Stored::Known(held) => held,
            Stored::Unknown(_) => {
                if count.is_some() {
                    self.stored = Stored::Unknown(incarnation);
                }
                return;
            }
        };
        let is_current = count.is_some_and(|count| count.revision >= held.revision);
        let mut left = false;
        for (user_id, state) in states {
            let Some(event) = self.in_flight.get(user_id).copied() else {
                continue;
            };
            if event.state <= state {
                self.remove(user_id);
                left = true;
            } else if is_current && event.base != state.liked {
                // The count now has an earlier event of this user.
                self.remove(user_id);
                let base = state.liked;
                self.insert(user_id.clone(), Join { base, ..event });
            }
        }
        if let Some(count) = count
            && count.revision > held.revision
        {
            self.stored = Stored::Known(count);
        }
        if left {
            self.find_oldest(now);
        }
    }

    /// Fills the count from a database read. An unknown count takes it only in the lifetime `incarnation`. A known count
    /// takes a newer revision unless events are in flight: the newer count may include them, and would be shown with
    /// them twice. Their settlement brings both.
    pub fn fill(&mut self, incarnation: u64, count: LikeCount) -> CountFill {
        match self.stored {
            Stored::Unknown(current) if current != incarnation => CountFill::Refused,
            Stored::Known(held) if held.revision >= count.revision => CountFill::Taken,
            Stored::Known(_) if self.is_in_flight() => CountFill::Kept,
            Stored::Unknown(_) | Stored::Known(_) => {
                self.stored = Stored::Known(count);
                CountFill::Taken
            }
        }
    }

    /// Reverts an event that could not be made durable.
    pub fn forget(&mut self, user_id: &UserId, version: Version, now: Version) {
        let held = self.in_flight.get(user_id);
        if held.is_some_and(|held| held.state.version == version) {
            self.remove(user_id);
            self.find_oldest(now);
        }
    }

    /// Returns up to `limit` events that are older than a version, oldest first.
    #[must_use]
    pub fn overdue(
        &mut self,
        before: Version,
        limit: usize,
        now: Version,
    ) -> Vec<(UserId, Version)> {
        self.find_oldest(now);
        let old = self.by_age.iter().take_while(|(age, _)| *age < before);
        old.take(limit)
            .map(|(version, user_id)| (user_id.clone(), *version))
            .collect()
    }

    fn find_oldest(&mut self, now: Version) {
        self.oldest = self.by_age.first().map(|(version, _)| (*version).min(now));
    }

    fn insert(&mut self, user_id: UserId, event: Join) {
        self.sum += event.difference();
        self.by_age.insert((event.state.version, user_id.clone()));
        self.in_flight.insert(user_id, event);
    }

    fn remove(&mut self, user_id: &UserId) {
        if let Some((user_id, event)) = self.in_flight.remove_entry(user_id) {
            self.sum -= event.difference();
            self.by_age.remove(&(event.state.version, user_id));
        }
    }
}

impl Join {
    /// Returns what the event adds to the like count.
    #[must_use]
    pub const fn difference(self) -> i64 {
        self.state.liked as i64 - self.base as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Version = Version(1_000);

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

    fn filled(count: LikeCount) -> CountEntry {
        let mut entry = CountEntry::new(1);
        assert_eq!(entry.fill(1, count), CountFill::Taken);
        entry
    }

    fn like(version: i64) -> Join {
        Join {
            state: at(version, true),
            base: false,
        }
    }

    #[test]
    fn count_changes_on_accept_and_not_again_on_settlement() {
        let mut entry = filled(LikeCount::NEVER);
        entry.join(&1.into(), like(10), NOW);
        entry.join(&2.into(), like(11), NOW);
        entry.join(&2.into(), like(11), NOW);
        assert_eq!(entry.like_count(), Some(2));
        entry.settle([(&1.into(), at(10, true))], Some(count(1, 1)), 3, NOW);
        assert_eq!((entry.like_count(), entry.len()), (Some(2), 1));
    }

    #[test]
    fn commit_of_an_earlier_event_keeps_the_shown_count() {
        let mut entry = filled(LikeCount::NEVER);
        entry.join(&1.into(), like(10), NOW);
        let unlike = Join {
            state: at(11, false),
            base: true,
        };
        entry.join(&1.into(), unlike, NOW);
        assert_eq!(entry.like_count(), Some(0));
        entry.settle([(&1.into(), at(10, true))], Some(count(1, 1)), 3, NOW);
        assert_eq!(entry.like_count(), Some(0));
        entry.settle([(&1.into(), at(11, false))], Some(count(0, 2)), 3, NOW);
        assert_eq!((entry.like_count(), entry.len()), (Some(0), 0));
        // The same settlements in the other order.
        let mut entry = filled(LikeCount::NEVER);
        entry.join(&1.into(), like(10), NOW);
        entry.join(&1.into(), unlike, NOW);
        entry.settle([(&1.into(), at(11, false))], Some(count(0, 2)), 3, NOW);
        entry.settle([(&1.into(), at(10, true))], Some(count(1, 1)), 3, NOW);
        assert_eq!((entry.like_count(), entry.len()), (Some(0), 0));
    }

    #[test]
    fn older_revision_of_a_count_is_ignored() {
        let mut entry = filled(count(3, 6));
        entry.settle([], Some(count(2, 5)), 2, NOW);
        assert_eq!(entry.fill(9, count(1, 4)), CountFill::Taken);
        assert_eq!(entry.like_count(), Some(3));
    }

    #[test]
    fn fill_read_before_a_commit_is_refused() {
        let mut entry = CountEntry::new(1);
        entry.settle([], Some(count(2, 5)), 2, NOW);
        assert_eq!(entry.fill(1, count(1, 4)), CountFill::Refused);
        assert_eq!(entry.fill(2, count(2, 5)), CountFill::Taken);
        assert_eq!(entry.like_count(), Some(2));
    }

    #[test]
    fn fill_after_a_commit_counts_no_event_twice() {
        let mut entry = filled(count(7, 3));
        assert_eq!(
            entry.fill(0, count(8, 4)),
            CountFill::Taken,
            "nothing is in flight"
        );
        entry.join(&1.into(), like(10), NOW);
        assert_eq!(entry.like_count(), Some(9));
        // The commit of the event, whose settlement is on its way.
        assert_eq!(entry.fill(0, count(9, 5)), CountFill::Kept);
        assert_eq!(entry.like_count(), Some(9));
        entry.settle([(&1.into(), at(10, true))], Some(count(9, 5)), 2, NOW);
        assert_eq!((entry.like_count(), entry.len()), (Some(9), 0));
    }

    #[test]
    fn event_in_flight_for_long_is_overdue() {
        let mut entry = filled(LikeCount::NEVER);
        entry.join(&1.into(), like(10), NOW);
        entry.join(&2.into(), like(5_000), NOW);
        assert!(entry.is_overdue(Version(11)) && !entry.is_overdue(Version(10)));
        assert_eq!(
            entry.overdue(Version(11), 9, NOW),
            [(1.into(), Version(10))]
        );
        entry.forget(&1.into(), Version(10), NOW);
        assert_eq!(entry.like_count(), Some(1));
        // The version of the other event is in the future, but it has been in flight since now.
        assert!(entry.is_overdue(Version(1_001)) && !entry.is_overdue(NOW));
    }
}
