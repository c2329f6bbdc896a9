//! Erasures: marks a user or a resource as erased, and shows the proof. `web/data/` and the command line call it; the job in
//! `erase.rs` deletes the data.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::job_spec::Spec;
use super::{AdminError, AdminService};
use crate::domain::{
    DataSubject, ErasedKind, JobKind, JobState, OperationTarget, OperatorAction, ResourceType,
};
use crate::store::{Erased, Erasure, NewJob};
use crate::telemetry::JobCreated;

/// An erasure: its progress, and the proof when it is completed. The erased id is not part of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErasureReport {
    /// Its id: a SHA-256 of deployment, kind and id of the erased.
    pub id: String,
    /// Whether a user or a resource is erased.
    pub kind: ErasedKind,
    /// The type of the resource; null for a user.
    #[schema(required = true)]
    pub resource_type: Option<ResourceType>,
    /// How far the job has come.
    pub state: JobState,
    /// The job that deletes the data.
    pub job_id: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for. From then on, no event of the erased is recorded.
    pub requested_at: DateTime<Utc>,
    /// When everything was deleted; null until then.
    #[schema(required = true)]
    pub finished_at: Option<DateTime<Utc>>,
    /// How much was deleted so far.
    pub deleted: Erased,
    /// Why the job waits or failed; null if it goes on.
    #[schema(required = true)]
    pub error_message: Option<String>,
}

impl AdminService {
    /// Marks a user or a resource as erased, and creates the job that deletes its data. Asked again, returns the same
    /// erasure.
    ///
    /// # Errors
    /// If the resource type is not served, or the database fails.
    pub async fn erase(
        &self,
        subject: &DataSubject,
        operator: &str,
    ) -> Result<ErasureReport, AdminError> {
        if let Some(resource_type) = subject.resource_type() {
            let served = self.store().resource_types().served(resource_type);
            served.map_err(|error| AdminError::Invalid(error.to_string()))?;
        }
        let job = NewJob {
            kind: JobKind::Erase,
            spec: json!(Spec::erase(subject)),
            requested_by: operator.to_owned(),
            slot: None,
            now: self.store().now(),
        };
        let erasure = self.store().mark_erased(subject, &job).await?;
        JobCreated {
            id: &erasure.job_id,
            kind: JobKind::Erase.as_str(),
            requested_by: operator,
            total: None,
        }
        .emit();
        let target = (OperationTarget::Job, erasure.job_id.as_str());
        self.note(operator, OperatorAction::Create, target).await;
        self.report(erasure).await
    }

    /// Returns an erasure.
    ///
    /// # Errors
    /// If it does not exist, or the database fails.
    pub async fn erasure(&self, id: &str) -> Result<ErasureReport, AdminError> {
        let absent = || AdminError::NotFound(format!("there is no erasure {id:.64}"));
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(absent());
        }
        let found = self.store().erasure(&id.to_ascii_lowercase()).await?;
        self.report(found.ok_or_else(absent)?).await
    }

    async fn report(&self, erasure: Erasure) -> Result<ErasureReport, AdminError> {
        let job = self.store().job(&erasure.job_id).await?;
        let state = match (&erasure.finished_at, &job) {
            (Some(_), _) => JobState::Completed,
            (None, Some(job)) => job.state,
            (None, None) => JobState::Failed,
        };
        Ok(ErasureReport {
            id: erasure.digest,
            kind: erasure.kind,
            resource_type: erasure.resource_type,
            state,
            job_id: erasure.job_id,
            requested_by: erasure.requested_by,
            requested_at: erasure.requested_at,
            finished_at: erasure.finished_at,
            deleted: serde_json::from_value(erasure.deleted).unwrap_or_default(),
            error_message: job.and_then(|job| job.error_message),
        })
    }
}
