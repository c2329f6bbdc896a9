//! The rows that a job works through: what a filter matches when the job is created. A dry run counts them. `jobs.rs` creates
//! jobs, and `job_claims.rs` works through their rows.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::ledger::by_status;
use super::ledger_filter::{Conditions, FAILURES, LedgerFilter, is_failure};
use super::outbox::DeadLetterFilter;
use super::pool::SEARCH_TIMEOUT;
use super::quarantine_filter::QuarantineFilter;
use super::schema::Schema;
use super::session::{Session, Sql, TotalRow};
use super::statement::{Param, Statement};
use super::{Store, read};
use crate::domain::{JobKind, Status};

/// The most rows of one job.
pub const JOB_LIMIT: usize = 1_000_000;

/// Which rows a job takes.
#[derive(Debug, Clone, Copy)]
pub enum JobRows<'a> {
    /// Events of the ledger.
    Events(&'a LedgerFilter),
    /// Unresolved messages in quarantine.
    Messages(&'a QuarantineFilter),
    /// Dead letters of webhooks.
    DeadLetters(&'a DeadLetterFilter),
}

impl Store {
    /// Returns how many rows of each status a job of this kind would take.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn count_matching(
        &self,
        kind: JobKind,
        filter: &LedgerFilter,
    ) -> Result<BTreeMap<Status, i64>, StoreError> {
        let (statement, params) = matching(self.schema, kind, filter);
        read!(self, SEARCH_TIMEOUT, |session| by_status(
            session, &statement, &params
        ))
    }

    /// Returns how many unresolved messages in quarantine match.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn count_quarantined(&self, filter: &QuarantineFilter) -> Result<i64, StoreError> {
        let conditions = filter.conditions(self.schema, Some(false));
        let statement = self.schema.statement(format!(
            "SELECT 'messages' AS label, COUNT(*) AS total FROM likewise_quarantined_events q WHERE {}",
            conditions.sql()
        ));
        read!(self, SEARCH_TIMEOUT, |session| session
            .total(&statement, &conditions.params))
    }

    /// Returns how many dead letters of each receiver match.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn count_dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<BTreeMap<String, i64>, StoreError> {
        let conditions = filter.conditions(self.schema);
        let statement = self.schema.statement(format!(
            "SELECT o.receiver AS label, COUNT(*) AS total FROM likewise_outbox o WHERE {} GROUP BY o.receiver",
            conditions.sql()
        ));
        let totals: Vec<TotalRow> = read!(self, SEARCH_TIMEOUT, |session| session
            .load(&statement, &conditions.params))?;
        Ok(totals
            .into_iter()
            .map(|row| (row.label, row.total))
            .collect())
    }
}

/// Inserts a job's snapshot. Returns its size.
///
/// # Errors
/// If the filter matches more than [`JOB_LIMIT`] rows, or the database cannot be reached.
pub(super) async fn take_snapshot<S: Session>(
    session: &mut S,
    job_id: &str,
    kind: JobKind,
    rows: JobRows<'_>,
) -> Result<i64, StoreError> {
    let d = session.schema();
    let (statement, params) = snapshot(d, job_id, kind, rows);
    session.execute(&statement, &params).await?;
    let key = [Param::Text(job_id.to_owned())];
    let total = session.total(SNAPSHOT_SIZE.on(d), &key).await?;
    if total > Param::count(JOB_LIMIT) {
        return Err(StoreError::Refused(format!(
            "the filter matches more than {JOB_LIMIT} rows, the most that one job takes"
        )));
    }
    let params = [Param::Text(job_id.to_owned()), Param::Number(total)];
    session.execute(SET_TOTAL.on(d), &params).await?;
    Ok(total)
}

/// Inserts a job's snapshot: one row more than a job can take, if there are so many.
fn snapshot(d: &Schema, job_id: &str, kind: JobKind, rows: JobRows<'_>) -> (Statement, Vec<Param>) {
    let (mut conditions, rows) = match rows {
        JobRows::Events(filter) => {
            let conditions = Conditions::of(d, filter);
            let rows = self::rows(d, "e.id", kind, &conditions);
            (conditions, rows)
        }
        JobRows::Messages(filter) => {
            let conditions = filter.conditions(d, Some(false));
            let matching = conditions.sql();
            let rows = format!("SELECT q.id FROM likewise_quarantined_events q WHERE {matching}");
            (conditions, rows)
        }
        JobRows::DeadLetters(filter) => {
            let conditions = filter.conditions(d);
            let matching = conditions.sql();
            // A text in every database, without blanks at its end.
            let id = "CAST(o.id AS CHAR(20)) AS id";
            let rows = format!("SELECT {id} FROM likewise_outbox o WHERE {matching}");
            (conditions, rows)
        }
    };
    let job = conditions.text(job_id.to_owned());
    let limit = conditions.param(Param::limit(JOB_LIMIT + 1));
    let sql = format!(
        "INSERT INTO likewise_job_events (job_id, event_id) SELECT {job}, u.id FROM ({rows}) AS u \
         LIMIT {limit}"
    );
    (d.statement(sql), conditions.params)
}

/// The number of rows of each status that a job would take.
fn matching(d: &Schema, kind: JobKind, filter: &LedgerFilter) -> (Statement, Vec<Param>) {
    let conditions = Conditions::of(d, filter);
    let rows = rows(d, "e.status", kind, &conditions);
    let sql =
        format!("SELECT u.status AS label, COUNT(*) AS total FROM ({rows}) AS u GROUP BY u.status");
    (d.statement(sql), conditions.params)
}

/// A column of the matching rows that a job of this kind can change: failed and dead ones, and open ones for a
/// discard. Their number bounds the cost.
fn rows(d: &Schema, column: &str, kind: JobKind, conditions: &Conditions) -> String {
    let matching = conditions.sql();
    let mut selects = FAILURES
        .map(|status| {
            let failure = is_failure(d, status);
            format!("SELECT {column} FROM sync_events e WHERE {failure} AND {matching}")
        })
        .to_vec();
    if kind != JobKind::Retry {
        selects.push(format!(
            "SELECT {column} FROM {} WHERE e.status IN ('pending', 'processing') AND {matching}",
            d.open_rows()
        ));
    }
    selects.join(" UNION ALL ")
}

/// Parameters: the job's id.
static SNAPSHOT_SIZE: Sql = Sql::new(|_| {
    "SELECT 'snapshot' AS label, COUNT(*) AS total FROM likewise_job_events WHERE job_id = $1"
        .to_owned()
});

/// Parameters: the job's id, the size of its snapshot.
static SET_TOTAL: Sql =
    Sql::new(|_| "UPDATE likewise_jobs SET total = $2 WHERE id = $1".to_owned());

/// Returns the statements whose cost must not follow the size of the tables, each with a name.
pub(super) fn bounded(d: &Schema) -> Vec<(String, String)> {
    let filter = LedgerFilter::default();
    let kinds = [JobKind::Retry, JobKind::Discard];
    kinds
        .iter()
        .flat_map(|kind| {
            let (count, params) = matching(d, *kind, &filter);
            let counted = count.spelled(&params);
            let (insert, params) = snapshot(d, "a job", *kind, JobRows::Events(&filter));
            [
                (format!("dry run: {kind}"), counted),
                (format!("snapshot: {kind}"), insert.spelled(&params)),
            ]
        })
        .collect()
}
