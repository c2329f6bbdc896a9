//! The statistics of one actor, written by it and its supervisor, read by reports.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::gauge::Gauge;
use crate::messages::MessageStats;
use crate::observer::Observer;
use crate::panics::take_place;
use crate::report::{
    ActorReport, ActorState, MailboxReport, PanicReport, StuckAfter, SupervisionPolicy,
    SupervisionReport,
};
use crate::waits::Waits;

/// The beginning of the time in [`ActorStats::turn`].
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

type Details = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What operators may tell an actor to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Restart,
    Resume,
    InjectPanic,
    InjectBlock(Duration),
}

type Commands = Box<dyn Fn(Command) + Send + Sync>;

/// The statistics.
pub(crate) struct ActorStats {
    pub(crate) name: &'static str,
    observer: Arc<dyn Observer>,
    state: Mutex<(ActorState, DateTime<Utc>)>,
    /// Whether `pause` is set, for hot paths.
    paused: AtomicBool,
    /// Why and since when operators have paused it.
    pause: Mutex<Option<(String, DateTime<Utc>)>>,
    /// Why it has failed or is disabled.
    reason: Mutex<Option<String>>,
    processed: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
    last_panic: Mutex<Option<PanicReport>>,
    recent_panics: Mutex<VecDeque<Instant>>,
    limit: (usize, Duration),
    last_progress: Mutex<Instant>,
    /// When the present turn of the actor on its thread began, in microseconds since [`START`]; zero between turns.
    turn: AtomicU64,
    tick: Mutex<Option<Instant>>,
    messages: Mutex<Vec<Arc<MessageStats>>>,
    pub(crate) waits: Arc<Waits>,
    gauge: RwLock<Option<Arc<Gauge>>>,
    details: RwLock<Option<Details>>,
    commands: RwLock<Option<Commands>>,
}

impl ActorStats {
    /// Returns the statistics of an actor that survives this many panics within this window.
    pub(crate) fn new(
        name: &'static str,
        limit: (usize, Duration),
        observer: Arc<dyn Observer>,
    ) -> Self {
        LazyLock::force(&START);
        Self {
            name,
            observer,
            state: Mutex::new((ActorState::Starting, Utc::now())),
            paused: AtomicBool::new(false),
            pause: Mutex::default(),
            reason: Mutex::default(),
            processed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            last_error: Mutex::default(),
            last_panic: Mutex::default(),
            recent_panics: Mutex::default(),
            limit,
            last_progress: Mutex::new(Instant::now()),
            turn: AtomicU64::new(0),
            tick: Mutex::default(),
            messages: Mutex::default(),
            waits: Arc::default(),
            gauge: RwLock::default(),
            details: RwLock::default(),
            commands: RwLock::default(),
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

    /// Records a panic of this thread.
    pub(crate) fn panicked(&self, message: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_error) = Some(format!("panicked: {message}"));
        *lock(&self.last_panic) = Some(PanicReport {
            message: message.to_owned(),
            place: take_place(),
            at: Utc::now(),
        });
        self.observer.panicked(self.name, message);
    }

    /// Records that the supervisor must restart the actor. Returns the panics within the window.
    pub(crate) fn must_restart(&self) -> usize {
        let mut panics = self.recent_panics();
        panics.push_back(Instant::now());
        panics.len()
    }

    fn recent_panics(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        let mut panics = lock(&self.recent_panics);
        while let Some(first) = panics.front()
            && first.elapsed() > self.limit.1
        {
            panics.pop_front();
        }
        panics
    }

    pub(crate) fn restarted(&self) {
        let restarts = self.restarts.fetch_add(1, Ordering::Relaxed) + 1;
        self.set_state(ActorState::Running);
        self.observer.restarted(self.name, restarts);
    }

    pub(crate) fn given_up(&self, panics: usize) {
        let window = self.limit.1;
        self.set_state(ActorState::Failed);
        *lock(&self.reason) = Some(format!("panicked {panics} times within {window:?}"));
        self.observer.given_up(self.name, panics, window);
    }

    /// Records that the actor has begun.
    pub(crate) fn started(&self) {
        let mut present = lock(&self.state);
        if present.0 == ActorState::Starting {
            *present = (ActorState::Running, Utc::now());
        }
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        let mut present = lock(&self.state);
        if present.0 != state {
            *present = (state, Utc::now());
        }
    }

    /// Reports the actor as one that this process does not run.
    pub(crate) fn disable(&self, reason: &str) {
        self.set_state(ActorState::Disabled);
        *lock(&self.reason) = Some(reason.to_owned());
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Pauses the actor, or resumes it with `None`. Returns whether that changed anything.
    pub(crate) fn set_pause(&self, reason: Option<String>) -> bool {
        let mut pause = lock(&self.pause);
        if pause.is_some() == reason.is_some() {
            return false;
        }
        self.paused.store(reason.is_some(), Ordering::Relaxed);
        *pause = reason.map(|reason| (reason, Utc::now()));
        *lock(&self.last_progress) = Instant::now();
        true
    }

    /// Counts the time of one turn on the thread, until the returned value is dropped.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let now = START.elapsed().as_micros() as u64;
        self.turn.store(now.max(1), Ordering::Relaxed);
        Turn(self)
    }

    pub(crate) fn tick_began(&self) {
        *lock(&self.tick) = Some(Instant::now());
    }

    pub(crate) fn tick_ended(&self) {
        *lock(&self.tick) = None;
    }

    /// Adds a type of message to the report.
    pub(crate) fn watch_messages<M>(&self) -> Arc<MessageStats> {
        let stats = Arc::new(MessageStats::of::<M>());
        lock(&self.messages).push(Arc::clone(&stats));
        stats
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

    /// Sets what carries commands to the actor.
    pub(crate) fn set_commands(&self, commands: impl Fn(Command) + Send + Sync + 'static) {
        *write(&self.commands) = Some(Box::new(commands));
    }

    /// Sends a command. Returns whether the actor runs here.
    pub(crate) fn command(&self, command: Command) -> bool {
        let commands = read(&self.commands);
        if let Some(commands) = commands.as_ref() {
            commands(command);
        }
        commands.is_some()
    }

    /// Returns the state, since when it holds, and its reason.
    pub(crate) fn state(
        &self,
        stuck_after: StuckAfter,
    ) -> (ActorState, DateTime<Utc>, Option<String>) {
        let (state, since) = *lock(&self.state);
        match state {
            ActorState::Starting | ActorState::Running => {
                if let Some((reason, since)) = lock(&self.pause).clone() {
                    (ActorState::Paused, since, Some(reason))
                } else if let Some((lasted, reason)) = self.stuck(stuck_after) {
                    (ActorState::Stuck, Utc::now() - lasted, Some(reason))
                } else {
                    (state, since, None)
                }
            }
            _ => (state, since, lock(&self.reason).clone()),
        }
    }

    /// Returns how long the actor has been stuck, and why; `None` if it is not.
    fn stuck(&self, stuck_after: StuckAfter) -> Option<(Duration, String)> {
        let turn = self.turn.load(Ordering::Relaxed);
        let turn = (turn > 0).then(|| START.elapsed().saturating_sub(Duration::from_micros(turn)));
        if let Some(lasted) = turn
            && lasted > stuck_after.blocked_thread
        {
            let reason = format!("it blocks its thread, for {} ms", lasted.as_millis());
            return Some((lasted, reason));
        }
        let oldest = read(&self.gauge)
            .as_ref()
            .and_then(|gauge| gauge.oldest())?;
        let lasted = oldest.min(lock(&self.last_progress).elapsed());
        (lasted > stuck_after.no_progress).then(|| {
            let reason = format!(
                "it has had work for {} ms, and made no progress for {} ms",
                oldest.as_millis(),
                lasted.as_millis()
            );
            (lasted, reason)
        })
    }

    pub(crate) fn report(&self, stuck_after: StuckAfter) -> ActorReport {
        let gauge = read(&self.gauge).clone();
        let oldest = gauge.as_ref().and_then(|gauge| gauge.oldest());
        let (state, since, reason) = self.state(stuck_after);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let messages = lock(&self.messages).clone();
        let (max_restarts, window) = self.limit;
        ActorReport {
            name: self.name,
            state,
            since,
            reason,
            supervision: SupervisionReport {
                policy: SupervisionPolicy::RestartThenStop,
                max_restarts,
                window_seconds: window.as_secs(),
                panics_in_window: self.recent_panics().len(),
                last_panic: lock(&self.last_panic).clone(),
            },
            mailbox: MailboxReport {
                depth: gauge.as_ref().map_or(0, |gauge| gauge.depth()),
                reserved: gauge.as_ref().map_or(0, |gauge| gauge.reserved()),
                capacity: gauge.as_ref().map_or(0, |gauge| gauge.capacity()),
                oldest_ms: oldest.map_or(0, |wait| wait.as_millis() as u64),
            },
            tick_ms: lock(&self.tick).map(|began| began.elapsed().as_millis() as u64),
            messages: messages.iter().map(|stats| stats.report()).collect(),
            waits_for: self.waits.report(),
            processed: count(&self.processed),
            errors: count(&self.errors),
            panics: count(&self.panics),
            restarts: count(&self.restarts),
            last_error: lock(&self.last_error).clone(),
            details: read(&self.details)
                .as_ref()
                .map_or_else(|| serde_json::json!({}), |details| details()),
        }
    }
}

/// One turn of an actor on its thread.
pub(crate) struct Turn<'a>(&'a ActorStats);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turn.store(0, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
