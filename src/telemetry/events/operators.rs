//! The actions of operators and their jobs.

use crate::telemetry::metrics::{ActionLabels, JobLabels, METRICS};

/// An operator changed rows.
pub struct OperatorIntervened<'a> {
    /// The operator.
    pub operator: &'a str,
    /// The change: `retried`, `discarded` or `republished`.
    pub action: &'static str,
    /// The number of rows.
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

/// Operations of operators could not be written to `likewise_operations`.
pub struct OperationsUnwritten<'a> {
    /// The number of operations.
    pub operations: usize,
    /// Whether they are not written later.
    pub dropped: bool,
    /// Why.
    pub error: &'a dyn std::fmt::Display,
}

impl OperationsUnwritten<'_> {
    /// Logs it.
    pub fn emit(self) {
        let later = match self.dropped {
            true => "the changed rows and the log name the operator",
            false => "they are written when the database answers",
        };
        log::warn!(
            target: "likewise::operations",
            "operations are not written to likewise_operations, and {later}: operations={}: {}",
            self.operations, self.error
        );
    }
}

/// A job was created.
pub struct JobCreated<'a> {
    /// The job's id.
    pub id: &'a str,
    /// The job's kind.
    pub kind: &'static str,
    /// Who requested it.
    pub requested_by: &'a str,
    /// The number of rows in its snapshot, if it has one.
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

/// A job ended.
pub struct JobEnded<'a> {
    /// The job's id.
    pub id: &'a str,
    /// The job's kind.
    pub kind: &'static str,
    /// The job's final state.
    pub state: &'static str,
    /// The number of rows that it passed.
    pub done: i64,
    /// The number of rows that it changed.
    pub changed: i64,
    /// The error of a failed job.
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

/// An audit of this process ended.
pub struct AuditEnded {
    /// The number of discrepancies.
    pub found: u64,
    /// The number of repaired discrepancies.
    pub mended: u64,
    /// The number of each kind.
    pub findings: Vec<(&'static str, u64)>,
}

impl AuditEnded {
    /// Sets the metrics, and logs the result.
    pub fn emit(self) {
        METRICS.audit_ended(&self.findings);
        if self.found == 0 {
            log::info!(target: "likewise::audit", "the audit found no differences");
        } else {
            log::warn!(
                target: "likewise::audit",
                "the audit found {} differences and repaired {}; see /admin/audit",
                self.found, self.mended
            );
        }
    }
}
