//! The cache entry of one resource, and its newest-wins rule.
//!
//! The in-memory cache runs this code; the Redis script `rule.lua` implements the same rule. For each pair the entry keeps
//! the state that requests asked for (`current`) beside the state that the database is known to hold (`settled`). The
//! shown like count is the database's count plus the likes in flight, so a count neither jumps back while events are in
//! flight nor drifts after they arrived.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::id::UserId;
use super::entry_view::{EntryView, PairView};
use super::like_count::LikeCount;
use super::version::Version;
use super::versioned_state::VersionedState;

/// The cached state of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    current: VersionedState,
    /// The state that the database is known to hold; `None` if unknown.
    settled: Option<VersionedState>,
}

impl Held {
    /// Creates a pair from the database's state.
    const fn settled(mark: VersionedState) -> Self {
        Self {
            current: mark,
            settled: Some(mark),
        }
    }

    /// Returns the pair after settling this state of the database.
    fn taking(self, mark: VersionedState) -> Self {
        Self {
            current: self.current.max(mark),
            settled: Some(self.settled.map_or(mark, |settled| settled.max(mark))),
        }
    }

    /// Returns the pair's contribution to the likes in flight.
    fn in_flight(&self) -> i64 {
        self.settled
            .map_or(0, |settled| self.current.weight() - settled.weight())
    }
}

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
    pairs: HashMap<UserId, Held, RandomState>,
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
    pub fn read(&self, user_id: &UserId) -> Reading {
        let liked = match self.pairs.get(user_id) {
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
                .map(|(user_id, held)| {
                    let pair = PairView {
                        current: held.current,
                        settled: held.settled,
                    };
                    (user_id.clone(), pair)
                })
                .collect(),
            unreadable: None,
        }
    }

    /// Applies an accepted event. The event wins if it is newer than the cached state.
    pub fn apply(&mut self, user_id: &UserId, mark: VersionedState) -> Applied {
        let held = self.pairs.get(user_id).copied();
        let held = held.or_else(|| {
            self.complete
                .then_some(Held::settled(VersionedState::NEVER))
        });
        let (changed, newer) = match held {
            None => {
                self.put(
                    user_id.clone(),
                    Held {
                        current: mark,
                        settled: None,
                    },
                );
                (None, None)
            }
            Some(held) if mark > held.current => {
                self.put(
                    user_id.clone(),
                    Held {
                        current: mark,
                        ..held
                    },
                );
                (Some(mark.liked != held.current.liked), None)
            }
            // The entry already has this event: its settlement arrived before this call.
            Some(held) if mark == held.current => (None, None),
            Some(held) => (Some(false), Some(held.current.version)),
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
        marks: impl IntoIterator<Item = (UserId, VersionedState)>,
        count: Option<LikeCount>,
        incarnation: u64,
    ) {
        for (user_id, mark) in marks {
            match self.pairs.get(&user_id).copied() {
                // A complete entry lacks only pairs that were never settled.
                Some(held) if held.settled.is_some() || self.complete || mark >= held.current => {
                    self.put(user_id, held.taking(mark));
                }
                None if self.complete => self.put(user_id, Held::settled(mark)),
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
        marks: impl IntoIterator<Item = (UserId, VersionedState)>,
        count: LikeCount,
    ) -> bool {
        if incarnation != self.incarnation {
            return false;
        }
        for (user_id, mark) in marks {
            let held = self.pairs.get(&user_id);
            let held = held.map_or_else(|| Held::settled(mark), |held| held.taking(mark));
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
    pub fn forget(&mut self, user_id: &UserId, version: Version) {
        let Some(held) = self.pairs.get(&user_id).copied() else {
            return;
        };
        if held.current.version != version {
            return;
        }
        match held.settled {
            Some(settled) => self.put(user_id.clone(), Held::settled(settled)),
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

    fn put(&mut self, user_id: UserId, held: Held) {
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
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::behavior::Resource;
    use crate::domain::fold::{Fold, Pair};

    const RESOURCE: Resource = Resource::video(7);

    #[test]
    fn count_is_written_at_first_and_on_change() {
        let count = |like_count, revision| LikeCount {
            like_count,
            revision,
        };
        assert_eq!(LikeCount::NEVER.after(0), Some(count(0, 1)));
        assert_eq!(count(3, 7).after(0), None);
        assert_eq!(count(3, 7).after(-2), Some(count(1, 8)));
    }

    /// The database, as the entry sees it.
    #[derive(Default)]
    struct Database {
        states: BTreeMap<UserId, VersionedState>,
        count: Option<LikeCount>,
    }

    impl Database {
        fn commit(&mut self, events: &[(UserId, VersionedState)]) -> Vec<(UserId, VersionedState)> {
            let pair = |user_id| Pair {
                resource: RESOURCE,
                user_id,
            };
            let fold = Fold::of(
                |pair| self.states.get(&pair.user_id).copied(),
                events.iter().map(|(user_id, mark)| (pair(*user_id), *mark)),
            );
            let before = self.count.unwrap_or(LikeCount::NEVER);
            for (pair, mark) in &fold.states {
                self.states.insert(pair.user_id, *mark);
            }
            self.count = Some(LikeCount {
                like_count: before.like_count + fold.count_changes.values().sum::<i64>(),
                revision: before.revision + 1,
            });
            fold.states
                .into_iter()
                .map(|(pair, mark)| (pair.user_id, mark))
                .collect()
        }

        fn mark(&self, user_id: UserId) -> VersionedState {
            self.states
                .get(&user_id)
                .copied()
                .unwrap_or(VersionedState::NEVER)
        }

        fn count(&self) -> LikeCount {
            self.count.unwrap_or(LikeCount::NEVER)
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A request arrives, and its event waits to be committed.
        Accept(UserId, bool),
        /// An event of another service waits to be committed, unknown to the cache.
        Foreign(UserId, bool),
        /// So many of the waiting events are committed; the settlement waits for delivery.
        Commit(usize),
        /// One of the settlements on their way is delivered.
        Settle(usize),
        /// A reader looks into the database for this user; the answer waits to be filled in.
        Look(UserId),
        /// One of those answers is filled in.
        Fill(usize),
        /// The entry is lost.
        Flush,
        /// The entry is trimmed to so many pairs.
        Trim(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let user = 1i64..5;
        prop_oneof![
            4 => (user.clone(), any::<bool>()).prop_map(|(u, l)| Step::Accept(u, l)),
            1 => (user.clone(), any::<bool>()).prop_map(|(u, l)| Step::Foreign(u, l)),
            3 => (1usize..4).prop_map(Step::Commit),
            3 => (0usize..4).prop_map(Step::Settle),
            2 => user.prop_map(Step::Look),
            2 => (0usize..4).prop_map(Step::Fill),
            1 => Just(Step::Flush),
            1 => (0usize..3).prop_map(Step::Trim),
        ]
    }

    struct World {
        entry: Entry,
        database: Database,
        lives: u64,
        clock: i64,
        waiting: Vec<(UserId, VersionedState)>,
        settlements: Vec<(Vec<(UserId, VersionedState)>, LikeCount)>,
        answers: Vec<(u64, UserId, VersionedState, LikeCount)>,
    }

    impl World {
        fn new() -> Self {
            Self {
                entry: Entry::new(1),
                database: Database::default(),
                lives: 1,
                clock: 0,
                waiting: Vec::new(),
                settlements: Vec::new(),
                answers: Vec::new(),
            }
        }

        fn event(&mut self, liked: bool) -> VersionedState {
            self.clock += 1;
            VersionedState {
                version: Version(self.clock),
                liked,
            }
        }

        fn commit(&mut self, events: usize) {
            let batch: Vec<_> = self
                .waiting
                .drain(..events.min(self.waiting.len()))
                .collect();
            if !batch.is_empty() {
                let states = self.database.commit(&batch);
                self.settlements.push((states, self.database.count()));
            }
        }

        fn settle(&mut self, which: usize) {
            if !self.settlements.is_empty() {
                let (states, count) = self.settlements.remove(which % self.settlements.len());
                self.lives += 1;
                self.entry.settle(states, Some(count), self.lives);
            }
        }

        fn fill(&mut self, which: usize) {
            if !self.answers.is_empty() {
                let (life, user_id, mark, count) = self.answers.remove(which % self.answers.len());
                self.entry.fill(life, [(user_id, mark)], count);
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Accept(user_id, liked) => {
                    let mark = self.event(liked);
                    self.entry.apply(user_id, mark);
                    self.waiting.push((user_id, mark));
                }
                Step::Foreign(user_id, liked) => {
                    let mark = self.event(liked);
                    self.waiting.push((user_id, mark));
                }
                Step::Commit(events) => self.commit(events),
                Step::Settle(which) => self.settle(which),
                Step::Look(user_id) => self.answers.push((
                    self.entry.incarnation(),
                    user_id,
                    self.database.mark(user_id),
                    self.database.count(),
                )),
                Step::Fill(which) => self.fill(which),
                Step::Flush => {
                    self.lives += 1;
                    self.entry = Entry::new(self.lives);
                }
                Step::Trim(limit) => {
                    self.lives += 1;
                    self.entry.trim(limit, self.lives);
                }
            }
        }

        fn quiet_down(&mut self) {
            while !self.waiting.is_empty() {
                self.commit(3);
            }
            while !self.settlements.is_empty() {
                self.settle(1);
            }
            while !self.answers.is_empty() {
                self.fill(0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn quiescent_entry_equals_database_or_is_unknown(
            steps in prop::collection::vec(step(), 0..60)
        ) {
            let mut world = World::new();
            for step in steps {
                world.take(step);
            }
            world.quiet_down();
            for user_id in 1..5 {
                let reading = world.entry.read(user_id);
                prop_assert!(reading.liked.is_none_or(|liked| liked == world.database.mark(user_id).liked));
                prop_assert!(reading.like_count.is_none_or(|count| count == world.database.count().like_count));
            }
        }

        #[test]
        fn accepted_event_is_visible_at_once(user_id in 1i64..5, steps in prop::collection::vec(step(), 0..30), liked: bool) {
            let mut world = World::new();
            for step in steps {
                world.take(step);
            }
            world.take(Step::Accept(user_id, liked));
            prop_assert_eq!(world.entry.read(user_id).liked, Some(liked));
        }
    }

    fn at(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
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
        entry.settle(
            [(1, at(10, true))],
            Some(LikeCount {
                like_count: 1,
                revision: 1,
            }),
            3,
        );
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
        let mut entry = filled(LikeCount {
            like_count: 3,
            revision: 9,
        });
        assert_eq!(
            entry.read(5),
            Reading {
                liked: None,
                like_count: Some(3)
            }
        );
        assert_eq!(
            entry.apply(5, at(10, true)),
            Applied {
                changed: None,
                newer: None,
                like_count: None
            }
        );
        assert_eq!(
            entry.read(5),
            Reading {
                liked: Some(true),
                like_count: None
            }
        );
        assert!(entry.fill(
            1,
            [(5, at(4, true))],
            LikeCount {
                like_count: 3,
                revision: 9
            }
        ));
        assert_eq!(
            entry.read(5),
            Reading {
                liked: Some(true),
                like_count: Some(3)
            }
        );
    }

    #[test]
    fn forgotten_event_restores_the_entry() {
        let mut entry = filled(LikeCount::NEVER);
        entry.apply(1, at(10, true));
        entry.forget(1, Version(10));
        assert_eq!(
            entry.read(1),
            Reading {
                liked: Some(false),
                like_count: Some(0)
            }
        );
        assert_eq!(entry.apply(1, at(9, true)).changed, Some(true));
    }

    #[test]
    fn settlement_below_a_forgotten_event_is_kept() {
        let mut entry = Entry::new(1);
        entry.apply(2, at(10, true));
        assert!(entry.fill(1, [(1, VersionedState::NEVER)], LikeCount::NEVER));
        let count = LikeCount {
            like_count: 1,
            revision: 1,
        };
        entry.settle([(2, at(4, true))], Some(count), 2);
        entry.forget(2, Version(10));
        assert_eq!(
            entry.read(2),
            Reading {
                liked: Some(true),
                like_count: Some(1)
            }
        );
    }

    #[test]
    fn trimming_keeps_in_flight_events_and_rejects_older_fills() {
        let mut entry = filled(LikeCount::NEVER);
        entry.apply(1, at(10, true));
        entry.settle(
            [(2, at(4, true))],
            Some(LikeCount {
                like_count: 1,
                revision: 1,
            }),
            3,
        );
        entry.trim(1, 2);
        assert_eq!(
            entry.read(1),
            Reading {
                liked: Some(true),
                like_count: Some(2)
            }
        );
        assert_eq!(entry.read(2).liked, None);
        assert!(!entry.fill(1, [(2, at(3, false))], LikeCount::NEVER));
    }
}
