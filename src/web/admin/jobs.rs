//! `/admin/jobs`: work on many rows, and `/admin/audit`: what the last audit found.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::operator::{Operator, OperatorHeader};
use crate::admin::{AdminService, Counted, JobAnswer, JobRequest};
use crate::domain::JobKind;
use crate::store::Job;
use crate::web::cursor;
use crate::web::extract::{Body, query};
use crate::web::problem::Problem;

/// Asks for work on many rows, or counts what it would take.
///
/// `retry` and `discard` take a filter with at least one condition. A worker runs the job; look at it
/// under its id.
#[utoipa::path(
    post,
    path = "/admin/jobs",
    tag = "admin",
    operation_id = "create_job",
    params(OperatorHeader),
    request_body = JobRequest,
    responses(
        (status = 200, description = "What a dry run counted; nothing was changed", body = Counted),
        (
            status = 201,
            description = "The job, queued",
            body = Job,
            headers(("Location" = String, description = "The path of the job"))
        ),
        (status = 400),
        (status = 409),
        (status = 422)
    )
)]
pub(super) async fn create(
    admin: Data<AdminService>,
    operator: Operator,
    Body(request): Body<JobRequest>,
) -> Result<HttpResponse, Problem> {
    Ok(match admin.request_job(request, &operator.0).await? {
        JobAnswer::Created(job) => HttpResponse::Created()
            .insert_header(("Location", format!("/admin/jobs/{}", job.id)))
            .json(job),
        JobAnswer::Counted(counted) => HttpResponse::Ok().json(counted),
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only jobs of this kind.
    kind: Option<JobKind>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 20)]
    limit: Option<usize>,
}

/// Jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
}

/// The last jobs, newest first.
#[utoipa::path(
    get,
    path = "/admin/jobs",
    tag = "admin",
    operation_id = "list_jobs",
    params(Which),
    responses((status = 200, body = Jobs), (status = 400))
)]
pub(super) async fn list(
    admin: Data<AdminService>,
    request: HttpRequest,
) -> Result<Json<Jobs>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 20, 500)?;
    let jobs = admin.jobs(which.kind, limit).await?;
    Ok(Json(Jobs { jobs }))
}

/// How far a job has come.
#[utoipa::path(
    get,
    path = "/admin/jobs/{id}",
    tag = "admin",
    operation_id = "show_job",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Job), (status = 404))
)]
pub(super) async fn show(
    admin: Data<AdminService>,
    id: Path<String>,
) -> Result<Json<Job>, Problem> {
    Ok(Json(admin.job(&id).await?))
}

/// Ends a job. What it has done stays done.
#[utoipa::path(
    post,
    path = "/admin/jobs/{id}/cancel",
    tag = "admin",
    operation_id = "cancel_job",
    params(("id" = String, Path, description = "The job's id"), OperatorHeader),
    responses((status = 200, body = Job), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn cancel(
    admin: Data<AdminService>,
    id: Path<String>,
    _: Operator,
) -> Result<Json<Job>, Problem> {
    Ok(Json(admin.cancel_job(&id).await?))
}

/// What audits have found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Audits {
    /// The last audit that has come to its end; its `result` says what it found.
    last: Option<Job>,
    /// The audit that is under way.
    current: Option<Job>,
}

/// What the last audit found, and how far the one under way has come.
#[utoipa::path(
    get,
    path = "/admin/audit",
    tag = "admin",
    operation_id = "show_audit",
    responses((status = 200, body = Audits))
)]
pub(super) async fn audit(admin: Data<AdminService>) -> Result<Json<Audits>, Problem> {
    const RECENT: usize = 20;
    let jobs = admin.jobs(Some(JobKind::Audit), RECENT).await?;
    let current = jobs.iter().find(|job| job.state.is_open()).cloned();
    let last = jobs.into_iter().find(|job| job.result.is_some());
    Ok(Json(Audits { last, current }))
}
