//! The state, counters and last error of every actor, and reports of them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::gauge::Gauge;

/// The state of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// Takes messages.
    Running,
    /// Has panicked and waits out its back-off; messages queue.
    Restarting,
    /// Has work, and has made no progress for a while.
    Stuck,
    /// Has panicked too often and is not restarted.
    Failed,
    /// Has been stopped in order.
    Stopped,
}

impl ActorState {
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

/// Receives the supervisor's events, to log and count them.
pub trait Observer: Send + Sync + 'static {
    /// An actor, or work that it spawned, panicked.
    fn panicked(&self, actor: &'static str, message: &str);

    /// An actor runs again after a panic, for the given number of times.
    fn restarted(&self, actor: &'static str, restarts: u64);

    /// An actor panicked so often within the window that it is not restarted.
    fn given_up(&self, actor: &'static str, panics: usize, window: Duration);
}

type Details = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The statistics of one actor, written by it and its supervisor.
pub(crate) struct ActorStats {
    name: &'static str,
    observer: Arc<dyn Observer>,
    state: AtomicU8,
    processed: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
    last_progress: Mutex<Instant>,
    gauge: RwLock<Option<Arc<Gauge>>>,
    details: RwLock<Option<Details>>,
    inject_panic: RwLock<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl ActorStats {
    fn new(name: &'static str, observer: Arc<dyn Observer>) -> Self {
        Self {
            name,
            observer,
            state: AtomicU8::new(ActorState::Running as u8),
            processed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            last_error: Mutex::default(),
            last_progress: Mutex::new(Instant::now()),
            gauge: RwLock::default(),
            details: RwLock::default(),
            inject_panic: RwLock::default(),
        }
    }

    pub(crate) fn progress(&self, events: usize) {
        self.processed.fetch_add(events as u64, Ordering::Relaxed);
        *lock(&self.last_progress) = Instant::now();
    }

    pub(crate) fn failed(&self, error: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(error);
    }

    pub(crate) fn panicked(&self, message: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(format!("panicked: {message}"));
        self.observer.panicked(self.name, message);
    }

    pub(crate) fn restarted(&self) {
        let restarts = self.restarts.fetch_add(1, Ordering::Relaxed) + 1;
        self.set_state(ActorState::Running);
        self.observer.restarted(self.name, restarts);
    }

    pub(crate) fn given_up(&self, panics: usize, window: Duration) {
        self.set_state(ActorState::Failed);
        self.observer.given_up(self.name, panics, window);
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Adds the mailbox to the report.
    pub(crate) fn watch_mailbox(&self, gauge: &Arc<Gauge>) {
        *write(&self.gauge) = Some(Arc::clone(gauge));
    }

    /// Adds the actor's own facts to the report.
    pub(crate) fn set_details(
        &self,
        details: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) {
        *write(&self.details) = Some(Box::new(details));
    }

    /// Makes [`Registry::inject_panic`] work for this actor.
    pub(crate) fn set_inject_panic(&self, inject: impl Fn() + Send + Sync + 'static) {
        *write(&self.inject_panic) = Some(Box::new(inject));
    }

    fn report(&self, stall_after: Duration) -> ActorReport {
        let gauge = read(&self.gauge).clone();
        let oldest = gauge.as_ref().and_then(|gauge| gauge.oldest());
        let mut state = ActorState::from_u8(self.state.load(Ordering::Relaxed));
        let idle_for = lock(&self.last_progress).elapsed();
        if state == ActorState::Running
            && oldest.is_some_and(|wait| wait > stall_after)
            && idle_for > stall_after
        {
            state = ActorState::Stuck;
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
            restarts: self.restarts.load(Ordering::Relaxed),
            last_error: lock(&self.last_error).clone(),
            details: read(&self.details)
                .as_ref()
                .map_or_else(|| serde_json::json!({}), |details| details()),
        }
    }
}

/// The state and the counters of one actor.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ActorReport {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: ActorState,
    /// The fill level of its mailbox.
    pub mailbox: MailboxReport,
    /// Events done since the process started.
    pub processed: u64,
    /// Attempts that failed since then.
    pub errors: u64,
    /// Panics since then.
    pub panics: u64,
    /// Restarts since then.
    pub restarts: u64,
    /// The message of the last failure or panic.
    pub last_error: Option<String>,
    /// Facts that only this actor knows.
    pub details: serde_json::Value,
}

/// The fill level of a mailbox.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct MailboxReport {
    /// Events that are waiting or in work.
    pub depth: usize,
    /// The largest depth.
    pub capacity: usize,
    /// The age of the oldest event, in milliseconds.
    pub oldest_ms: u64,
}

/// Every actor of this process, in the order of their start.
#[derive(Clone)]
pub struct Registry {
    actors: Arc<RwLock<Vec<Arc<ActorStats>>>>,
    stall_after: Duration,
    observer: Arc<dyn Observer>,
}

impl Registry {
    /// Returns an empty registry. It reports an actor as stuck that has had work, and made no progress, for longer
    /// than `stall_after`.
    #[must_use]
    pub fn new(stall_after: Duration, observer: impl Observer) -> Self {
        Self {
            actors: Arc::default(),
            stall_after,
            observer: Arc::new(observer),
        }
    }

    pub(crate) fn register(&self, name: &'static str) -> Arc<ActorStats> {
        let stats = Arc::new(ActorStats::new(name, Arc::clone(&self.observer)));
        write(&self.actors).push(Arc::clone(&stats));
        stats
    }

    /// Returns the report of each actor.
    #[must_use]
    pub fn report(&self) -> Vec<ActorReport> {
        let actors = read(&self.actors);
        actors
            .iter()
            .map(|stats| stats.report(self.stall_after))
            .collect()
    }

    /// Makes the actor of this name panic, to show that it survives. Returns whether there is such an actor.
    #[must_use]
    pub fn inject_panic(&self, name: &str) -> bool {
        let actors = read(&self.actors);
        let Some(stats) = actors.iter().find(|stats| stats.name == name) else {
            return false;
        };
        let inject = read(&stats.inject_panic);
        if let Some(inject) = inject.as_ref() {
            inject();
        }
        inject.is_some()
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
