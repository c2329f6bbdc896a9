//! Work on jobs: a worker claims a job under a lease, takes steps through its snapshot, and reports. The runner
//! (`admin/runner.rs`) calls it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::dialect::Column::Word;
use super::error::StoreError;
use super::interventions::{Intervention, intervene};
use super::jobs::{JOB_COLUMNS, Job, LOCK, first};
use super::outbox::{DeadLetterAction, change_dead_letters};
use super::quarantine::resolve_all;
use super::schema::Schema;
use super::session::{IdRow, Session, Sql};
use super::statement::Param;
use super::text::id_text;
use super::{Store, read, transact};
use crate::domain::{JobKind, JobState, LedgerRow, Resolution};

/// A worker's report on the job that it holds.
#[derive(Debug, Clone, Default)]
pub struct JobReport {
    /// The number of rows to do.
    pub total: Option<i64>,
    /// The number of rows done.
    pub done: i64,
    /// The number of those that were changed.
    pub changed: i64,
    /// The new state; `running` if absent.
    pub state: Option<JobState>,
    /// The result.
    pub result: Option<Value>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The new end of the lease.
    pub lease_until: Option<DateTime<Utc>>,
    /// The new position; unchanged if absent.
    pub position: Option<String>,
}

/// The outcome of one step of a job on a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobStep {
    /// The number of rows of the snapshot that it passed.
    pub passed: usize,
    /// The number of rows that it changed.
    pub changed: usize,
    /// The ledger rows that it changed, as they were before.
    pub events: Vec<LedgerRow>,
    /// Whether the job is completed.
    pub finished: bool,
}

/// What a step of a job does to the rows of its snapshot.
#[derive(Debug, Clone, Copy)]
pub enum RowChange<'a> {
    /// Intervenes in events.
    Events(&'a Intervention),
    /// Discards messages in quarantine.
    DiscardMessages,
    /// Marks these messages in quarantine as republished.
    Republished(&'a BTreeSet<String>),
    /// Retries or deletes dead letters.
    DeadLetters(DeadLetterAction),
}

impl Store {
    /// Claims the given job, or the oldest unclaimed one, until the lease ends. Upkeep comes after all other jobs.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn claim_job(
        &self,
        id: Option<&str>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Job>, StoreError> {
        transact!(self, |session| claim(session, id, now, until))
    }

    /// Returns whether a job other than upkeep has waited for a worker since this time.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn has_waiting_job(&self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let params = [Param::time(since)];
        let waiting = read!(self, self.timeout, |session| session
            .total(WAITING.on(session.schema()), &params))?;
        Ok(waiting > 0)
    }

    /// Changes the next `limit` rows of a job's snapshot, and extends the lease from now on. Returns `None` if this
    /// worker no longer holds the job.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn step_job(
        &self,
        job: &Job,
        change: RowChange<'_>,
        limit: usize,
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Option<JobStep>, StoreError> {
        transact!(self, |session| step(
            session,
            job,
            change,
            limit,
            (now, until)
        ))
    }

    /// Returns the ids of the next `limit` rows of a job's snapshot, or `None` if this worker no longer holds the job.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn next_of_job(
        &self,
        job: &Job,
        limit: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        transact!(self, |session| async {
            let now = held(session, job).await?;
            match now {
                Some(now) => next(session, &now, limit).await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// Stores a report on a job. Returns whether this worker still holds the job.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn report_job(
        &self,
        job: &Job,
        report: &JobReport,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        transact!(self, |session| self::report(session, job, report, now))
    }
}

async fn claim<S: Session>(
    session: &mut S,
    id: Option<&str>,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<Job>, StoreError> {
    let d = session.schema();
    let free = match id {
        None => first(session, OLDEST_FREE.on(d), &[Param::time(now)]).await?,
        Some(id) => {
            let params = [Param::time(now), Param::Text(id.to_owned())];
            first(session, FREE.on(d), &params).await?
        }
    };
    let Some(mut job) = free else {
        return Ok(None);
    };
    let params = [
        Param::Text(job.id.clone()),
        Param::time(now),
        Param::time(until),
    ];
    session.execute(CLAIM.on(d), &params).await?;
    job.state = JobState::Running;
    job.fencing_token += 1;
    Ok(Some(job))
}

/// The jobs `j` that no worker holds. Parameters: now.
fn free_jobs(d: &Schema, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM likewise_jobs j WHERE j.finished_at IS NULL \
         AND (j.lease_until IS NULL OR j.lease_until <= {})",
        d.time("$1")
    )
}

/// Returns the condition that a job `j` is upkeep.
fn is_upkeep() -> String {
    let kinds = JobKind::UPKEEP.map(|kind| format!("'{kind}'"));
    format!("j.kind IN ({})", kinds.join(", "))
}

/// Parameters: now.
static OLDEST_FREE: Sql = Sql::new(|d| {
    let (jobs, lock) = (free_jobs(d, JOB_COLUMNS), d.skip_locked("j"));
    let upkeep = is_upkeep();
    format!("{jobs} ORDER BY CASE WHEN {upkeep} THEN 1 ELSE 0 END, j.created_at LIMIT 1{lock}")
});

/// A job that was postponed does not count: it would interrupt upkeep before each step of it. Parameters: the time before
/// which a job was created.
static WAITING: Sql = Sql::new(|d| {
    format!(
        "SELECT 'jobs' AS label, COUNT(*) AS total FROM likewise_jobs j WHERE j.finished_at IS NULL \
         AND j.lease_until IS NULL AND NOT {} AND j.created_at <= {}",
        is_upkeep(),
        d.time("$1")
    )
});

/// Parameters: now, the job's id.
static FREE: Sql = Sql::new(|d| {
    let (jobs, lock) = (free_jobs(d, JOB_COLUMNS), d.for_update("j"));
    format!("{jobs} AND j.id = $2{lock}")
});

/// Parameters: the job's id, now, the end of the lease.
static CLAIM: Sql = Sql::new(|d| {
    let (now, until) = (d.time("$2"), d.time("$3"));
    format!(
        "UPDATE likewise_jobs SET state = 'running', fencing_token = fencing_token + 1, \
         updated_at = {now}, lease_until = {until} WHERE id = $1"
    )
});

/// Locks a job. Returns its current row, if this worker still holds it.
pub(super) async fn held<S: Session>(
    session: &mut S,
    job: &Job,
) -> Result<Option<Job>, StoreError> {
    let key = [Param::Text(job.id.clone())];
    let now = first(session, LOCK.on(session.schema()), &key).await?;
    Ok(now.filter(|now| now.state == JobState::Running && now.fencing_token == job.fencing_token))
}

/// Returns the ids of the next rows of the snapshot of a job.
async fn next<S: Session>(
    session: &mut S,
    job: &Job,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let position = job.position.clone().unwrap_or_default();
    let params = [
        Param::Text(job.id.clone()),
        Param::Text(position),
        Param::limit(limit),
    ];
    let next: Vec<IdRow> = session
        .load(NEXT_ROWS.on(session.schema()), &params)
        .await?;
    Ok(next.into_iter().map(|row| row.id).collect())
}

async fn step<S: Session>(
    session: &mut S,
    job: &Job,
    change: RowChange<'_>,
    limit: usize,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<JobStep>, StoreError> {
    let d = session.schema();
    let Some(current) = held(session, job).await? else {
        return Ok(None);
    };
    let id = || Param::Text(job.id.clone());
    let ids = next(session, &current, limit).await?;
    let mut events = Vec::new();
    let resolved = |resolution: Resolution| (resolution, job.requested_by.as_str());
    let touched: BTreeSet<String> = match change {
        RowChange::Events(intervention) => {
            events = intervene(session, &ids, intervention).await?;
            events.iter().map(|row| id_text(row.event_id)).collect()
        }
        RowChange::DiscardMessages => {
            resolve_all(session, &ids, resolved(Resolution::Discarded), now).await?
        }
        RowChange::Republished(published) => {
            let ids: Vec<_> = ids
                .iter()
                .filter(|id| published.contains(*id))
                .cloned()
                .collect();
            resolve_all(session, &ids, resolved(Resolution::Republished), now).await?
        }
        RowChange::DeadLetters(action) => {
            let ids: Vec<i64> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let changed = change_dead_letters(session, action, &ids).await?;
            changed.iter().map(ToString::to_string).collect()
        }
    };
    let outcome = |id| match touched.contains(id) {
        true => "changed",
        false => "skipped",
    };
    let outcomes: Vec<_> = ids.iter().map(|id| (&job.id, id, outcome(id))).collect();
    if !outcomes.is_empty() {
        let params = [Param::rows(&outcomes)];
        session.execute(SET_OUTCOMES.on(d), &params).await?;
    }
    let finished = ids.len() < limit;
    let state = match finished {
        true => JobState::Completed,
        false => JobState::Running,
    };
    let params = [
        id(),
        Param::time(now),
        Param::limit(ids.len()),
        Param::limit(touched.len()),
        Param::Text(ids.last().cloned().or(current.position).unwrap_or_default()),
        Param::Text(state.as_str().to_owned()),
        Param::time(until),
    ];
    session.execute(ADVANCE.on(d), &params).await?;
    Ok(Some(JobStep {
        passed: ids.len(),
        changed: touched.len(),
        events,
        finished,
    }))
}

/// Parameters: the job's id, the last row of the previous step, the most rows.
static NEXT_ROWS: Sql = Sql::new(|_| {
    "SELECT event_id AS id FROM likewise_job_events WHERE job_id = $1 \
     AND event_id > $2 ORDER BY event_id LIMIT $3"
        .to_owned()
});

/// Parameters: rows `(job_id, event_id, outcome)`, where the id is that of an event, a message or a dead letter.
static SET_OUTCOMES: Sql = Sql::new(|d| {
    d.update(
        "likewise_job_events",
        &d.rows("$1", &[Word("job_id"), Word("event_id"), Word("outcome")]),
        "e.job_id = r.job_id AND e.event_id = r.event_id",
        &[("outcome", "r.outcome")],
    )
});

/// Parameters: the job's id, now, rows done and changed, the position, the state, the end of the lease.
static ADVANCE: Sql = Sql::new(|d| {
    let (now, until) = (d.time("$2"), d.time("$7"));
    format!(
        "UPDATE likewise_jobs SET updated_at = {now}, done = done + $3, changed = changed + $4, \
         position = CASE WHEN $6 = 'running' THEN $5 END, state = $6, lease_until = {until}, \
         finished_at = CASE WHEN $6 = 'running' THEN NULL ELSE {now} END WHERE id = $1"
    )
});

async fn report<S: Session>(
    session: &mut S,
    job: &Job,
    report: &JobReport,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    if held(session, job).await?.is_none() {
        return Ok(false);
    }
    let text = |text: Option<String>| Param::Text(text.unwrap_or_default());
    let state = report.state.unwrap_or(JobState::Running);
    let params = [
        Param::Text(job.id.clone()),
        Param::time(now),
        Param::Number(report.total.unwrap_or(-1)),
        Param::Number(report.done),
        Param::Number(report.changed),
        Param::Text(state.as_str().to_owned()),
        text(report.result.as_ref().map(ToString::to_string)),
        text(report.error_message.clone()),
        Param::time(report.lease_until.unwrap_or(now)),
        text(report.position.clone()),
    ];
    session
        .execute(REPORT.on(session.schema()), &params)
        .await?;
    Ok(true)
}

/// Parameters: the job's id, now, total, done, changed, state, result, error, the end of the lease, the position.
/// An empty text or a total of -1 stands for an absent value.
static REPORT: Sql = Sql::new(|d| {
    let (now, until) = (d.time("$2"), d.time("$9"));
    format!(
        "UPDATE likewise_jobs SET updated_at = {now}, total = NULLIF($3, -1), done = $4, changed = $5, \
         state = $6, result = NULLIF($7, ''), error_message = NULLIF($8, ''), \
         lease_until = {until}, position = CASE WHEN $6 IN ('queued', 'running') \
         THEN COALESCE(NULLIF($10, ''), position) END, \
         finished_at = CASE WHEN $6 IN ('queued', 'running') THEN NULL ELSE {now} END \
         WHERE id = $1"
    )
});
