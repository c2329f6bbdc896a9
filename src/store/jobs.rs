//! Jobs: operators (`admin/jobs.rs`) create them, with a snapshot of rows, list, cancel and prune them. Workers' side
//! is in `job_claims.rs`, and the snapshots in `job_snapshots.rs`.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::dialect::Column::{Text as AnyText, Word};
use super::error::StoreError;
use super::job_snapshots::{JobRows, take_snapshot};
use super::ledger_filter::Conditions;
use super::pool::SNAPSHOT_TIMEOUT;
use super::session::{IdRow, Session, Sql};
use super::statement::{Param, Statement};
use super::text::{id_text, word};
use super::transact::{in_transaction, on};
use super::{Store, read, transact};
use crate::domain::{JobKind, JobState};

/// A job to be created.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its kind.
    pub kind: JobKind,
    /// Its parameters.
    pub spec: Value,
    /// Who requests it.
    pub requested_by: String,
    /// Its slot: at most one job has the same.
    pub slot: Option<String>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// How far it has come.
    pub state: JobState,
    /// How it does it.
    pub spec: Value,
    /// Who asked for it.
    pub requested_by: String,
    /// How many rows there are to do, if that is known.
    pub total: Option<i64>,
    /// How many are done.
    pub done: i64,
    /// How many of those were changed.
    pub changed: i64,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it could not be done.
    pub error_message: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The claim of a worker; a worker with an older token changes nothing.
    #[serde(skip)]
    pub fencing_token: i64,
    /// The position from which the next worker resumes.
    #[serde(skip)]
    pub position: Option<String>,
}

impl Store {
    /// Creates a job; with a filter, on a snapshot of the rows that match it now. Returns `None` if a job has the
    /// same slot.
    ///
    /// # Errors
    /// If the filter matches more than [`JOB_LIMIT`](super::JOB_LIMIT) rows, or the database cannot be reached.
    pub async fn create_job(
        &self,
        job: &NewJob,
        rows: Option<JobRows<'_>>,
    ) -> Result<Option<Job>, StoreError> {
        // Not repeated: a snapshot may take as long as its time-out.
        on!(self, writers, SNAPSHOT_TIMEOUT, |session| {
            in_transaction(session, async |session| create(session, job, rows).await)
        })
    }

    /// Returns a job.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job(&self, id: &str) -> Result<Option<Job>, StoreError> {
        let key = [Param::Text(id.to_owned())];
        read!(self, self.timeout, |session| first(
            session,
            JOB.on(session.schema()),
            &key
        ))
    }

    /// Returns the last jobs, newest first; of one kind, if it is given.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn jobs(&self, kind: Option<JobKind>, limit: usize) -> Result<Vec<Job>, StoreError> {
        read!(self, self.timeout, |session| list(session, kind, limit))
    }

    /// Cancels a job if it has not ended: it changes nothing from then on. Returns the job.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn cancel_job(
        &self,
        id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Job>, StoreError> {
        transact!(self, |session| cancel(session, id, now))
    }

    /// Deletes up to `limit` jobs that ended before this time. Returns their number.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn prune_jobs(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        transact!(self, |session| prune(session, before, limit))
    }
}

/// A row of `jobs`.
#[derive(Debug, QueryableByName)]
pub(super) struct JobRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    spec: String,
    #[diesel(sql_type = Text)]
    requested_by: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    total: Option<i64>,
    #[diesel(sql_type = BigInt)]
    done: i64,
    #[diesel(sql_type = BigInt)]
    changed: i64,
    #[diesel(sql_type = Nullable<Text>)]
    position: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    result: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = BigInt)]
    fencing_token: i64,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
    #[diesel(sql_type = Timestamp)]
    updated_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<NaiveDateTime>,
}

impl JobRow {
    pub(super) fn job(self) -> Result<Job, StoreError> {
        const TABLE: &str = "likewise_jobs";
        let json = |text: &str| -> Result<Value, StoreError> {
            serde_json::from_str(text).map_err(|error| StoreError::Unreadable {
                table: TABLE,
                reason: error.to_string(),
            })
        };
        Ok(Job {
            kind: word(&self.kind, TABLE)?,
            state: word(&self.state, TABLE)?,
            spec: json(&self.spec)?,
            result: self.result.as_deref().map(json).transpose()?,
            id: self.id,
            requested_by: self.requested_by,
            total: self.total,
            done: self.done,
            changed: self.changed,
            error_message: self.error_message,
            fencing_token: self.fencing_token,
            position: self.position,
            created_at: self.created_at.and_utc(),
            updated_at: self.updated_at.and_utc(),
            finished_at: self.finished_at.map(|time| time.and_utc()),
        })
    }
}

pub(super) async fn first<S: Session>(
    session: &mut S,
    statement: &Statement,
    params: &[Param],
) -> Result<Option<Job>, StoreError> {
    let rows: Vec<JobRow> = session.load(statement, params).await?;
    rows.into_iter().next().map(JobRow::job).transpose()
}

/// The columns of [`JobRow`], from a row `j`.
pub(super) const JOB_COLUMNS: &str = "j.id, j.kind, j.state, j.spec, j.requested_by, j.total, j.done, \
    j.changed, j.position, j.result, j.error_message, j.fencing_token, j.created_at, \
    j.updated_at, j.finished_at";

/// Parameters: the job's id.
pub(super) static JOB: Sql =
    Sql::new(|_| format!("SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE j.id = $1"));

/// As [`JOB`], and locks it until the transaction ends.
pub(super) static LOCK: Sql = Sql::new(|d| {
    let lock = d.for_update("j");
    format!("SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE j.id = $1{lock}")
});

async fn list<S: Session>(
    session: &mut S,
    kind: Option<JobKind>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut conditions = Conditions::default();
    if let Some(kind) = kind {
        let kind = conditions.text(kind.as_str().to_owned());
        conditions.and(format!("j.kind = {kind}"));
    }
    let limit = conditions.param(Param::limit(limit));
    let statement = session.schema().statement(format!(
        "SELECT {JOB_COLUMNS} FROM likewise_jobs j WHERE {} \
         ORDER BY j.created_at DESC, j.id DESC LIMIT {limit}",
        conditions.sql()
    ));
    let rows: Vec<JobRow> = session.load(&statement, &conditions.params).await?;
    rows.into_iter().map(JobRow::job).collect()
}

pub(super) async fn create<S: Session>(
    session: &mut S,
    job: &NewJob,
    rows: Option<JobRows<'_>>,
) -> Result<Option<Job>, StoreError> {
    let d = session.schema();
    let id = id_text(Uuid::now_v7());
    let row = (
        &id,
        job.kind.as_str(),
        job.spec.to_string(),
        &job.requested_by,
        &job.slot,
    );
    let params = [Param::rows(&[row]), Param::time(job.now)];
    session.execute(INSERT.on(d), &params).await?;
    let key = [Param::Text(id.clone())];
    let created = first(session, JOB.on(d), &key).await?;
    let (Some(mut created), Some(rows)) = (created.clone(), rows) else {
        return Ok(created);
    };
    let total = take_snapshot(session, &id, job.kind, rows).await?;
    created.total = Some(total);
    Ok(Some(created))
}

/// Parameters: rows `(id, kind, spec, requested_by, slot)`, now.
static INSERT: Sql = Sql::new(|d| {
    let rows = d.rows(
        "$1",
        &[
            Word("id"),
            Word("job_kind"),
            AnyText("spec"),
            AnyText("requested_by"),
            Word("slot"),
        ],
    );
    let (now, keep) = (d.time("$2"), d.on_conflict("likewise_jobs", &["slot"], &[]));
    format!(
        "INSERT INTO likewise_jobs (id, kind, state, spec, requested_by, slot, done, changed, \
         fencing_token, created_at, updated_at) SELECT r.id, r.job_kind, 'queued', r.spec, \
         r.requested_by, r.slot, 0, 0, 0, {now}, {now} FROM {rows} WHERE true {keep}"
    )
});

async fn cancel<S: Session>(
    session: &mut S,
    id: &str,
    now: DateTime<Utc>,
) -> Result<Option<Job>, StoreError> {
    let d = session.schema();
    let params = [Param::Text(id.to_owned()), Param::time(now)];
    let mut job = first(session, LOCK.on(d), &params).await?;
    if let Some(job) = job.as_mut().filter(|job| job.state.is_open()) {
        session.execute(CANCEL.on(d), &params).await?;
        job.state = JobState::Cancelled;
        job.finished_at = Some(now);
    }
    Ok(job)
}

/// Parameters: the job's id, now.
pub(super) static CANCEL: Sql = Sql::new(|d| {
    let now = d.time("$2");
    format!(
        "UPDATE likewise_jobs SET state = 'cancelled', updated_at = {now}, finished_at = {now}, \
         lease_until = NULL, position = NULL WHERE id = $1"
    )
});

async fn prune<S: Session>(
    session: &mut S,
    before: DateTime<Utc>,
    limit: usize,
) -> Result<usize, StoreError> {
    let d = session.schema();
    let params = [Param::time(before), Param::limit(limit)];
    let jobs: Vec<IdRow> = session.load(PRUNABLE.on(d), &params).await?;
    let ids: Vec<_> = jobs.iter().map(|row| (&row.id,)).collect();
    if !ids.is_empty() {
        let ids = [Param::rows(&ids)];
        session.execute(DELETE_EVENTS.on(d), &ids).await?;
        session.execute(DELETE.on(d), &ids).await?;
    }
    Ok(ids.len())
}

/// Locks jobs that ended. Parameters: the time before which they ended, the most jobs.
static PRUNABLE: Sql = Sql::new(|d| {
    let (before, lock) = (d.time("$1"), d.skip_locked("j"));
    format!(
        "SELECT j.id FROM likewise_jobs j WHERE j.finished_at < {before} \
         ORDER BY j.finished_at LIMIT $2{lock}"
    )
});

/// Parameters: rows `(job_id)`.
static DELETE_EVENTS: Sql = Sql::new(|d| {
    let ids = d.rows("$1", &[Word("job_id")]);
    d.delete("likewise_job_events", &ids, &[("job_id", "r.job_id")])
});

/// Parameters: rows `(job_id)`.
static DELETE: Sql = Sql::new(|d| {
    let ids = d.rows("$1", &[Word("job_id")]);
    d.delete("likewise_jobs", &ids, &[("id", "r.job_id")])
});
