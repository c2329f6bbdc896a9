//! How every actor is doing: what `GET /admin/actors` and `GET /readyz` show.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::mailbox::Gauge;

/// What an actor is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ActorState)]
pub enum State {
    /// Takes messages.
    Running,
    /// Has panicked and waits out its back-off; messages queue.
    Restarting,
    /// Has work, and has made no progress for a while.
    Stuck,
    /// Has panicked too often and was given up.
    Failed,
    /// Has been stopped in order.
    Stopped,
}

impl State {
    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::Restarting,
            2 => Self::Stuck,
            3 => Self::Failed,
            _ => Self::Stopped,
        }
    }
}

type Details = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The vital signs of one actor, written by it and its supervisor.
pub struct ActorStats {
    name: &'static str,
    state: AtomicU8,
    processed: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
    last_progress: Mutex<Instant>,
    gauge: RwLock<Option<Arc<Gauge>>>,
    details: RwLock<Option<Details>>,
    provoke: RwLock<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl ActorStats {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            state: AtomicU8::new(State::Running as u8),
            processed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            last_error: Mutex::default(),
            last_progress: Mutex::new(Instant::now()),
            gauge: RwLock::default(),
            details: RwLock::default(),
            provoke: RwLock::default(),
        }
    }

    /// The actor's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Counts so many events as done.
    pub fn progress(&self, events: usize) {
        self.processed.fetch_add(events as u64, Ordering::Relaxed);
        *lock(&self.last_progress) = Instant::now();
    }

    /// Counts a failure, and keeps what was said of it.
    pub fn failed(&self, error: &impl ToString) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(error.to_string());
    }

    /// Counts a panic, and keeps what was said of it.
    pub fn panicked(&self, message: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(format!("panicked: {message}"));
    }

    /// Counts a restart, after which the actor is running.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.set_state(State::Running);
    }

    /// Says what the actor is up to.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Adds the mailbox to the report.
    pub fn watch_mailbox(&self, gauge: &Arc<Gauge>) {
        *write(&self.gauge) = Some(Arc::clone(gauge));
    }

    /// Adds what only this actor can tell to the report.
    pub fn set_details(&self, details: impl Fn() -> serde_json::Value + Send + Sync + 'static) {
        *write(&self.details) = Some(Box::new(details));
    }

    /// Makes [`Registry::provoke`] work for this actor.
    pub fn set_provoke(&self, provoke: impl Fn() + Send + Sync + 'static) {
        *write(&self.provoke) = Some(Box::new(provoke));
    }

    /// How many restarts there were.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    fn report(&self, stall_after: Duration) -> ActorReport {
        let gauge = read(&self.gauge).clone();
        let oldest = gauge.as_ref().and_then(|gauge| gauge.oldest());
        let mut state = State::from_u8(self.state.load(Ordering::Relaxed));
        let idle_for = lock(&self.last_progress).elapsed();
        if state == State::Running
            && oldest.is_some_and(|wait| wait > stall_after)
            && idle_for > stall_after
        {
            state = State::Stuck;
        }
        ActorReport {
            name: self.name,
            state,
            mailbox: MailboxReport {
                depth: gauge.as_ref().map_or(0, |gauge| gauge.depth()),
                capacity: gauge.as_ref().map_or(0, |gauge| gauge.capacity()),
                oldest_ms: oldest.map_or(0, |wait| wait.as_millis() as u64),
            },
            processed: self.processed.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            restarts: self.restarts(),
            last_error: lock(&self.last_error).clone(),
            details: read(&self.details)
                .as_ref()
                .map_or_else(|| serde_json::json!({}), |details| details()),
        }
    }
}

/// How one actor is doing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActorReport {
    /// Its name.
    pub name: &'static str,
    /// What it is up to.
    pub state: State,
    /// How full its mailbox is.
    pub mailbox: MailboxReport,
    /// Events it has done since the process started.
    pub processed: u64,
    /// Attempts that failed since then.
    pub errors: u64,
    /// Panics since then.
    pub panics: u64,
    /// Restarts since then.
    pub restarts: u64,
    /// What was said of the last failure or panic.
    pub last_error: Option<String>,
    /// What only this actor can tell.
    pub details: serde_json::Value,
}

/// How full a mailbox is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct MailboxReport {
    /// Events waiting or being worked on.
    pub depth: usize,
    /// The most there can be.
    pub capacity: usize,
    /// How long the oldest has been there, in milliseconds.
    pub oldest_ms: u64,
}

/// Every actor of this process, in the order of the flow.
#[derive(Clone)]
pub struct Registry {
    actors: Arc<RwLock<Vec<Arc<ActorStats>>>>,
    stall_after: Duration,
}

impl Registry {
    /// A registry that calls an actor stuck once it has had work for so long without progress.
    #[must_use]
    pub fn new(stall_after: Duration) -> Self {
        Self {
            actors: Arc::default(),
            stall_after,
        }
    }

    /// Adds an actor.
    #[must_use]
    pub fn register(&self, name: &'static str) -> Arc<ActorStats> {
        let stats = Arc::new(ActorStats::new(name));
        write(&self.actors).push(Arc::clone(&stats));
        stats
    }

    /// How each actor is doing.
    #[must_use]
    pub fn report(&self) -> Vec<ActorReport> {
        let actors = read(&self.actors);
        actors
            .iter()
            .map(|stats| stats.report(self.stall_after))
            .collect()
    }

    /// Makes the actor of this name panic, to show that it survives. Answers whether there is one.
    #[must_use]
    pub fn provoke(&self, name: &str) -> bool {
        let actors = read(&self.actors);
        let Some(stats) = actors.iter().find(|stats| stats.name == name) else {
            return false;
        };
        let provoke = read(&stats.provoke);
        if let Some(provoke) = provoke.as_ref() {
            provoke();
        }
        provoke.is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
