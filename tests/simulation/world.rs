//! The world: processes, database, stream, cache and clock, and the choice of the next step.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use likewise::domain::{BehaviorEvent, Pair, Resource, ResourceType, UserId, Version};
use likewise::store::{Lease, StoreError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::Broken;
use super::cache::Cache;
use super::database::{Bane, Database};
use super::process::{Id, Memory, Process};
use super::stream::Stream;

pub const LEASE: Duration = Duration::from_secs(15);
/// How long JetStream waits for an acknowledgement.
pub const ACK_WAIT: TimeDelta = TimeDelta::seconds(30);
/// The largest error of a wall clock, in microseconds.
pub const MOST_SKEW: i64 = 3_600_000_000;

pub struct World {
    pub rng: SmallRng,
    pub now: DateTime<Utc>,
    /// Whether faults may happen now.
    pub faults: bool,
    /// A single process without a stream, and with the cache in its own memory.
    pub embedded: bool,
    pub max_retries: i32,
    users: Vec<UserId>,
    resources: Vec<Resource>,
    pub database: Database,
    pub database_up: bool,
    pub stream: Stream,
    pub stream_up: bool,
    pub cache: Cache,
    pub cache_up: bool,
    pub processes: Vec<Process>,
    /// The acknowledged events.
    pub acknowledged: BTreeSet<Uuid>,
    /// The events published by other services, for duplicates.
    pub published: Vec<BehaviorEvent>,
    /// The numbers of cache answers that the final check compared and excused.
    pub looked_at: [u64; 2],
    last_id: u128,
    trace: Option<Vec<String>>,
}

/// A possible next step.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    TimePasses,
    Request(usize),
    Read(usize),
    Foreign,
    Crash(usize),
    Start(usize),
    ClockSteps(usize),
    StreamGoesOrComes,
    DatabaseGoesOrComes,
    CacheGoesOrComes,
    CacheSaves,
    CacheStartsAgain,
    CacheEvicts,
    CacheTrims,
    StreamRewinds,
    Publish(usize, Id),
    Finish(usize, Id),
    ToCache(usize, usize),
    Look(usize, usize),
    Recent(usize),
    Heal(usize),
    Pull(usize),
    Delivery(usize, Id),
    TakeToRecord(usize),
    Record(usize),
    TakeToSync(usize),
    Sync(usize),
    Claim(usize),
}

/// The outcome of a transaction.
#[derive(Debug)]
pub enum Outcome {
    Committed,
    /// Committed, but the answer was lost.
    AnswerLost(StoreError),
    NotCommitted(StoreError),
}

/// The outcome of a call of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Done,
    AnswerLost,
    Failed,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let embedded = rng.random_bool(0.1);
        let mut processes: Vec<(bool, bool)> = if embedded {
            vec![(true, true)]
        } else {
            let apis = rng.random_range(1..=3);
            let workers = rng.random_range(1..=3);
            let api = std::iter::repeat_n((true, false), apis);
            api.chain(std::iter::repeat_n((false, true), workers))
                .collect()
        };
        if !embedded && rng.random_bool(0.3) {
            processes.push((true, true));
        }
        let skewed = rng.random_bool(0.5);
        let processes = processes
            .into_iter()
            .map(|(api, worker)| Process {
                api,
                worker,
                skew: if skewed {
                    rng.random_range(-MOST_SKEW..=MOST_SKEW)
                } else {
                    0
                },
                memory: Some(Memory::default()),
            })
            .collect();
        // Half of the worlds have ids that are text.
        let name = match seed % 2 {
            0 => UserId::Number,
            _ => |number: i64| UserId::from(&*format!("id {number}")),
        };
        let resource = |resource_type, number| Resource {
            resource_type,
            id: name(number),
        };
        let videos = rng.random_range(1..=3);
        let resources = (1..=videos).map(|number| resource(ResourceType::VIDEO, number));
        let comment = resource(ResourceType::COMMENT, 1);
        Self {
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default(),
            faults: true,
            embedded,
            max_retries: rng.random_range(0..=3),
            users: (1..=rng.random_range(1..=4)).map(name).collect(),
            resources: resources.chain([comment]).collect(),
            database: Database::default(),
            database_up: true,
            stream: Stream::default(),
            stream_up: !embedded,
            cache: Cache::new(),
            cache_up: true,
            processes,
            acknowledged: BTreeSet::new(),
            published: Vec::new(),
            looked_at: [0; 2],
            last_id: 0,
            trace: traced.then(Vec::new),
            rng,
        }
    }

    /// Runs this many steps.
    pub fn run(&mut self, steps: usize) -> Result<(), Broken> {
        for _ in 0..steps {
            let work = self.work();
            let step = if work.is_empty() || self.rng.random_bool(0.35) {
                self.draw_from_outside()
            } else {
                work[self.rng.random_range(0..work.len())]
            };
            self.step(step)?;
        }
        Ok(())
    }

    pub fn step(&mut self, step: Step) -> Result<(), Broken> {
        self.note(|_| format!("{step:?}"));
        match step {
            Step::TimePasses => self.time_passes(),
            Step::Request(p) => self.begin_request(p),
            Step::Read(p) => self.read(p),
            Step::Foreign => self.publish_foreign(),
            Step::Crash(p) => self.crash(p),
            Step::Start(p) => self.start(p),
            Step::ClockSteps(p) => self.clock_steps(p),
            Step::StreamGoesOrComes => self.stream_up = !self.stream_up,
            Step::DatabaseGoesOrComes => self.database_up = !self.database_up,
            Step::CacheGoesOrComes => self.cache_up = !self.cache_up,
            Step::CacheSaves => self.cache.save(),
            Step::CacheStartsAgain => self.cache_starts_again(),
            Step::CacheEvicts => {
                let resource = self.draw_resource();
                self.cache.drop_entry(&resource);
            }
            Step::CacheTrims => {
                let resource = self.draw_resource();
                self.cache.trim(&resource);
            }
            Step::StreamRewinds => self.stream.rewind(self.now),
            Step::Publish(p, id) => self.publish(p, id),
            Step::Finish(p, id) => return self.finish(p, id),
            Step::ToCache(p, n) => self.tell_cache(p, n),
            Step::Look(p, n) => self.look(p, n),
            Step::Recent(p) => self.recent(p),
            Step::Heal(p) => self.heal(p),
            Step::Pull(p) => self.pull(p),
            Step::Delivery(p, id) => return self.delivery(p, id),
            Step::TakeToRecord(p) => self.take_to_record(p),
            Step::Record(p) => return self.record(p),
            Step::TakeToSync(p) => self.take_to_sync(p),
            Step::Sync(p) => return self.sync(p),
            Step::Claim(p) => return self.claim(p),
        }
        Ok(())
    }

    /// The steps that the processes can take by themselves now.
    pub fn work(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let ready = self.stream_up && !self.stream.ready(self.now).is_empty();
        for (p, process) in self.processes.iter().enumerate() {
            let Some(memory) = &process.memory else {
                if self.database_up {
                    steps.push(Step::Start(p));
                }
                continue;
            };
            for (id, request) in &memory.requests {
                if request.is_to_be_published() {
                    steps.push(Step::Publish(p, *id));
                } else if request.is_done() {
                    steps.push(Step::Finish(p, *id));
                }
            }
            steps.extend((0..memory.to_cache.len()).map(|n| Step::ToCache(p, n)));
            steps.extend((0..memory.looks.len()).map(|n| Step::Look(p, n)));
            if memory.recent.is_some() {
                steps.push(Step::Recent(p));
            }
            if memory.is_to_heal(self.cache.run) && self.cache_up {
                steps.push(Step::Heal(p));
            }
            if process.worker && ready && memory.deliveries.len() < 4 {
                steps.push(Step::Pull(p));
            }
            for (id, delivery) in &memory.deliveries {
                if delivery.is_answered() {
                    steps.push(Step::Delivery(p, *id));
                }
            }
            match &memory.recording {
                Some(_) => steps.push(Step::Record(p)),
                None if !memory.to_record.is_empty() => steps.push(Step::TakeToRecord(p)),
                None => {}
            }
            match &memory.syncing {
                Some(_) => steps.push(Step::Sync(p)),
                None if !memory.to_sync.is_empty() => steps.push(Step::TakeToSync(p)),
                None => {}
            }
            if process.worker && self.database.is_any_due(self.now) {
                steps.push(Step::Claim(p));
            }
        }
        steps
    }

    fn draw_from_outside(&mut self) -> Step {
        let p = self.rng.random_range(0..self.processes.len());
        let is_api = self.processes[p].api && self.processes[p].memory.is_some();
        match self.rng.random_range(0..100) {
            0..30 if is_api => Step::Request(p),
            30..40 if is_api => Step::Read(p),
            40..50 if !self.embedded => Step::Foreign,
            50..54 => Step::Crash(p),
            54..56 => Step::DatabaseGoesOrComes,
            56..58 if !self.embedded => Step::StreamGoesOrComes,
            58 if !self.embedded => Step::StreamRewinds,
            59..61 if !self.embedded => Step::CacheGoesOrComes,
            61 if !self.embedded => Step::CacheSaves,
            62 if !self.embedded => Step::CacheStartsAgain,
            63..65 => Step::CacheEvicts,
            65..68 => Step::CacheTrims,
            // Every outage ends sooner or later.
            68..71 if !self.database_up => Step::DatabaseGoesOrComes,
            71..74 if !self.stream_up && !self.embedded => Step::StreamGoesOrComes,
            74..77 if !self.cache_up => Step::CacheGoesOrComes,
            77..79 => Step::ClockSteps(p),
            _ => Step::TimePasses,
        }
    }

    /// Corrects a wall clock, or sets it wrong.
    fn clock_steps(&mut self, p: usize) {
        self.processes[p].skew = match self.rng.random_range(0..4) {
            0 => 0,
            1 => self.rng.random_range(-MOST_SKEW..=MOST_SKEW),
            _ => self.rng.random_range(-20_000_000..=20_000_000),
        };
        let skew = self.processes[p].skew;
        self.note_value(&skew);
    }

    fn time_passes(&mut self) {
        let micros = match self.rng.random_range(0..10) {
            0..5 => self.rng.random_range(1..1_000),
            5..8 => self.rng.random_range(1_000..2_000_000),
            _ => self.rng.random_range(2_000_000..40_000_000),
        };
        self.now += TimeDelta::microseconds(micros);
    }

    /// The time on a process's wall clock.
    pub fn wall(&self, p: usize) -> DateTime<Utc> {
        self.now + TimeDelta::microseconds(self.processes[p].skew)
    }

    pub fn wall_version(&self, p: usize) -> Version {
        Version::at(self.wall(p))
    }

    /// A lease in the database's time, which every process knows although its own clock may differ.
    pub fn lease(&self) -> Lease {
        Lease {
            now: self.now,
            duration: LEASE,
            max_retries: self.max_retries,
        }
    }

    /// The memory of a running process; steps are drawn only for running ones.
    pub fn memory(&mut self, p: usize) -> &mut Memory {
        self.processes[p].memory.get_or_insert_default()
    }

    pub fn transaction(&mut self) -> Outcome {
        if !self.database_up {
            return Outcome::NotCommitted(StoreError::Unavailable("it is down".into()));
        }
        if !self.faults {
            return Outcome::Committed;
        }
        match self.rng.random_range(0..100) {
            0..4 => Outcome::AnswerLost(StoreError::Unavailable("the connection broke".into())),
            4..8 => Outcome::NotCommitted(StoreError::Busy("a deadlock".into())),
            8..10 => Outcome::NotCommitted(StoreError::Failed("words nobody knows".into())),
            _ => Outcome::Committed,
        }
    }

    pub fn cache_call(&mut self) -> Call {
        if !self.cache_up {
            return Call::Failed;
        }
        // The cache in the process is always reachable.
        if !self.faults || self.embedded {
            return Call::Done;
        }
        match self.rng.random_range(0..100) {
            0..3 => Call::AnswerLost,
            3..6 => Call::Failed,
            _ => Call::Done,
        }
    }

    pub fn draw_pair(&mut self) -> Pair {
        Pair {
            resource: self.draw_resource(),
            user_id: self.users[self.rng.random_range(0..self.users.len())].clone(),
        }
    }

    fn draw_resource(&mut self) -> Resource {
        self.resources[self.rng.random_range(0..self.resources.len())].clone()
    }

    pub fn all_pairs(&self) -> Vec<Pair> {
        let of = |resource: &Resource| {
            let resource = resource.clone();
            self.users.iter().map(move |user_id| Pair {
                resource: resource.clone(),
                user_id: user_id.clone(),
            })
        };
        self.resources.iter().flat_map(of).collect()
    }

    /// A new event's id, which decides what the database will refuse of it.
    pub fn draw_event_id(&mut self) -> Uuid {
        self.last_id += 1;
        let id = Uuid::from_u128(self.last_id);
        let bane = match self.rng.random_range(0..100) {
            0..2 => Some(Bane::Recording),
            2..5 => Some(Bane::Syncing),
            5..7 => Some(Bane::SyncingInUnknownWords),
            7 => Some(Bane::Worker),
            _ => None,
        };
        if let Some(bane) = bane {
            self.note(|_| format!("  {id} will be refused: {bane:?}"));
            self.database.banes.insert(id, bane);
        }
        id
    }

    pub fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let text = format!("{} {}", self.now.format("%H:%M:%S%.6f"), text(self));
            self.trace.get_or_insert_default().push(text);
        }
    }

    pub fn note_value(&mut self, value: &dyn Debug) {
        self.note(|_| format!("  {value:?}"));
    }

    pub fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }
}
