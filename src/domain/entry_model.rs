//! Tests entries against a model of their database: random steps arrive in any order, and the entries must agree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::behavior::Resource;
use super::cached_entry::Coverage;
use super::cached_pair::CachedPair;
use super::count_entry::CountEntry;
use super::fold::{Fold, Pair};
use super::id::UserId;
use super::like_count::LikeCount;
use super::pair_state::PairState;
use super::user_entry::{Counting, UserEntry};
use super::version::Version;
use super::versioned_state::VersionedState;

const USERS: std::ops::Range<i64> = 1..4;
const RESOURCES: std::ops::Range<i64> = 1..3;
const NOW: Version = Version(1_000_000);

fn pairs() -> impl Iterator<Item = Pair> {
    USERS.flat_map(|user| RESOURCES.map(move |video| pair(user, video)))
}

fn pair(user: i64, video: i64) -> Pair {
    Pair {
        resource: Resource::video(video),
        user_id: user.into(),
    }
}

/// The database, as the entries see it.
#[derive(Default)]
struct Database {
    states: BTreeMap<Pair, VersionedState>,
    counts: BTreeMap<Resource, LikeCount>,
}

/// What a commit tells the cache.
#[derive(Debug, Clone, Default)]
struct Settled {
    states: BTreeMap<Pair, VersionedState>,
    counts: BTreeMap<Resource, LikeCount>,
}

impl Database {
    fn commit(&mut self, events: &[(Pair, VersionedState)]) -> Settled {
        let stored = |pair: &Pair| self.states.get(pair).copied().map(PairState::begun_by);
        let fold = Fold::of(stored, events.iter().cloned());
        let mut settled = Settled::default();
        for (pair, state) in fold.states {
            settled.states.insert(pair.clone(), state.newest);
            self.states.insert(pair, state.newest);
        }
        for (resource, change) in fold.count_changes {
            let count = self.count(&resource);
            let count = count.after(change).unwrap_or(count);
            self.counts.insert(resource.clone(), count);
            settled.counts.insert(resource, count);
        }
        settled
    }

    fn state(&self, pair: &Pair) -> VersionedState {
        let state = self.states.get(pair).copied();
        state.unwrap_or(VersionedState::NEVER)
    }

    fn count(&self, resource: &Resource) -> LikeCount {
        let count = self.counts.get(resource).copied();
        count.unwrap_or(LikeCount::NEVER)
    }

    fn rows(&self, user_id: &UserId) -> Vec<(Resource, VersionedState)> {
        let rows = self
            .states
            .iter()
            .filter(|(pair, _)| pair.user_id == *user_id);
        rows.map(|(pair, state)| (pair.resource.clone(), *state))
            .collect()
    }
}

/// An answer of the database on its way to the cache.
#[derive(Clone)]
enum Answer {
    User(UserId, u64, Coverage, Vec<(Resource, VersionedState)>),
    Count(Resource, u64, LikeCount),
}

#[derive(Debug, Clone)]
enum Step {
    /// A request arrives, and its event waits to be committed.
    Accept(i64, i64, bool),
    /// A request arrives, and its process dies before the event is durable.
    Lose(i64, i64, bool),
    /// An event of another service waits to be committed, unknown to the cache.
    Foreign(i64, i64, bool),
    /// A request arrives, is refused and reverted.
    Refuse(i64, i64, bool),
    /// This many waiting events are committed; their settlement waits for delivery.
    Commit(usize),
    /// One of the waiting settlements is delivered: to the user entries, and later to the count entries.
    Settle(usize),
    SettleCounts(usize),
    /// The process that would deliver a settlement dies.
    Kill(usize),
    /// A reader queries the database for all rows of a user, or for one pair, or for a count.
    LookUser(i64),
    LookPair(i64, i64),
    LookCount(i64),
    /// One of those answers is filled in.
    Fill(usize),
    /// The applier of an event applies it again, because the entries are filled.
    Again(i64, i64),
    /// An entry is lost.
    FlushUser(i64),
    FlushCount(i64),
    /// A user entry is trimmed to this many pairs.
    Trim(i64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let of_pair = || (USERS, RESOURCES, any::<bool>());
    prop_oneof![
        5 => of_pair().prop_map(|(u, r, l)| Step::Accept(u, r, l)),
        1 => of_pair().prop_map(|(u, r, l)| Step::Lose(u, r, l)),
        1 => of_pair().prop_map(|(u, r, l)| Step::Foreign(u, r, l)),
        1 => of_pair().prop_map(|(u, r, l)| Step::Refuse(u, r, l)),
        3 => (1usize..4).prop_map(Step::Commit),
        3 => (0usize..4).prop_map(Step::Settle),
        3 => (0usize..4).prop_map(Step::SettleCounts),
        1 => (0usize..4).prop_map(Step::Kill),
        3 => USERS.prop_map(Step::LookUser),
        1 => (USERS, RESOURCES).prop_map(|(u, r)| Step::LookPair(u, r)),
        3 => RESOURCES.prop_map(Step::LookCount),
        5 => (0usize..4).prop_map(Step::Fill),
        2 => (USERS, RESOURCES).prop_map(|(u, r)| Step::Again(u, r)),
        1 => USERS.prop_map(Step::FlushUser),
        1 => RESOURCES.prop_map(Step::FlushCount),
        1 => (USERS, 0usize..3).prop_map(|(u, n)| Step::Trim(u, n)),
    ]
}

#[derive(Default)]
struct World {
    users: BTreeMap<UserId, UserEntry>,
    counts: BTreeMap<Resource, CountEntry>,
    database: Database,
    lives: u64,
    clock: i64,
    waiting: Vec<(Pair, VersionedState)>,
    settlements: Vec<Settled>,
    /// Settlements that have reached the user entries only.
    half_delivered: Vec<Settled>,
    answers: Vec<Answer>,
}

impl World {
    fn new_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    fn event(&mut self, liked: bool) -> VersionedState {
        self.clock += 1;
        VersionedState {
            version: Version(self.clock),
            liked,
        }
    }

    fn user(&mut self, user_id: &UserId) -> &mut UserEntry {
        let life = self.new_life();
        let entry = self.users.entry(user_id.clone());
        entry.or_insert_with(|| UserEntry::new(life))
    }

    fn apply(&mut self, pair: &Pair, state: VersionedState) {
        let applied = self.user(&pair.user_id).apply(&pair.resource, state);
        if let Counting::Join(event) = applied.counting
            && let Some(count) = self.counts.get_mut(&pair.resource)
        {
            count.join(&pair.user_id, event, NOW);
        }
    }

    fn forget(&mut self, pair: &Pair, version: Version) {
        if let Some(entry) = self.users.get_mut(&pair.user_id) {
            entry.forget(&pair.resource, version);
        }
        if let Some(entry) = self.counts.get_mut(&pair.resource) {
            entry.forget(&pair.user_id, version, NOW);
        }
    }

    fn commit(&mut self, events: usize) {
        let events = events.min(self.waiting.len());
        let batch: Vec<_> = self.waiting.drain(..events).collect();
        if !batch.is_empty() {
            let settled = self.database.commit(&batch);
            self.settlements.push(settled);
        }
    }

    fn settle_users(&mut self, settled: &Settled) {
        for (pair, state) in &settled.states {
            let life = self.new_life();
            if let Some(entry) = self.users.get_mut(&pair.user_id) {
                entry.settle(&pair.resource, *state, life);
            }
        }
    }

    fn settle_counts(&mut self, settled: &Settled) {
        for (resource, count) in &settled.counts {
            let life = self.new_life();
            let states = settled.states.iter();
            let states = states.filter(|(pair, _)| pair.resource == *resource);
            let states = states.map(|(pair, state)| (&pair.user_id, *state));
            if let Some(entry) = self.counts.get_mut(resource) {
                entry.settle(states, Some(*count), life, NOW);
            }
        }
    }

    fn fill(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        match self.answers.remove(which % self.answers.len()) {
            Answer::User(user_id, life, coverage, rows) => {
                if let Some(entry) = self.users.get_mut(&user_id) {
                    entry.fill(life, coverage, rows);
                }
            }
            Answer::Count(resource, life, count) => {
                if let Some(entry) = self.counts.get_mut(&resource) {
                    entry.fill(life, count);
                }
            }
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "a step is taken once")]
    fn take(&mut self, step: Step) {
        match step {
            Step::Accept(user, video, liked) => {
                let state = self.event(liked);
                self.apply(&pair(user, video), state);
                self.waiting.push((pair(user, video), state));
            }
            Step::Lose(user, video, liked) => {
                let state = self.event(liked);
                self.apply(&pair(user, video), state);
            }
            Step::Foreign(user, video, liked) => {
                let state = self.event(liked);
                self.waiting.push((pair(user, video), state));
            }
            Step::Refuse(user, video, liked) => {
                let state = self.event(liked);
                self.apply(&pair(user, video), state);
                self.forget(&pair(user, video), state.version);
            }
            Step::Commit(events) => self.commit(events),
            Step::Settle(which) => {
                if !self.settlements.is_empty() {
                    let settled = self.settlements.remove(which % self.settlements.len());
                    self.settle_users(&settled);
                    self.half_delivered.push(settled);
                }
            }
            Step::SettleCounts(which) => {
                if !self.half_delivered.is_empty() {
                    let place = which % self.half_delivered.len();
                    let settled = self.half_delivered.remove(place);
                    self.settle_counts(&settled);
                }
            }
            Step::Kill(which) => {
                if !self.settlements.is_empty() {
                    self.settlements.remove(which % self.settlements.len());
                }
            }
            Step::LookUser(user) => {
                let user_id = UserId::from(user);
                let life = self.user(&user_id).incarnation();
                let rows = self.database.rows(&user_id);
                let answer = Answer::User(user_id, life, Coverage::Complete, rows);
                self.answers.push(answer);
            }
            Step::LookPair(user, video) => {
                let pair = pair(user, video);
                let life = self.user(&pair.user_id).incarnation();
                let rows = vec![(pair.resource.clone(), self.database.state(&pair))];
                let answer = Answer::User(pair.user_id, life, Coverage::Partial, rows);
                self.answers.push(answer);
            }
            Step::LookCount(video) => {
                let (resource, life) = (Resource::video(video), self.new_life());
                let entry = self.counts.entry(resource.clone());
                let entry = entry.or_insert_with(|| CountEntry::new(life));
                let life = entry.incarnation().unwrap_or_default();
                let count = self.database.count(&resource);
                self.answers.push(Answer::Count(resource, life, count));
            }
            Step::Fill(which) => self.fill(which),
            Step::Again(user, video) => {
                let pair = pair(user, video);
                let held = self.users.get(&pair.user_id);
                let held = held.map_or(CachedPair::UNKNOWN, |entry| entry.read(&pair.resource));
                if held.is_in_flight() {
                    self.apply(&pair, held.state);
                }
            }
            Step::FlushUser(user) => {
                self.users.remove(&user.into());
            }
            Step::FlushCount(video) => {
                self.counts.remove(&Resource::video(video));
            }
            Step::Trim(user, limit) => {
                let life = self.new_life();
                if let Some(entry) = self.users.get_mut(&user.into()) {
                    entry.trim(limit, life);
                }
            }
        }
    }

    /// Finishes all work. A starting worker settles what a dead one could not.
    fn quiet_down(&mut self) {
        while !self.waiting.is_empty() {
            self.commit(3);
        }
        while !self.settlements.is_empty() {
            self.take(Step::Settle(1));
        }
        while !self.half_delivered.is_empty() {
            self.take(Step::SettleCounts(1));
        }
        while !self.answers.is_empty() {
            self.fill(0);
        }
        let recent = Settled {
            states: self.database.states.clone(),
            counts: self.database.counts.clone(),
        };
        self.settle_users(&recent);
        self.settle_counts(&recent);
    }

    /// Compares what is still in flight with the database, as the cache writer does: it was lost with its process.
    fn reconcile(&mut self) {
        let mut overdue = Vec::new();
        for (resource, entry) in &mut self.counts {
            for (user_id, version) in entry.overdue(Version::LAST, 100, NOW) {
                let resource = resource.clone();
                overdue.push((Pair { resource, user_id }, version));
            }
        }
        for (user_id, entry) in &self.users {
            for (resource, held) in entry.view().pairs {
                if held.is_in_flight() {
                    let user_id = user_id.clone();
                    overdue.push((Pair { resource, user_id }, held.state.version));
                }
            }
        }
        for (pair, version) in overdue {
            self.forget(&pair, version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn quiescent_entries_equal_the_database_or_are_unknown(
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        world.quiet_down();
        world.reconcile();
        for pair in pairs() {
            let held = world.user(&pair.user_id).read(&pair.resource);
            let stored = world.database.state(&pair);
            if let Some(known) = held.known() {
                prop_assert_eq!(known, stored, "{:?}", pair);
            }
            if let Some(liked) = held.liked() {
                prop_assert_eq!(liked, stored.liked, "{:?}", pair);
            }
            if let Some(entry) = world.counts.get(&pair.resource)
                && let Some(count) = entry.like_count()
            {
                prop_assert_eq!(count, world.database.count(&pair.resource).like_count);
                prop_assert!(entry.is_empty());
            }
        }
    }

    #[test]
    fn accepted_event_is_visible_at_once(
        user in USERS,
        video in RESOURCES,
        steps in prop::collection::vec(step(), 0..40),
        liked: bool
    ) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        world.take(Step::Accept(user, video, liked));
        let held = world.user(&user.into()).read(&Resource::video(video));
        prop_assert_eq!(held.known().map(|known| known.liked), Some(liked));
    }

    /// Whatever is evicted, trimmed, filled or settled: the count that a user sees after an own like never goes back below
    /// it while only the pipeline works.
    #[test]
    fn count_never_goes_back_while_likes_arrive(
        likes in prop::collection::vec(
            (USERS, 0usize..4, any::<[bool; 4]>()), 1..40)
    ) {
        let mut world = World::default();
        world.take(Step::LookCount(1));
        for user in USERS {
            world.take(Step::LookUser(user));
        }
        while !world.answers.is_empty() {
            world.fill(0);
        }
        let mut shown = 0;
        for (user, commit, takes) in likes {
            world.take(Step::Accept(user, 1, true));
            world.take(Step::Commit(commit));
            // Settlements may wait, and arrive in the order of their commits.
            let steps = [Step::LookCount(1), Step::Fill(0), Step::Settle(0), Step::SettleCounts(0)];
            for (step, takes) in steps.into_iter().zip(takes) {
                if takes {
                    world.take(step);
                }
            }
            let count = world.counts[&Resource::video(1)].like_count().unwrap_or_default();
            prop_assert!(count >= shown, "{} after {}", count, shown);
            shown = count;
        }
    }
}
