//! The pipeline: recording, syncing, retries and the cache.

use std::fmt::Display;
use std::time::Duration;

use crate::domain::{FailureKind, Status, Step};
use crate::telemetry::dependency::Dependency;
use crate::telemetry::metrics::{METRICS, OutcomeLabels};
use crate::telemetry::outages;

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
