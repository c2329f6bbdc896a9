//! Creates, lists and cancels jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ledger::checked_reason;
use super::{AdminError, AdminService, check};
use crate::domain::{
    DataSubject, ErasedKind, Id, JobKind, JobState, OperationTarget, OperatorAction, Resource,
    ResourceType, Status,
};
use crate::store::{Job, LedgerFilter, LikesOf, NewJob, StoreError};
use crate::telemetry::JobCreated;

/// The default and the largest number of rows that a job changes in a second.
const PER_SECOND: u32 = 1_000;
const MOST_PER_SECOND: u32 = 20_000;

const DAY: u64 = 86_400;

/// A request for a job.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// What the job does.
    pub kind: JobKind,
    /// The filter of the rows to retry or discard; at least one condition.
    #[serde(default)]
    pub filter: Option<LedgerFilter>,
    /// The reason for discarding rows.
    #[serde(default)]
    pub reason: Option<String>,
    /// The number of rows to retry or discard in a second; 1,000 if absent.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Only count the rows that would be retried or discarded.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether an audit repairs the differences.
    #[serde(default)]
    pub repair: bool,
    /// What to rebuild; everything if absent.
    #[serde(default)]
    pub what: Option<RebuildTarget>,
    /// The age in days at which completed ledger rows are pruned.
    #[serde(default)]
    pub ledger_days: Option<u32>,
    /// The age in days at which behaviors that no read model needs are pruned.
    #[serde(default)]
    pub behaviors_days: Option<u32>,
}

/// What a rebuild rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildTarget {
    /// Read models and counts.
    ReadModels,
    /// The cache.
    Cache,
    /// Both.
    All,
}

/// The parameters of a job: `jobs.spec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Spec {
    /// Of a retry or a discard.
    Rows {
        filter: LedgerFilter,
        per_second: u32,
        reason: Option<String>,
    },
    /// Of an audit.
    Audit { repair: bool },
    /// Of a rebuild.
    Rebuild { what: RebuildTarget },
    /// Of voiding or restoring likes of a user.
    Likes { likes_of: LikesOf, reason: String },
    /// Of an erasure. Pruning, whose fields may all be absent, follows it.
    Erase {
        erase: ErasedKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_type: Option<ResourceType>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_id: Option<Id>,
    },
    /// Of pruning, in seconds.
    Prune {
        ledger_after: Option<u64>,
        behaviors_after: Option<u64>,
    },
}

impl Spec {
    /// Returns the parameters of an erasure.
    pub(super) fn erase(subject: &DataSubject) -> Self {
        let (user_id, resource_id) = match subject {
            DataSubject::User(user_id) => (Some(user_id.clone()), None),
            DataSubject::Resource(resource) => (None, Some(resource.id.clone())),
        };
        Self::Erase {
            erase: subject.kind(),
            user_id,
            resource_type: subject.resource_type(),
            resource_id,
        }
    }

    /// Returns what an erasure erases; `None` for other jobs.
    pub(super) fn subject(&self) -> Option<DataSubject> {
        let Self::Erase {
            user_id,
            resource_type,
            resource_id,
            ..
        } = self
        else {
            return None;
        };
        let resource = resource_type.zip(resource_id.clone());
        let resource = resource.map(|(resource_type, id)| Resource { resource_type, id });
        let user = user_id.clone().map(DataSubject::User);
        user.or(resource.map(DataSubject::Resource))
    }
}

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
    /// The number of rows of each status.
    pub rows: BTreeMap<Status, i64>,
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
        let filter = match &spec {
            Spec::Rows { filter, .. } => Some(filter),
            _ => None,
        };
        if request.dry_run {
            let Some(filter) = filter else {
                return Err(AdminError::Invalid(format!(
                    "a job of kind {} has no dry run; an audit without 'repair' changes nothing",
                    request.kind
                )));
            };
            let rows = self.store().count_matching(request.kind, filter).await?;
            return Ok(JobAnswer::Counted(Counted {
                dry_run: true,
                total: rows.values().sum(),
                rows,
            }));
        }
        let job = self.create(request.kind, &spec, filter, operator).await?;
        Ok(JobAnswer::Created(job))
    }

    /// Creates a job; with a filter, on a snapshot of the ledger rows that match it.
    ///
    /// # Errors
    /// If the filter matches too many rows, or the database fails.
    pub(super) async fn create(
        &self,
        kind: JobKind,
        spec: &Spec,
        filter: Option<&LedgerFilter>,
        operator: &str,
    ) -> Result<Box<Job>, AdminError> {
        let job = NewJob {
            kind,
            spec: json!(spec),
            requested_by: operator.to_owned(),
            slot: None,
            now: self.store().now(),
        };
        let created = self.store().create_job(&job, filter).await;
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

    fn spec(&self, request: &JobRequest) -> Result<Spec, AdminError> {
        use JobKind::{Audit, Discard, Erase, Prune, Rebuild, Restore, Retry, Void};
        let invalid = |reason: &str| Err(AdminError::Invalid(reason.to_owned()));
        let fields: [(&str, bool, &[JobKind]); 7] = [
            ("filter", request.filter.is_some(), &[Retry, Discard]),
            (
                "per_second",
                request.per_second.is_some(),
                &[Retry, Discard],
            ),
            ("reason", request.reason.is_some(), &[Discard]),
            ("repair", request.repair, &[Audit]),
            ("what", request.what.is_some(), &[Rebuild]),
            ("ledger_days", request.ledger_days.is_some(), &[Prune]),
            ("behaviors_days", request.behaviors_days.is_some(), &[Prune]),
        ];
        let stray =
            |(_, given, kinds): &&(_, bool, &[JobKind])| *given && !kinds.contains(&request.kind);
        if let Some((field, ..)) = fields.iter().find(stray) {
            return invalid(&format!("a job of kind {} has no '{field}'", request.kind));
        }
        match request.kind {
            Retry | Discard => {
                let filter = self.of_kinds(request.filter.clone().unwrap_or_default())?;
                check(&filter)?;
                if filter == LedgerFilter::default() {
                    return invalid(
                        "'filter' must name at least one of status, resource_type, resource_id, \
                         user_id, since, until and error",
                    );
                }
                let per_second = request.per_second.unwrap_or(PER_SECOND);
                if !(1..=MOST_PER_SECOND).contains(&per_second) {
                    return invalid(&format!("'per_second' must be from 1 to {MOST_PER_SECOND}"));
                }
                let reason = match (request.kind, request.dry_run) {
                    (Discard, false) => Some(checked_reason(request.reason.as_deref())?),
                    _ => None,
                };
                Ok(Spec::Rows {
                    filter,
                    per_second,
                    reason,
                })
            }
            Audit => Ok(Spec::Audit {
                repair: request.repair,
            }),
            Rebuild => Ok(Spec::Rebuild {
                what: request.what.unwrap_or(RebuildTarget::All),
            }),
            Prune => self.prune_spec(request),
            Void | Restore => invalid(&format!(
                "likes are voided and restored by POST /admin/users/{{id}}/likes/{}",
                request.kind
            )),
            Erase => invalid(
                "an erasure is asked for with DELETE /v1/users/{id} or DELETE /v1/{type}s/{id}",
            ),
        }
    }

    /// Returns the filter with ids of the database's kinds: JSON may have numbers as text.
    fn of_kinds(&self, mut filter: LedgerFilter) -> Result<LedgerFilter, AdminError> {
        let kinds = self.store().id_kinds();
        for (name, kind, id) in [
            ("resource_id", kinds.resources, &mut filter.resource_id),
            ("user_id", kinds.users, &mut filter.user_id),
        ] {
            let checked = id.take().map(|id| kind.check(id)).transpose();
            *id = checked
                .map_err(|error| AdminError::Invalid(format!("'{name}' of 'filter' {error}")))?;
        }
        Ok(filter)
    }

    fn prune_spec(&self, request: &JobRequest) -> Result<Spec, AdminError> {
        let seconds = |days: Option<u32>| days.map(|days| u64::from(days) * DAY);
        let ledger_after = seconds(request.ledger_days);
        let behaviors_after = seconds(request.behaviors_days);
        if [ledger_after, behaviors_after].contains(&Some(0)) {
            return Err(AdminError::Invalid(
                "'ledger_days' and 'behaviors_days' must be 1 or more".to_owned(),
            ));
        }
        if ledger_after.is_none() && behaviors_after.is_none() {
            return Err(AdminError::Invalid(
                "set 'ledger_days', 'behaviors_days' or both".to_owned(),
            ));
        }
        self.check_behaviors_age(behaviors_after.map(Duration::from_secs))?;
        Ok(Spec::Prune {
            ledger_after,
            behaviors_after,
        })
    }

    /// Checks the age at which behaviors are pruned: a redelivered event must find its behavior.
    ///
    /// # Errors
    /// If the stream keeps messages for longer.
    pub fn check_behaviors_age(&self, age: Option<Duration>) -> Result<(), AdminError> {
        if let (Some(age), Some(kept)) = (age, self.stream_max_age)
            && age < kept
        {
            return Err(AdminError::Invalid(format!(
                "behaviors must be kept for at least {} days: until then the stream may redeliver an \
                 event again (LIKEWISE_NATS_MAX_AGE_SECONDS)",
                kept.as_secs().div_ceil(DAY)
            )));
        }
        Ok(())
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
