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
        let Self {
            operator,
            action,
            rows,
        } = self;
        METRICS
            .operator_interventions
            .get_or_create(&ActionLabels { action })
            .inc_by(rows as u64);
        log::info!(target: "likewise::operations", operator, action, rows; "rows {action}");
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
        let meaning = match self.dropped {
            true => "the changed rows and the log name the operator",
            false => "they are written when the database answers",
        };
        log::warn!(
            target: "likewise::operations", operations = self.operations, meaning, error:% = self.error;
            "operations are not written to likewise_operations"
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
        log::info!(
            target: "likewise::operations",
            job_id = self.id, kind = self.kind, operator = self.requested_by, rows = self.total;
            "job created"
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
        let level = self.error.map_or(log::Level::Info, |_| log::Level::Error);
        log::log!(
            target: "likewise::operations", level,
            job_id = self.id, kind = self.kind, state = self.state, done = self.done, changed = self.changed,
            error = self.error;
            "job ended"
        );
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
                target: "likewise::audit", found = self.found, repaired = self.mended;
                "the audit found differences; see /admin/audit"
            );
        }
    }
}
