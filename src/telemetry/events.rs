//! What happens, each as one struct that writes the log line and moves the metric.

use std::fmt::Display;
use std::time::Duration;

use chrono::TimeDelta;

use super::metrics::{
    AcceptedLabels, ActionLabels, ActorLabels, JobLabels, METRICS, OriginLabels, OutcomeLabels,
    PartLabels, ProblemLabels,
};
use super::outages;
use crate::domain::{ClockNews, Durability, FailureKind, Origin, Status, Step};

/// The parts that Likewise depends on, as logs and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The store.
    Database,
    /// The cache.
    Cache,
    /// NATS JetStream.
    Broker,
}

impl Dependency {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cache => "cache",
            Self::Broker => "broker",
        }
    }
}

/// The service has begun to listen.
pub struct ServiceStarted<'a> {
    /// Where it listens.
    pub address: &'a str,
    /// The database's kind.
    pub database: &'static str,
    /// The cache's kind.
    pub cache: &'static str,
    /// The broker's kind.
    pub broker: &'static str,
    /// What this process does.
    pub role: &'static str,
}

impl ServiceStarted<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::info!(
            target: "likewise",
            "listening on http://{}, role {}, database {}, cache {}, broker {}",
            self.address, self.role, self.database, self.cache, self.broker
        );
    }
}

/// A migration has been run.
pub struct Migrated<'a> {
    /// Its name.
    pub migration: &'a str,
}

impl Migrated<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "migrated: {}", self.migration);
    }
}

/// The database turned out to be unusable after the service has begun to listen.
pub struct StartFailed<'a> {
    /// Why.
    pub error: &'a dyn Display,
}

impl StartFailed<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(target: "likewise", "{}", self.error);
    }
}

/// The process waits before it can migrate.
pub struct MigrationAwaited<'a> {
    /// For what.
    pub reason: &'a str,
}

impl MigrationAwaited<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise",
            "waiting to bring the tables up to date: {}", self.reason
        );
    }
}

/// The process waits for a database that it has not reached yet.
pub struct DatabaseAwaited<'a> {
    /// Which, without its password.
    pub url: &'a str,
    /// Why it could not be reached.
    pub reason: &'a str,
}

impl DatabaseAwaited<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: Dependency::Database.as_str(),
            })
            .inc();
        log::warn!(
            target: "likewise",
            "waiting for the database {}: {}", self.url, self.reason
        );
    }
}

/// The service has begun to shut down.
pub struct ShutdownStarted {
    /// Why.
    pub reason: &'static str,
}

impl ShutdownStarted {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "shutting down ({}): draining", self.reason);
    }
}

/// The service has shut down.
pub struct ShutdownEnded {
    /// How long it took.
    pub took: Duration,
    /// Events that could not be drained in time; what is in the ledger is picked up at the next start.
    pub left: usize,
}

impl ShutdownEnded {
    /// Logs it.
    pub fn emit(self) {
        if self.left == 0 {
            log::info!(target: "likewise", "stopped after {:?}: everything drained", self.took);
        } else {
            log::warn!(
                target: "likewise",
                "stopped after {:?} with {} events undrained; the ledger keeps them for the next start",
                self.took, self.left
            );
        }
    }
}

/// A like or unlike was answered with 2xx.
pub struct LikeAccepted {
    /// `like` or `unlike`.
    pub action: &'static str,
    /// What it has reached.
    pub durability: Durability,
    /// Whether the cache has it too.
    pub cached: bool,
    /// From request to answer.
    pub took: Duration,
}

impl LikeAccepted {
    /// Counts it.
    pub fn emit(self) {
        METRICS
            .likes_accepted
            .get_or_create(&AcceptedLabels {
                action: self.action,
                durability: self.durability.as_str(),
                cached: if self.cached { "true" } else { "false" },
            })
            .inc();
        METRICS.accept_seconds.observe(self.took.as_secs_f64());
    }
}

/// A request was answered with what had been answered before to its `Idempotency-Key`.
pub struct RequestReplayed;

impl RequestReplayed {
    /// Counts it.
    pub fn emit(self) {
        METRICS.requests_replayed.inc();
    }
}

/// A request was answered with a problem.
pub struct ProblemAnswered<'a> {
    /// Its stable code.
    pub code: &'static str,
    /// Its HTTP status.
    pub status: u16,
    /// What was said or, if that may not be said, what happened.
    pub detail: &'a str,
}

impl ProblemAnswered<'_> {
    /// Counts it; logs it if the fault is ours.
    pub fn emit(self) {
        METRICS
            .problems
            .get_or_create(&ProblemLabels { code: self.code })
            .inc();
        if self.status >= 500 && self.status != 503 {
            log::error!(target: "likewise::web", "{} {}: {}", self.status, self.code, self.detail);
        } else {
            log::debug!(target: "likewise::web", "{} {}: {}", self.status, self.code, self.detail);
        }
    }
}

/// The broker's stream was found in order.
pub struct BrokerReady;

impl BrokerReady {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "NATS is connected and its stream in order");
    }
}

/// Something that Likewise does with NATS failed.
pub struct BrokerFailed<'a> {
    /// What was being done.
    pub doing: &'static str,
    /// Why it failed.
    pub error: &'a dyn Display,
    /// Whether the outage has not had this cause before.
    pub is_news: bool,
}

impl BrokerFailed<'_> {
    /// Counts it, and logs each cause once in an outage.
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: Dependency::Broker.as_str(),
            })
            .inc();
        if self.is_news {
            log::warn!(target: "likewise::nats", "{} failed: {}", self.doing, self.error);
        }
    }
}

/// What had failed with NATS works again.
pub struct BrokerRecovered {
    /// What works again.
    pub doing: &'static str,
    /// How long it did not.
    pub lasted: Duration,
    /// How often it failed.
    pub failures: u64,
}

impl BrokerRecovered {
    /// Logs it.
    pub fn emit(self) {
        log::info!(
            target: "likewise::nats",
            "{} works again after {:.1?} and {} failures", self.doing, self.lasted, self.failures
        );
    }
}

/// The settings of the stream and its consumer were compared with the configured ones.
pub struct StreamCompared<'a> {
    /// The stream.
    pub stream: &'a str,
    /// What differs, in words.
    pub differences: &'a [String],
    /// How many of the differences would lose acknowledged likes.
    pub errors: usize,
    /// Whether the differences are others than before.
    pub changed: bool,
}

impl StreamCompared<'_> {
    /// Notes how many settings differ, and logs the differences when they change.
    pub fn emit(self) {
        METRICS.stream_compared(self.differences.len() - self.errors, self.errors);
        // The check itself logs errors, as the reason why nothing is published.
        if !self.changed || self.errors > 0 {
            return;
        }
        if self.differences.is_empty() {
            log::info!(target: "likewise::nats", "stream {} is as configured", self.stream);
        } else {
            log::warn!(
                target: "likewise::nats",
                "stream {} differs from the configuration and was not changed: {}; see \
                 `likewise stream show`, and `likewise stream apply` to change it",
                self.stream, self.differences.join("; ")
            );
        }
    }
}

/// A batch of events was acknowledged by JetStream.
pub struct BatchPublished {
    /// How many.
    pub events: usize,
}

impl BatchPublished {
    /// Counts it.
    pub fn emit(self) {
        METRICS.events_published.inc_by(self.events as u64);
    }
}

/// Messages were taken from the stream.
pub struct MessagesTaken {
    /// How many.
    pub messages: usize,
    /// How many of them were delivered before.
    pub redelivered: usize,
}

impl MessagesTaken {
    /// Counts it.
    pub fn emit(self) {
        METRICS.messages_taken.inc_by(self.messages as u64);
        METRICS.messages_redelivered.inc_by(self.redelivered as u64);
    }
}

/// Messages were put into quarantine.
pub struct EventsQuarantined<'a> {
    /// How many.
    pub events: usize,
    /// How many of them are events that Likewise acknowledged.
    pub accepted: usize,
    /// The reason of the first.
    pub reason: &'a str,
}

impl EventsQuarantined<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        for (origin, events) in [
            (Origin::Accepted, self.accepted),
            (Origin::Foreign, self.events - self.accepted),
        ] {
            METRICS
                .events_quarantined
                .get_or_create(&OriginLabels {
                    origin: origin.as_str(),
                })
                .inc_by(events as u64);
        }
        if self.accepted > 0 {
            log::error!(
                target: "likewise::subscriber",
                "{} acknowledged events put into quarantine, so their likes have no effect; the first \
                 reason is: {}; see `likewise events quarantine --open`",
                self.accepted, self.reason
            );
        } else {
            log::warn!(
                target: "likewise::subscriber",
                "{} messages put into quarantine, the first because {}; see `likewise events quarantine`",
                self.events, self.reason
            );
        }
    }
}

/// A pull from the stream gave no sign of life and was begun anew.
pub struct PullStalled {
    /// How long it was silent.
    pub silent: Duration,
}

impl PullStalled {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.pulls_stalled.inc();
        log::warn!(
            target: "likewise::subscriber",
            "a pull was silent for {:?} and is begun anew", self.silent
        );
    }
}

/// This process's clock was compared with the database's.
pub struct ClockMeasured {
    /// How far it is ahead of the database's; negative if behind.
    pub skew: TimeDelta,
    /// What is new about that.
    pub news: Option<ClockNews>,
}

impl ClockMeasured {
    /// Notes the skew, and logs it if it is news.
    pub fn emit(self) {
        let seconds = self.skew.num_milliseconds() as f64 / 1_000.0;
        METRICS.clock_skew.set(seconds);
        let Some(news) = self.news else {
            return;
        };
        match news {
            ClockNews::Off => log::warn!(
                target: "likewise::health",
                "this process's clock is off: skew_seconds={seconds:+.3} from the database's; \
                 set one of them right, for example with NTP"
            ),
            ClockNews::Right => log::info!(
                target: "likewise::health",
                "this process's clock agrees with the database's again: skew_seconds={seconds:+.3}"
            ),
        }
    }
}

/// The cache was put right from the database.
pub struct CacheHealed {
    /// Why.
    pub reason: &'static str,
    /// How many entries were dropped; `None` for all.
    pub entries: Option<usize>,
}

impl CacheHealed {
    /// Logs it.
    pub fn emit(self) {
        match self.entries {
            Some(entries) => log::info!(
                target: "likewise::cache",
                "{}: dropped {entries} entries, to be built anew from the database", self.reason
            ),
            None => log::warn!(
                target: "likewise::cache",
                "{}: dropped every entry, to be built anew from the database", self.reason
            ),
        }
    }
}

/// A batch of behaviors was committed.
pub struct BatchRecorded {
    /// How many.
    pub behaviors: usize,
    /// How long it took.
    pub took: Duration,
}

impl BatchRecorded {
    /// Counts it.
    pub fn emit(self) {
        METRICS.behaviors_recorded.inc_by(self.behaviors as u64);
        METRICS.record_seconds.observe(self.took.as_secs_f64());
        log::debug!(target: "likewise::recorder", "recorded {} in {:?}", self.behaviors, self.took);
    }
}

/// Recorded rows were left in the ledger because the sync publisher was full.
pub struct RowsLeft {
    /// How many.
    pub rows: usize,
}

impl RowsLeft {
    /// Counts it.
    pub fn emit(self) {
        METRICS.rows_left.inc_by(self.rows as u64);
        log::debug!(target: "likewise::recorder", "left {} rows to the retry scheduler", self.rows);
    }
}

/// A batch of ledger rows was committed to the read models.
pub struct BatchSynced {
    /// How many rows.
    pub rows: usize,
    /// How many counts changed.
    pub counts_changed: usize,
    /// How long it took.
    pub took: Duration,
}

impl BatchSynced {
    /// Counts it.
    pub fn emit(self) {
        METRICS.rows_completed.inc_by(self.rows as u64);
        METRICS.sync_seconds.observe(self.took.as_secs_f64());
        log::debug!(
            target: "likewise::sync",
            "completed {} rows, {} counts changed, in {:?}",
            self.rows, self.counts_changed, self.took
        );
    }
}

/// Attempts on ledger rows failed for one cause.
pub struct AttemptsFailed<'a> {
    /// The first row's event id, of how many.
    pub first: uuid::Uuid,
    /// How many rows.
    pub rows: usize,
    /// What becomes of the first row.
    pub step: Step,
    /// What it says about the events.
    pub kind: FailureKind,
    /// Why.
    pub error: &'a dyn Display,
}

impl AttemptsFailed<'_> {
    /// What the log calls an attempt.
    pub const SYNCING: &'static str = "syncing ledger rows";

    /// Counts and logs it. What is the infrastructure's fault is logged once for an outage.
    pub fn emit(self) {
        METRICS
            .attempts_failed
            .get_or_create(&OutcomeLabels {
                outcome: self.step.as_str(),
            })
            .inc_by(self.rows as u64);
        let cause = match self.kind {
            FailureKind::Infrastructure => {
                outages::failed(Dependency::Database, Self::SYNCING, self.rows, self.error);
                return;
            }
            FailureKind::Rejected => "rejected",
            FailureKind::Invalid => "invalid",
        };
        log::warn!(
            target: "likewise::sync",
            "{} rows are {}: {cause}: {}; first_event={}",
            self.rows, self.step.as_str(), self.error, self.first
        );
    }
}

/// Due or abandoned rows were claimed.
pub struct RowsClaimed {
    /// How many are to be tried.
    pub rows: usize,
    /// How many were closed instead, because they had been abandoned once too often.
    pub dead: usize,
}

impl RowsClaimed {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.rows_claimed.inc_by(self.rows as u64);
        log::info!(target: "likewise::retry", "claimed {} due rows", self.rows);
        if self.dead > 0 {
            METRICS
                .attempts_failed
                .get_or_create(&OutcomeLabels {
                    outcome: Status::Dead.as_str(),
                })
                .inc_by(self.dead as u64);
            log::warn!(
                target: "likewise::retry",
                "{} rows are dead: their workers never came back", self.dead
            );
        }
    }
}

/// An operator did something to rows.
pub struct OperatorIntervened<'a> {
    /// Who.
    pub operator: &'a str,
    /// What became of them: `retried`, `discarded` or `republished`.
    pub action: &'static str,
    /// How many.
    pub rows: usize,
}

impl OperatorIntervened<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS
            .interventions
            .get_or_create(&ActionLabels {
                action: self.action,
            })
            .inc_by(self.rows as u64);
        log::info!(target: "likewise::operations", "{} rows {} by {}", self.rows, self.action, self.operator);
    }
}

/// A job was made.
pub struct JobCreated<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it does.
    pub kind: &'static str,
    /// Who asked for it.
    pub requested_by: &'a str,
    /// How many rows its snapshot has, if it has one.
    pub total: Option<i64>,
}

impl JobCreated<'_> {
    /// Logs it.
    pub fn emit(self) {
        let rows = self.total.map(|rows| format!(" on {rows} rows"));
        log::info!(
            target: "likewise::operations",
            "job {} ({}){} made for {}",
            self.id, self.kind, rows.unwrap_or_default(), self.requested_by
        );
    }
}

/// A job has come to its end.
pub struct JobEnded<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it did.
    pub kind: &'static str,
    /// How it ended.
    pub state: &'static str,
    /// How many rows it has passed.
    pub done: i64,
    /// How many of those it changed.
    pub changed: i64,
    /// Why it could not be done.
    pub error: Option<&'a str>,
}

impl JobEnded<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS
            .jobs_ended
            .get_or_create(&JobLabels {
                kind: self.kind,
                state: self.state,
            })
            .inc();
        match self.error {
            None => log::info!(
                target: "likewise::operations",
                "job {} ({}) is {}: {} rows passed, {} changed",
                self.id, self.kind, self.state, self.done, self.changed
            ),
            Some(error) => log::error!(
                target: "likewise::operations",
                "job {} ({}) is {}: {error}", self.id, self.kind, self.state
            ),
        }
    }
}

/// An audit of this process has come to its end.
pub struct AuditEnded {
    /// Places where the data was not as promised.
    pub found: u64,
    /// Those that are in order now.
    pub mended: u64,
    /// How many of each kind.
    pub findings: Vec<(&'static str, u64)>,
}

impl AuditEnded {
    /// Notes and logs it.
    pub fn emit(self) {
        METRICS.audit_ended(&self.findings);
        if self.found == 0 {
            log::info!(target: "likewise::audit", "the audit found no differences");
        } else {
            log::warn!(
                target: "likewise::audit",
                "the audit found {} differences and mended {}; see /admin/audit",
                self.found, self.mended
            );
        }
    }
}

/// A call to a dependency failed.
pub struct DependencyFailed<'a> {
    /// Which one.
    pub dependency: Dependency,
    /// What was being done.
    pub doing: &'static str,
    /// Why it failed.
    pub error: &'a dyn Display,
}

impl DependencyFailed<'_> {
    /// Counts it, and logs it once for an outage: see [`outages`](super::outages).
    pub fn emit(self) {
        METRICS
            .part_failures
            .get_or_create(&PartLabels {
                part: self.dependency.as_str(),
            })
            .inc();
        outages::failed(self.dependency, self.doing, 0, self.error);
    }
}

/// A call to a dependency succeeded, of a kind that [`DependencyFailed`] reports when it fails.
pub struct DependencyWorked {
    /// Which one.
    pub dependency: Dependency,
    /// What was being done.
    pub doing: &'static str,
}

impl DependencyWorked {
    /// Ends the outage, if there is one.
    pub fn emit(self) {
        outages::worked(self.dependency, self.doing);
    }
}

/// a dependency has failed several times in a row, and is left alone for a moment at a time.
pub struct DependencyAway<'a> {
    /// Which one.
    pub dependency: Dependency,
    /// Why.
    pub error: &'a dyn Display,
}

impl DependencyAway<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.part_away(self.dependency.as_str(), true);
        log::warn!(
            target: "likewise",
            "the {} is away and is tried again every moment: {}", self.dependency.as_str(), self.error
        );
    }
}

/// a dependency that was away answers again.
pub struct DependencyBack {
    /// Which one.
    pub dependency: Dependency,
    /// How long it was away.
    pub away_for: Duration,
}

impl DependencyBack {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.part_away(self.dependency.as_str(), false);
        log::info!(
            target: "likewise",
            "the {} is back after {:?}", self.dependency.as_str(), self.away_for
        );
    }
}

/// Counts and logs what supervisors report of their actors.
pub struct ActorEvents;

impl actor_kit::Observer for ActorEvents {
    /// The panic hook has logged the panic itself.
    fn panicked(&self, actor: &'static str, message: &str) {
        METRICS.panics.get_or_create(&ActorLabels { actor }).inc();
        log::debug!(target: "likewise::actors", "{actor} panicked: {message}");
    }

    fn restarted(&self, actor: &'static str, restarts: u64) {
        METRICS.restarts.get_or_create(&ActorLabels { actor }).inc();
        log::warn!(
            target: "likewise::actors",
            "{actor} restarted (restart {restarts}); its queued messages are intact"
        );
    }

    fn given_up(&self, actor: &'static str, panics: usize, window: Duration) {
        log::error!(
            target: "likewise::actors",
            "{actor} panicked {panics} times within {window:?} and is given up; the service stops, so that \
             its process manager can restart it"
        );
    }
}
