//! The pipeline: recording, syncing, retries and the cache.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{FailureKind, Status, Step, TraceParent};
use crate::telemetry::dependency::Dependency;
use crate::telemetry::logging::seconds;
use crate::telemetry::metrics::{METRICS, OutcomeLabels, PathLabels, StatusLabels};
use crate::telemetry::outages;

/// How the recorder committed a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPath {
    /// Behaviors, completed ledger rows and read models in one transaction.
    OneTransaction,
    /// Behaviors and pending ledger rows; the sync publisher completes the rows.
    TwoStep,
}

impl RecordPath {
    const fn as_str(self) -> &'static str {
        match self {
            Self::OneTransaction => "one_transaction",
            Self::TwoStep => "two_step",
        }
    }
}

/// A batch of behaviors was committed.
pub struct BatchRecorded {
    /// The number of behaviors.
    pub behaviors: usize,
    /// How they were committed.
    pub path: RecordPath,
    /// The duration of the transaction.
    pub took: Duration,
}

impl BatchRecorded {
    /// Counts the behaviors.
    pub fn emit(self) {
        let path = self.path.as_str();
        METRICS
            .behaviors_recorded
            .get_or_create(&PathLabels { path })
            .inc_by(self.behaviors as u64);
        METRICS.record_seconds.observe(self.took);
        log::debug!(
            target: "likewise::recorder", behaviors = self.behaviors, path, seconds = seconds(self.took);
            "behaviors recorded"
        );
    }
}

/// A batch could not be recorded and synced in one transaction, so it takes two steps.
pub struct OneTransactionFailed<'a> {
    /// The number of events.
    pub events: usize,
    /// The cause.
    pub error: &'a dyn Display,
}

impl OneTransactionFailed<'_> {
    /// Logs the cause. The two steps report what lasts.
    pub fn emit(self) {
        log::debug!(
            target: "likewise::recorder", events = self.events, error:% = self.error;
            "events take two steps"
        );
    }
}

/// Events were dropped because their user or resource is erased.
pub struct EventsOfErased {
    /// The number of events.
    pub events: usize,
}

impl EventsOfErased {
    /// Counts the events.
    pub fn emit(self) {
        METRICS.events_of_erased.inc_by(self.events as u64);
        log::debug!(target: "likewise::recorder", events = self.events; "events of the erased dropped");
    }
}

/// Recorded rows were left in the ledger because the sync publisher was full.
pub struct RowsLeft {
    /// The number of rows.
    pub rows: usize,
}

impl RowsLeft {
    /// Counts the rows.
    pub fn emit(self) {
        METRICS.ledger_rows_left.inc_by(self.rows as u64);
        log::debug!(target: "likewise::recorder", rows = self.rows; "rows left to the retry scheduler");
    }
}

/// The recorder committed a batch to the read models, with its ledger rows.
pub struct RowsCompleted {
    /// The number of rows.
    pub rows: usize,
}

impl RowsCompleted {
    /// Counts the rows.
    pub fn emit(self) {
        METRICS.ledger_rows_completed.inc_by(self.rows as u64);
    }
}

/// Accepted likes were completed: their effect is committed.
pub struct LikesCompleted<I> {
    /// For each, how long ago it was accepted, in microseconds; negative if the clocks differ.
    pub ages: I,
}

impl<I: Iterator<Item = i64>> LikesCompleted<I> {
    /// Counts the times.
    pub fn emit(self) {
        for age in self.ages {
            let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
            METRICS.accepted_to_completed_seconds.observe(age);
        }
    }
}

/// A process of the deployment counted the rows of the ledger and the messages that wait in the stream.
pub struct LedgerCounted<'a> {
    /// When.
    pub at: DateTime<Utc>,
    /// The rows of each status; absent without rows.
    pub rows: &'a BTreeMap<Status, i64>,
    /// The age of the oldest open row, in seconds; `None` without open rows.
    pub oldest_seconds: Option<f64>,
    /// The messages that no worker has acknowledged; `None` if NATS did not answer or is not configured.
    pub lag: Option<u64>,
}

impl LedgerCounted<'_> {
    /// Sets the metrics.
    pub fn emit(self) {
        for status in Status::ALL {
            let rows = self.rows.get(&status).copied().unwrap_or(0);
            let status = status.as_str();
            let labels = StatusLabels { status };
            METRICS.ledger_rows.get_or_create(&labels).set(rows);
        }
        METRICS
            .ledger_oldest_open_seconds
            .set(self.oldest_seconds.unwrap_or(0.0));
        if let Some(lag) = self.lag {
            METRICS
                .consumer_lag
                .set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        METRICS
            .ledger_counted_timestamp_seconds
            .set(self.at.timestamp());
    }
}

/// A batch of ledger rows was committed to the read models.
pub struct BatchSynced {
    /// The number of rows.
    pub rows: usize,
    /// The number of changed counts.
    pub counts_changed: usize,
    /// The duration of the transaction.
    pub took: Duration,
}

impl BatchSynced {
    /// Counts the rows.
    pub fn emit(self) {
        METRICS.ledger_rows_completed.inc_by(self.rows as u64);
        METRICS.sync_seconds.observe(self.took);
        log::debug!(
            target: "likewise::sync",
            rows = self.rows, counts = self.counts_changed, seconds = seconds(self.took);
            "rows completed"
        );
    }
}

/// Attempts on ledger rows failed for one cause.
pub struct AttemptsFailed<'a> {
    /// The event id of the first row.
    pub first: uuid::Uuid,
    /// The trace of the first row.
    pub trace: Option<TraceParent>,
    /// The number of rows.
    pub rows: usize,
    /// The next state of the first row.
    pub step: Step,
    /// The class of the failure.
    pub kind: FailureKind,
    /// The cause.
    pub error: &'a dyn Display,
}

impl AttemptsFailed<'_> {
    /// The action's name in logs.
    pub const SYNCING: &'static str = "syncing ledger rows";

    /// Counts and logs the failures. Infrastructure failures are logged once per outage.
    pub fn emit(self) {
        METRICS
            .ledger_attempts_failed
            .get_or_create(&OutcomeLabels {
                outcome: self.step.as_str(),
            })
            .inc_by(self.rows as u64);
        if self.kind == FailureKind::Infrastructure {
            outages::failed(Dependency::Database, Self::SYNCING, self.rows, self.error);
            return;
        }
        log::warn!(
            target: "likewise::sync",
            event_id:% = self.first, trace_id = self.trace.map(|trace| trace.trace_id()),
            rows = self.rows, outcome = self.step.as_str(), kind = self.kind.as_str(),
            error:% = self.error;
            "attempts on ledger rows failed"
        );
    }
}

/// Due or abandoned rows were claimed.
pub struct RowsClaimed {
    /// The number of rows to sync.
    pub rows: usize,
    /// The number of rows closed as dead, because they were abandoned too often.
    pub dead: usize,
}

impl RowsClaimed {
    /// Counts and logs the claims.
    pub fn emit(self) {
        METRICS.ledger_rows_claimed.inc_by(self.rows as u64);
        log::info!(target: "likewise::retry", rows = self.rows; "due rows claimed");
        if self.dead > 0 {
            METRICS
                .ledger_attempts_failed
                .get_or_create(&OutcomeLabels {
                    outcome: Status::Dead.as_str(),
                })
                .inc_by(self.dead as u64);
            log::warn!(
                target: "likewise::retry", rows = self.dead;
                "rows are dead: their workers stopped without a result too often"
            );
        }
    }
}

/// Due rows were closed as dead, because no worker can read them.
pub struct RowsUnreadable<'a> {
    /// The number of rows.
    pub rows: usize,
    /// The id of the first row.
    pub first: &'a str,
    /// Why the first cannot be read.
    pub error: &'a str,
}

impl RowsUnreadable<'_> {
    /// Counts and logs them.
    pub fn emit(self) {
        let outcome = Status::Dead.as_str();
        METRICS
            .ledger_attempts_failed
            .get_or_create(&OutcomeLabels { outcome })
            .inc_by(self.rows as u64);
        log::warn!(
            target: "likewise::retry", event_id = self.first, rows = self.rows, error = self.error;
            "rows are dead: no worker can read them"
        );
    }
}

/// Due rows wait, because no running worker serves their resource type. Said once for each type.
pub struct RowsUnserved<'a> {
    /// The resource type.
    pub resource_type: &'a str,
}

impl RowsUnserved<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise::retry", resource_type = self.resource_type;
            "ledger rows wait: no running worker serves their resource type; add it to LIKEWISE_RESOURCE_TYPES"
        );
    }
}

/// Events that were in flight in the cache for too long were compared with the database.
pub struct EventsReconciled {
    /// The number of events that the database holds, so that the cache was not settled.
    pub stored: usize,
    /// The number of events that neither the database nor the stream holds.
    pub lost: usize,
}

impl EventsReconciled {
    /// Counts and logs them.
    pub fn emit(self) {
        for (outcome, events) in [("stored", self.stored), ("lost", self.lost)] {
            let counter = &METRICS.cache_events_reconciled;
            let labels = OutcomeLabels { outcome };
            counter.get_or_create(&labels).inc_by(events as u64);
        }
        log::warn!(
            target: "likewise::cache", stored = self.stored, lost = self.lost;
            "events in flight left the cache: stored but not settled, or lost with their process"
        );
    }
}

/// Cache entries that may be wrong were dropped.
pub struct CacheHealed {
    /// The reason.
    pub reason: &'static str,
    /// The number of dropped entries; `None` for all.
    pub entries: Option<usize>,
}

impl CacheHealed {
    /// Logs the repair.
    pub fn emit(self) {
        match self.entries {
            Some(entries) => log::info!(
                target: "likewise::cache", reason = self.reason, entries;
                "cache entries dropped; reads rebuild them from the database"
            ),
            None => log::warn!(
                target: "likewise::cache", reason = self.reason;
                "every cache entry dropped; reads rebuild them from the database"
            ),
        }
    }
}
