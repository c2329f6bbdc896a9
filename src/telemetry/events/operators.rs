//! What operators and their jobs do.

use crate::telemetry::metrics::{ActionLabels, JobLabels, METRICS};

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
