//! Creates, lists and cancels jobs. `job_spec.rs` has what a request may ask for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::job_spec::{JobRequest, Spec};
use super::{AdminError, AdminService};
use crate::domain::{JobKind, JobState, OperationTarget, OperatorAction};
use crate::store::{Job, JobRows, NewJob, StoreError};
use crate::telemetry::JobCreated;

/// The answer to a request for a job.
#[derive(Debug, Clone)]
pub enum JobAnswer<C = Counted> {
    /// What a dry run counted.
    Counted(C),
    /// The job.
    Created(Box<Job>),
}

/// The rows that a dry run counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Counted {
    /// Always true.
    pub dry_run: bool,
    /// The number of rows that the job would change.
    pub total: i64,
    /// The number of events of each status, of dead letters of each receiver, or of `unresolved` messages.
    pub rows: BTreeMap<String, i64>,
}

impl AdminService {
    /// Creates a job, or counts the rows that it would take.
    ///
    /// # Errors
    /// If the request is invalid, its filter matches too many rows, or the database fails.
    pub async fn request_job(
        &self,
        request: JobRequest,
        operator: &str,
    ) -> Result<JobAnswer, AdminError> {
        let spec = self.spec(&request)?;
        let rows = spec.rows();
        if request.dry_run {
            let Some(rows) = rows else {
                return Err(AdminError::Invalid(format!(
                    "a job of kind {} has no dry run; an audit without 'repair' changes nothing",
                    request.kind
                )));
            };
            return Ok(JobAnswer::Counted(self.counted(request.kind, rows).await?));
        }
        let job = self.create(request.kind, &spec, rows, operator).await?;
        Ok(JobAnswer::Created(job))
    }

    /// Counts the rows that a job would take.
    async fn counted(&self, kind: JobKind, rows: JobRows<'_>) -> Result<Counted, AdminError> {
        let store = self.store();
        let rows = match rows {
            JobRows::Events(filter) => {
                let rows = store.count_matching(kind, filter).await?;
                rows.into_iter()
                    .map(|(status, rows)| (status.to_string(), rows))
                    .collect()
            }
            JobRows::Messages(filter) => {
                let messages = store.count_quarantined(filter).await?;
                BTreeMap::from([("unresolved".to_owned(), messages)])
            }
            JobRows::DeadLetters(filter) => store.count_dead_letters(filter).await?,
        };
        Ok(Counted {
            dry_run: true,
            total: rows.values().sum(),
            rows,
        })
    }

    /// Creates a job; with a filter, on a snapshot of the rows that match it.
    ///
    /// # Errors
    /// If the filter matches too many rows, or the database fails.
    pub(super) async fn create(
        &self,
        kind: JobKind,
        spec: &Spec,
        rows: Option<JobRows<'_>>,
        operator: &str,
    ) -> Result<Box<Job>, AdminError> {
        let job = NewJob {
            kind,
            spec: json!(spec),
            requested_by: operator.to_owned(),
            slot: None,
            now: self.store().now(),
        };
        let created = self.store().create_job(&job, rows).await;
        let job = created.map_err(|error| match error {
            StoreError::Refused(reason) => AdminError::Invalid(reason),
            error => error.into(),
        })?;
        let Some(job) = job else {
            return Err(AdminError::Conflict("the job exists already".to_owned()));
        };
        JobCreated {
            id: &job.id,
            kind: job.kind.as_str(),
            requested_by: operator,
            total: job.total,
        }
        .emit();
        let target = (OperationTarget::Job, job.id.as_str());
        self.note(operator, OperatorAction::Create, target).await;
        Ok(Box::new(job))
    }

    /// Creates the job of a slot, unless it exists.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn schedule(
        &self,
        kind: JobKind,
        spec: Value,
        slot: String,
    ) -> Result<(), AdminError> {
        let job = NewJob {
            kind,
            spec,
            requested_by: "the schedule".to_owned(),
            slot: Some(slot),
            now: self.store().now(),
        };
        self.store().create_job(&job, None).await?;
        Ok(())
    }

    /// Returns a job.
    ///
    /// # Errors
    /// If it does not exist, or the database fails.
    pub async fn job(&self, id: &str) -> Result<Job, AdminError> {
        let job = self.store().job(&job_id(id)?).await?;
        job.ok_or_else(|| no_such_job(id))
    }

    /// Returns the last jobs, newest first; of one kind, if it is given.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn jobs(&self, kind: Option<JobKind>, limit: usize) -> Result<Vec<Job>, AdminError> {
        Ok(self.store().jobs(kind, limit).await?)
    }

    /// Cancels a job: it changes nothing from then on.
    ///
    /// # Errors
    /// If it does not exist or has ended, or the database fails.
    pub async fn cancel_job(&self, id: &str, operator: &str) -> Result<Job, AdminError> {
        if self.job(id).await?.kind == JobKind::Erase {
            return Err(AdminError::Conflict(format!(
                "job {id} is an erasure, which cannot be cancelled: a part of the data is gone already"
            )));
        }
        let now = self.store().now();
        let job = self.store().cancel_job(&job_id(id)?, now).await?;
        let job = job.ok_or_else(|| no_such_job(id))?;
        if job.state != JobState::Cancelled {
            return Err(AdminError::Conflict(format!(
                "job {id} is {} and cannot be cancelled any more",
                job.state.as_str()
            )));
        }
        let target = (OperationTarget::Job, job.id.as_str());
        self.note(operator, OperatorAction::Cancel, target).await;
        Ok(job)
    }
}

/// Returns an id as the database stores it. Not every database compares ids with any text.
fn job_id(id: &str) -> Result<String, AdminError> {
    let id = Uuid::parse_str(id).map_err(|_| no_such_job(id))?;
    Ok(id.hyphenated().to_string())
}

fn no_such_job(id: &str) -> AdminError {
    AdminError::NotFound(format!("there is no job {id:.40}"))
}
