//! Tests an entry against a model of its database: random steps arrive in any order, and the entry must agree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::behavior::Resource;
use super::entry::Entry;
use super::fold::{Fold, Pair};
use super::id::UserId;
use super::like_count::LikeCount;
use super::pair_state::PairState;
use super::version::Version;
use super::versioned_state::VersionedState;

const RESOURCE: Resource = Resource::video(7);

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
            |pair| {
                let state = self.states.get(&pair.user_id).copied();
                state.map(PairState::begun_by)
            },
            events
                .iter()
                .map(|(user_id, state)| (pair(user_id.clone()), *state)),
        );
        let before = self.count.unwrap_or(LikeCount::NEVER);
        for (pair, state) in &fold.states {
            self.states.insert(pair.user_id.clone(), state.newest);
        }
        self.count = Some(LikeCount {
            like_count: before.like_count + fold.count_changes.values().sum::<i64>(),
            revision: before.revision + 1,
        });
        fold.states
            .into_iter()
            .map(|(pair, state)| (pair.user_id, state.newest))
            .collect()
    }

    fn state(&self, user_id: &UserId) -> VersionedState {
        self.states
            .get(user_id)
            .copied()
            .unwrap_or(VersionedState::NEVER)
    }

    fn count(&self) -> LikeCount {
        self.count.unwrap_or(LikeCount::NEVER)
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A request arrives, and its event waits to be committed.
    Accept(UserId, bool),
    /// An event of another service waits to be committed, unknown to the cache.
    Foreign(UserId, bool),
    /// This many waiting events are committed; their settlement waits for delivery.
    Commit(usize),
    /// One of the waiting settlements is delivered.
    Settle(usize),
    /// A reader queries the database for this user; the answer waits to be filled in.
    Look(UserId),
    /// A visitor reads the count in the database; the answer waits to be filled in.
    LookCount,
    /// One of those answers is filled in.
    Fill(usize),
    /// The entry is lost.
    Flush,
    /// The entry is trimmed to this many pairs.
    Trim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 1i64..5;
    prop_oneof![
        4 => (user.clone(), any::<bool>()).prop_map(|(u, l)| Step::Accept(u.into(), l)),
        1 => (user.clone(), any::<bool>()).prop_map(|(u, l)| Step::Foreign(u.into(), l)),
        3 => (1usize..4).prop_map(Step::Commit),
        3 => (0usize..4).prop_map(Step::Settle),
        2 => user.prop_map(|u| Step::Look(u.into())),
        1 => Just(Step::LookCount),
        2 => (0usize..4).prop_map(Step::Fill),
        1 => Just(Step::Flush),
        1 => (0usize..3).prop_map(Step::Trim),
    ]
}

/// What a reader found: the incarnation before the query, the pair if it asked for one, and the count.
type Found = (u64, Option<(UserId, VersionedState)>, LikeCount);

struct World {
    entry: Entry,
    database: Database,
    lives: u64,
    clock: i64,
    waiting: Vec<(UserId, VersionedState)>,
    settlements: Vec<(Vec<(UserId, VersionedState)>, LikeCount)>,
    answers: Vec<Found>,
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
            let (life, state, count) = self.answers.remove(which % self.answers.len());
            self.entry.fill(life, state, count);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Accept(user_id, liked) => {
                let state = self.event(liked);
                self.entry.apply(&user_id, state);
                self.waiting.push((user_id, state));
            }
            Step::Foreign(user_id, liked) => {
                let state = self.event(liked);
                self.waiting.push((user_id, state));
            }
            Step::Commit(events) => self.commit(events),
            Step::Settle(which) => self.settle(which),
            Step::Look(user_id) => self.answers.push((
                self.entry.incarnation(),
                Some((user_id.clone(), self.database.state(&user_id))),
                self.database.count(),
            )),
            Step::LookCount => {
                let answer = (self.entry.incarnation(), None, self.database.count());
                self.answers.push(answer);
            }
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
            let reading = world.entry.read(&user_id.into());
            prop_assert!(reading.liked.is_none_or(|liked| liked == world.database.state(&user_id.into()).liked));
            prop_assert!(reading.like_count.is_none_or(|count| count == world.database.count().like_count));
        }
    }

    #[test]
    fn accepted_event_is_visible_at_once(user_id in 1i64..5, steps in prop::collection::vec(step(), 0..30), liked: bool) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.take(Step::Accept(user_id.into(), liked));
        prop_assert_eq!(world.entry.read(&user_id.into()).liked, Some(liked));
    }
}
