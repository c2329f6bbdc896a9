//! `/admin/jobs`: work on many rows, and `/admin/audit`: what the last audit found.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::Operator;
use crate::domain::JobKind;
use crate::operations::{Desk, JobAnswer, JobRequest};
use crate::store::Job;
use crate::web::Problem;
use crate::web::cursor;
use crate::web::extract::{Body, query};

/// `POST /admin/jobs`: 201 with the job, or 200 with what a dry run counted.
pub(super) async fn create(
    desk: Data<Desk>,
    operator: Operator,
    Body(request): Body<JobRequest>,
) -> Result<HttpResponse, Problem> {
    Ok(match desk.request_job(request, &operator.0).await? {
        JobAnswer::Created(job) => HttpResponse::Created()
            .insert_header(("Location", format!("/admin/jobs/{}", job.id)))
            .json(job),
        counted @ JobAnswer::Counted { .. } => HttpResponse::Ok().json(counted),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    kind: Option<JobKind>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
}

/// `GET /admin/jobs`: the last jobs, newest first.
pub(super) async fn list(desk: Data<Desk>, request: HttpRequest) -> Result<Json<Jobs>, Problem> {
    let which: Which = query(&request)?;
    let limit = cursor::limit(which.limit, 20, 500)?;
    let jobs = desk.jobs(which.kind, limit).await?;
    Ok(Json(Jobs { jobs }))
}

/// `GET /admin/jobs/{id}`
pub(super) async fn show(desk: Data<Desk>, id: Path<String>) -> Result<Json<Job>, Problem> {
    Ok(Json(desk.job(&id).await?))
}

/// `POST /admin/jobs/{id}/cancel`
pub(super) async fn cancel(
    desk: Data<Desk>,
    id: Path<String>,
    _: Operator,
) -> Result<Json<Job>, Problem> {
    Ok(Json(desk.cancel_job(&id).await?))
}

#[derive(Debug, Serialize)]
pub(super) struct Audits {
    /// The last audit that has come to its end; its `result` says what it found.
    last: Option<Job>,
    /// The audit that is under way.
    current: Option<Job>,
}

/// `GET /admin/audit`
pub(super) async fn audit(desk: Data<Desk>) -> Result<Json<Audits>, Problem> {
    const RECENT: usize = 20;
    let jobs = desk.jobs(Some(JobKind::Audit), RECENT).await?;
    let current = jobs.iter().find(|job| job.state.is_open()).cloned();
    let last = jobs.into_iter().find(|job| job.result.is_some());
    Ok(Json(Audits { last, current }))
}
