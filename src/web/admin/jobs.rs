//! `/admin/jobs`: creates, lists and cancels jobs. `/admin/audit`: the results of audits.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::{AdminService, Counted, JobAnswer, JobRequest};
use crate::domain::JobKind;
use crate::store::Job;
use crate::web::cursor;
use crate::web::extract::Body;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::parameters::{number, query};
use crate::web::problem::Problem;

/// Creates a job, or counts the rows that it would take.
///
/// `retry` and `discard` take a filter with at least one condition, `republish` and `discard_messages` one of messages in
/// quarantine, `retry_webhooks` and `discard_webhooks` one of dead letters. Such a job works on a snapshot of what matches
/// now. A worker runs the job; `GET` its path for its progress.
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
        (status = 422),
        (status = 503)
    )
)]
pub(super) async fn create(
    admin: Data<AdminService>,
    operator: Operator,
    Body(request): Body<JobRequest>,
) -> Result<HttpResponse, Problem> {
    Ok(answered(admin.request_job(request, &operator.0).await?))
}

/// Returns the response to a request for a job: 201 with the job and its path, or 200 with what a dry run counted.
pub(super) fn answered<C: Serialize>(answer: JobAnswer<C>) -> HttpResponse {
    match answer {
        JobAnswer::Created(job) => HttpResponse::Created()
            .insert_header(("Location", format!("/admin/jobs/{}", job.id)))
            .json(job),
        JobAnswer::Counted(counted) => HttpResponse::Ok().json(counted),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only jobs of this kind.
    kind: Option<JobKind>,
    /// The most jobs.
    #[param(minimum = 1, maximum = 500, default = 20)]
    #[serde(default, deserialize_with = "number")]
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

/// A job and its progress.
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

/// Cancels a job. Its changes so far stay.
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
    operator: Operator,
) -> Result<Json<Job>, Problem> {
    Ok(Json(admin.cancel_job(&id, &operator.0).await?))
}

/// The results of audits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Audits {
    /// The last completed audit; its findings are in `result`.
    last: Option<Job>,
    /// The running audit.
    current: Option<Job>,
}

/// The findings of the last audit, and the progress of the running one.
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
