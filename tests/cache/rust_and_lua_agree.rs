//! The rule in Rust and its twin in Lua give the same answers and hold the same entries for every history.

use std::collections::{BTreeMap, BTreeSet};

use likewise::cache::{Cache, CountFilling, Filling, OpenedPair, Settlement, UserFilling};
use likewise::domain::{
    Coverage, EntryId, LikeCount, Pair, Resource, UserId, Version, VersionedState,
};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::other_id_kinds::OtherIds;
use super::{HOUR, OnRedis, cache_on, cache_on_cluster, count, in_process, mark, run};
use crate::support::redis_cluster::RedisCluster;
use crate::support::seed;

const HISTORIES: usize = 60;
/// Each step of a cluster takes several round trips.
const CLUSTER_HISTORIES: usize = 6;
const STEPS: usize = 250;
const USERS: i64 = 13;
const RESOURCES: i64 = 3;

/// The largest versions of the histories. Entries are large, so that they are written in parts, in some of them.
const VERSIONS: i64 = 12;

#[test]
fn random_histories_give_equal_answers() {
    let on_redis = OnRedis::start();
    live(HISTORIES, "twins", |limit| {
        run(on_redis.cache.clear()).expect("an answer");
        cache_on(&on_redis.server, limit, HOUR)
    });
}

#[test]
fn random_histories_give_equal_answers_on_a_cluster() {
    let cluster = RedisCluster::shared();
    live(CLUSTER_HISTORIES, "twins on a cluster", |limit| {
        cache_on_cluster(&cluster, limit)
    });
}

/// Lives histories on a cache in the process and on an empty one on Redis, whose user entries have at most so many pairs.
fn live<C: Cache>(histories: usize, name: &str, empty: impl Fn(usize) -> C) {
    let mut rng = seed::rng(name);
    for history in 0..histories {
        // A limit of few pairs is reached, and one of many is not.
        let limit = if history % 3 == 0 { 3 } else { 1_000 };
        let redis = empty(limit);
        let memory = in_process(limit);
        let resources = if history % 4 == 3 { 70 } else { RESOURCES };
        let steps = run(async {
            if history % 2 == 0 {
                let twins = Twins::new(&memory, &redis, resources);
                twins.live(&mut rng).await
            } else {
                let (memory, redis) = (OtherIds(memory), OtherIds(redis));
                let twins = Twins::new(&memory, &redis, resources);
                twins.live(&mut rng).await
            }
        });
        if let Err(differing) = steps {
            panic!("history {history}: {differing}");
        }
    }
}

struct Twins<'a> {
    memory: &'a dyn Cache,
    redis: &'a dyn Cache,
    resources: i64,
    /// The incarnations that both have returned. Their names may differ, their effects must not.
    lives: Vec<(EntryId, u64, u64)>,
    now: Version,
}

/// Few versions, so that equal ones occur.
fn draw_mark(rng: &mut SmallRng) -> VersionedState {
    if rng.random_bool(0.15) {
        return VersionedState::NEVER;
    }
    mark(rng.random_range(1..=VERSIONS), rng.random_bool(0.5))
}

fn draw_count(rng: &mut SmallRng) -> LikeCount {
    if rng.random_bool(0.3) {
        return LikeCount::NEVER;
    }
    // Also revisions of two digits.
    count(rng.random_range(0..=4), rng.random_range(4..=12))
}

impl<'a> Twins<'a> {
    fn new(memory: &'a dyn Cache, redis: &'a dyn Cache, resources: i64) -> Self {
        Self {
            memory,
            redis,
            resources,
            lives: Vec::new(),
            now: Version(1),
        }
    }

    fn draw_resource(&self, rng: &mut SmallRng) -> Resource {
        Resource::video(rng.random_range(1..=self.resources))
    }

    fn draw_pair(&self, rng: &mut SmallRng) -> Pair {
        Pair {
            resource: self.draw_resource(rng),
            user_id: (rng.random_range(1..=USERS)).into(),
        }
    }

    async fn live(mut self, rng: &mut SmallRng) -> Result<(), String> {
        let mut done = Vec::new();
        for _ in 0..STEPS {
            self.now = Version(rng.random_range(1..=VERSIONS));
            let (step, ours, theirs) = self.step(rng).await;
            done.push(step);
            let (here, there) = (
                self.everything(self.memory).await,
                self.everything(self.redis).await,
            );
            if ours != theirs || here != there {
                let last = &done[done.len().saturating_sub(12)..];
                return Err(format!(
                    "answers\n {ours}\n {theirs}\ncontents\n {here}\n {there}\nlast steps {last:#?}"
                ));
            }
        }
        Ok(())
    }

    /// All readings and the contents of all entries.
    async fn everything(&self, cache: &dyn Cache) -> String {
        let resources: Vec<_> = (1..=self.resources).map(Resource::video).collect();
        let users: Vec<UserId> = (1..=USERS).map(UserId::from).collect();
        let mut text = String::new();
        // A time at which some events are overdue.
        let now = Version(20_000_000 + 6);
        for user_id in &users {
            let read = cache.read(Some(user_id), &resources, now).await;
            text += &format!("{:?}\n", read.expect("readings"));
            let first = cache.read(Some(user_id), &resources[..1], now).await;
            text += &format!("{:?}\n", first.expect("readings"));
        }
        let users = users.into_iter().map(EntryId::User);
        let entries: Vec<_> = users
            .chain(resources.into_iter().map(EntryId::Count))
            .collect();
        let views = cache.inspect(&entries).await.expect("views");
        text + &format!("{views:?}")
    }

    async fn step(&mut self, rng: &mut SmallRng) -> (String, String, String) {
        let pair = self.draw_pair(rng);
        let now = self.now;
        match rng.random_range(0..100) {
            0..15 => self.apply_and_open(rng).await,
            15..35 => {
                let events = self.draw_events(rng);
                let ours = self.memory.apply(&events, now).await.expect("answers");
                let theirs = self.redis.apply(&events, now).await.expect("answers");
                let step = format!("apply {events:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            35..55 => {
                let mut settlements: BTreeMap<Resource, Settlement> = BTreeMap::new();
                for _ in 0..rng.random_range(0..=3) {
                    let pair = self.draw_pair(rng);
                    let settlement = settlements.entry(pair.resource).or_default();
                    settlement.states.insert(pair.user_id, draw_mark(rng));
                    if rng.random_bool(0.7) {
                        settlement.count = Some(draw_count(rng));
                    }
                }
                let ours = self.memory.settle(&settlements, now).await;
                let theirs = self.redis.settle(&settlements, now).await;
                let step = format!("settle {settlements:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            55..68 => self.open(pair).await,
            68..88 => self.fill(pair, rng).await,
            88..94 => {
                let forgotten = [(pair, Version(rng.random_range(0..=VERSIONS)))];
                let ours = self.memory.forget(&forgotten, now).await;
                let theirs = self.redis.forget(&forgotten, now).await;
                let step = format!("forget {forgotten:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            94..98 => {
                let (resource, before) = (pair.resource, Version(rng.random_range(0..=VERSIONS)));
                let overdue = async |cache: &dyn Cache| {
                    let found = cache.overdue(&resource, before, 9, now).await;
                    // Events of one version are in the order of their users, which is not the same as text.
                    let found: BTreeSet<_> = found.expect("an answer").into_iter().collect();
                    format!("{found:?}")
                };
                let (ours, theirs) = (overdue(self.memory).await, overdue(self.redis).await);
                (format!("overdue {resource} {before:?}"), ours, theirs)
            }
            _ => {
                let dropped = EntryId::of_pair(&pair);
                let dropped = &dropped[rng.random_range(0..=1)..];
                let ours = self.memory.drop_entries(dropped).await;
                let theirs = self.redis.drop_entries(dropped).await;
                let step = format!("drop {dropped:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
        }
    }

    fn draw_events(&self, rng: &mut SmallRng) -> Vec<(Pair, VersionedState)> {
        (0..rng.random_range(1..=3))
            .map(|_| (self.draw_pair(rng), draw_mark(rng)))
            .collect()
    }

    async fn apply_and_open(&mut self, rng: &mut SmallRng) -> (String, String, String) {
        let (events, now) = (self.draw_events(rng), self.now);
        let ours = self.memory.apply_and_open(&events, now).await;
        let theirs = self.redis.apply_and_open(&events, now).await;
        let (ours, theirs) = (ours.expect("answers"), theirs.expect("answers"));
        let (mut here, mut there) = (String::new(), String::new());
        for (((pair, _), ours), theirs) in events.iter().zip(ours).zip(theirs) {
            here += &format!("{:?} ", ours.0);
            there += &format!("{:?} ", theirs.0);
            if let (Some(ours), Some(theirs)) = (ours.1, theirs.1) {
                let seen = self.note(pair, ours, theirs);
                here += &seen[0];
                there += &seen[1];
            } else {
                here += &format!("{} ", ours.1.is_some());
                there += &format!("{} ", theirs.1.is_some());
            }
        }
        (format!("apply and open {events:?}"), here, there)
    }

    async fn open(&mut self, pair: Pair) -> (String, String, String) {
        let (users, resources) = ([pair.user_id.clone()], [pair.resource.clone()]);
        let ours = self.memory.open(&users, &resources).await.expect("lives");
        let theirs = self.redis.open(&users, &resources).await.expect("lives");
        let [ours, theirs] = [ours, theirs].map(|opened| OpenedPair {
            user: opened.users[0],
            count: opened.counts[0],
        });
        let [here, there] = self.note(&pair, ours, theirs);
        (format!("open {pair:?}"), here, there)
    }

    /// Remembers the incarnations of a pair. Returns what both caches must agree on.
    fn note(&mut self, pair: &Pair, ours: OpenedPair, theirs: OpenedPair) -> [String; 2] {
        let mut seen = [String::new(), String::new()];
        let [user, resource] = EntryId::of_pair(pair);
        let count_lives = (
            ours.count.unwrap_or_default(),
            theirs.count.unwrap_or_default(),
        );
        for (entry, ours, theirs) in [
            (user, ours.user.0, theirs.user.0),
            (resource, count_lives.0, count_lives.1),
        ] {
            // Whether it is one of the lifetimes that were known before.
            for life in self.lives.iter().filter(|life| life.0 == entry) {
                seen[0] += &format!("{} ", life.1 == ours);
                seen[1] += &format!("{} ", life.2 == theirs);
            }
            self.lives.push((entry, ours, theirs));
        }
        seen[0] += &format!("{:?} {} ", ours.user.1, ours.count.is_some());
        seen[1] += &format!("{:?} {} ", theirs.user.1, theirs.count.is_some());
        seen
    }

    async fn fill(&self, pair: Pair, rng: &mut SmallRng) -> (String, String, String) {
        let mut fillings = [Filling::default(), Filling::default()];
        let lives: Vec<_> = self.lives.iter().rev().take(4).cloned().collect();
        for _ in 0..rng.random_range(1..=2) {
            let chosen = (!lives.is_empty() && rng.random_bool(0.9))
                .then(|| lives[rng.random_range(0..lives.len())].clone());
            // Also an incarnation that no entry has.
            let own = EntryId::of_pair(&pair)[rng.random_range(0..=1)].clone();
            let (entry, ours, theirs) = chosen.unwrap_or((own, 1 << 53, 1 << 53));
            self.add(&mut fillings, entry, [ours, theirs], rng);
        }
        // An event has the entries of the filling, or others.
        if rng.random_bool(0.6) {
            let events = self.draw_events(rng);
            for filling in &mut fillings {
                filling.events.clone_from(&events);
            }
        }
        let step = format!("fill {fillings:?}");
        let ours = self.memory.fill_and_apply(&fillings[0], self.now).await;
        let theirs = self.redis.fill_and_apply(&fillings[1], self.now).await;
        let (ours, theirs) = (ours.expect("an answer"), theirs.expect("an answer"));
        (step, format!("{ours:?}"), format!("{theirs:?}"))
    }

    /// Adds an entry to the fillings of both caches, with its incarnation in each, unless they have it.
    fn add(
        &self,
        fillings: &mut [Filling; 2],
        entry: EntryId,
        incarnations: [u64; 2],
        rng: &mut SmallRng,
    ) {
        match entry {
            EntryId::User(user_id) => {
                let rows =
                    (0..rng.random_range(0..=3)).map(|_| (self.draw_resource(rng), draw_mark(rng)));
                // A database has one row of a pair.
                let rows: BTreeMap<_, _> = rows.collect();
                let coverage = match rng.random_bool(0.7) {
                    true => Coverage::Complete,
                    false => Coverage::Partial,
                };
                for (filling, incarnation) in fillings.iter_mut().zip(incarnations) {
                    if filling.users.iter().all(|other| other.user_id != user_id) {
                        filling.users.push(UserFilling {
                            user_id: user_id.clone(),
                            incarnation,
                            coverage,
                            rows: rows.clone().into_iter().collect(),
                        });
                    }
                }
            }
            EntryId::Count(resource) => {
                let count = draw_count(rng);
                for (filling, incarnation) in fillings.iter_mut().zip(incarnations) {
                    if filling
                        .counts
                        .iter()
                        .all(|other| other.resource != resource)
                    {
                        filling.counts.push(CountFilling {
                            resource: resource.clone(),
                            incarnation,
                            count,
                        });
                    }
                }
            }
        }
    }
}
