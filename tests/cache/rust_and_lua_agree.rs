//! The rule in Rust and its twin in Lua give the same answers for every history.

use std::collections::BTreeMap;

use likewise::cache::{Cache, Filling, Settlement};
use likewise::domain::{LikeCount, Pair, Resource, Version, VersionedState};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::other_id_kinds::OtherIds;
use super::{OnRedis, PLENTY, count, in_process, mark, run};
use crate::support::seed;

const HISTORIES: usize = 40;
const STEPS: usize = 250;
const USERS: i64 = 4;
const RESOURCES: i64 = 2;

#[test]
fn random_histories_give_equal_answers() {
    let mut rng = seed::rng("twins");
    let on_redis = OnRedis::start();
    for history in 0..HISTORIES {
        let memory = in_process(PLENTY);
        let other_ids = (
            OtherIds(in_process(PLENTY)),
            OtherIds(on_redis.other_cache()),
        );
        let (memory, redis): (&dyn Cache, &dyn Cache) = match history % 2 {
            0 => (&memory, &on_redis.cache),
            _ => (&other_ids.0, &other_ids.1),
        };
        let steps = run(async {
            on_redis.cache.clear().await.expect("an answer");
            Twins {
                memory,
                redis,
                lives: Vec::new(),
            }
            .live(&mut rng)
            .await
        });
        if let Err(differing) = steps {
            panic!("history {history}: {differing}");
        }
    }
}

struct Twins<'a> {
    memory: &'a dyn Cache,
    redis: &'a dyn Cache,
    /// The incarnations that both have returned. Their names may differ, their effects must not.
    lives: Vec<(Resource, u64, u64)>,
}

fn draw_pair(rng: &mut SmallRng) -> Pair {
    Pair {
        resource: Resource::video(rng.random_range(1..=RESOURCES)),
        user_id: (rng.random_range(1..=USERS)).into(),
    }
}

/// Few versions, so that equal ones occur.
fn draw_mark(rng: &mut SmallRng) -> VersionedState {
    if rng.random_bool(0.15) {
        return VersionedState::NEVER;
    }
    mark(rng.random_range(1..=12), rng.random_bool(0.5))
}

fn draw_count(rng: &mut SmallRng) -> LikeCount {
    if rng.random_bool(0.3) {
        return LikeCount::NEVER;
    }
    count(rng.random_range(0..=4), rng.random_range(1..=8))
}

impl Twins<'_> {
    async fn live(mut self, rng: &mut SmallRng) -> Result<(), String> {
        let mut done = Vec::new();
        for _ in 0..STEPS {
            let (step, ours, theirs) = self.step(rng).await;
            done.push(step);
            let (here, there) = self.everything().await;
            if ours != theirs || here != there {
                let last = &done[done.len().saturating_sub(12)..];
                return Err(format!(
                    "answers\n {ours}\n {theirs}\nreadings\n {here}\n {there}\nlast steps {last:#?}"
                ));
            }
        }
        Ok(())
    }

    /// All readings of both caches.
    async fn everything(&self) -> (String, String) {
        let pairs: Vec<_> = (1..=RESOURCES)
            .flat_map(|id| {
                (1..=USERS).map(move |user_id| Pair {
                    resource: Resource::video(id),
                    user_id: user_id.into(),
                })
            })
            .collect();
        let here = self.memory.read(&pairs).await.expect("readings");
        let there = self.redis.read(&pairs).await.expect("readings");
        (format!("{here:?}"), format!("{there:?}"))
    }

    async fn step(&mut self, rng: &mut SmallRng) -> (String, String, String) {
        let pair = draw_pair(rng);
        match rng.random_range(0..100) {
            0..30 => {
                let events: Vec<_> = (0..rng.random_range(1..=3))
                    .map(|_| (draw_pair(rng), draw_mark(rng)))
                    .collect();
                let ours = self.memory.apply(&events).await.expect("answers");
                let theirs = self.redis.apply(&events).await.expect("answers");
                let step = format!("apply {events:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            30..55 => {
                let mut settlements: BTreeMap<Resource, Settlement> = BTreeMap::new();
                for _ in 0..rng.random_range(0..=3) {
                    let pair = draw_pair(rng);
                    let settlement = settlements.entry(pair.resource).or_default();
                    settlement.states.insert(pair.user_id, draw_mark(rng));
                    if rng.random_bool(0.7) {
                        settlement.count = Some(draw_count(rng));
                    }
                }
                let ours = self.memory.settle(&settlements).await;
                let theirs = self.redis.settle(&settlements).await;
                let step = format!("settle {settlements:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            55..70 => {
                let resource = pair.resource;
                let ours = self
                    .memory
                    .open(std::slice::from_ref(&resource))
                    .await
                    .expect("a life")[0];
                let theirs = self
                    .redis
                    .open(std::slice::from_ref(&resource))
                    .await
                    .expect("a life")[0];
                let step = format!("open {resource}");
                self.lives.push((resource.clone(), ours, theirs));
                // Draws a known incarnation or a new one.
                let seen = |ours: bool| {
                    let lives = &self.lives[..self.lives.len() - 1];
                    let before = lives.iter().filter(|life| life.0 == resource);
                    let last = self.lives[self.lives.len() - 1].clone();
                    before
                        .map(|life| {
                            if ours {
                                life.1 == last.1
                            } else {
                                life.2 == last.2
                            }
                        })
                        .collect::<Vec<_>>()
                };
                (
                    step,
                    format!("{:?}", seen(true)),
                    format!("{:?}", seen(false)),
                )
            }
            70..90 => {
                let lives: Vec<_> = self.lives.iter().rev().take(3).cloned().collect();
                let chosen = (!lives.is_empty() && rng.random_bool(0.95))
                    .then(|| lives[rng.random_range(0..lives.len())].clone());
                // Also an incarnation of another resource, which matches no entry of this one.
                let resource = if rng.random_bool(0.9) {
                    chosen
                        .as_ref()
                        .map_or_else(|| pair.resource.clone(), |life| life.0.clone())
                } else {
                    pair.resource.clone()
                };
                let (_, ours, theirs) = chosen.unwrap_or((resource.clone(), u64::MAX, u64::MAX));
                let (mark, count) = (draw_mark(rng), draw_count(rng));
                let state = rng.random_bool(0.8).then_some((pair.user_id, mark));
                let filling = |incarnation| Filling {
                    resource: resource.clone(),
                    incarnation,
                    state: state.clone(),
                    count,
                };
                let (ours, theirs) = (filling(ours), filling(theirs));
                let step = format!("fill {ours:?} {theirs:?}");
                let ours = self.memory.fill(&[ours]).await.expect("an answer");
                let theirs = self.redis.fill(&[theirs]).await.expect("an answer");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            90..98 => {
                let forgotten = [(pair, Version(rng.random_range(0..=12)))];
                let ours = self.memory.forget(&forgotten).await;
                let theirs = self.redis.forget(&forgotten).await;
                let step = format!("forget {forgotten:?}");
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
            _ => {
                let ours = self
                    .memory
                    .drop_entries(std::slice::from_ref(&pair.resource))
                    .await;
                let theirs = self
                    .redis
                    .drop_entries(std::slice::from_ref(&pair.resource))
                    .await;
                let step = format!("drop {}", pair.resource);
                (step, format!("{ours:?}"), format!("{theirs:?}"))
            }
        }
    }
}
