//! `/admin/users/{id}/likes`: voids and restores likes of a user.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};

use super::jobs::answered;
use crate::admin::{AdminService, CountedLikes, ModerationRequest};
use crate::domain::Moderation;
use crate::store::Job;
use crate::web::extract::Body;
use crate::web::ids::Ids;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::problem::{Code, Problem};

/// Voids likes of a user, or counts those that it would void.
///
/// Voided likes do not count, and their user is not listed among the likers. The user still sees them. A voided pair
/// stays voided when its user unlikes and likes again, until it is restored. A worker runs the job; `GET` its path for
/// its progress.
#[utoipa::path(
    post,
    path = "/admin/users/{id}/likes/void",
    tag = "admin",
    operation_id = "void_likes_of_user",
    params(("id" = String, Path, description = "The user's id"), OperatorHeader),
    request_body = ModerationRequest,
    responses(
        (status = 200, description = "What a dry run counted; nothing was changed", body = CountedLikes),
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
pub(super) async fn void(
    admin: Data<AdminService>,
    ids: Ids,
    id: Path<String>,
    operator: Operator,
    Body(request): Body<ModerationRequest>,
) -> Result<HttpResponse, Problem> {
    moderate(&admin, &ids, Moderation::Void, &id, request, &operator).await
}

/// Restores voided likes of a user, or counts those that it would restore.
///
/// Restored likes count again, as they are now. A worker runs the job; `GET` its path for its progress.
#[utoipa::path(
    post,
    path = "/admin/users/{id}/likes/restore",
    tag = "admin",
    operation_id = "restore_likes_of_user",
    params(("id" = String, Path, description = "The user's id"), OperatorHeader),
    request_body = ModerationRequest,
    responses(
        (status = 200, description = "What a dry run counted; nothing was changed", body = CountedLikes),
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
pub(super) async fn restore(
    admin: Data<AdminService>,
    ids: Ids,
    id: Path<String>,
    operator: Operator,
    Body(request): Body<ModerationRequest>,
) -> Result<HttpResponse, Problem> {
    moderate(&admin, &ids, Moderation::Restore, &id, request, &operator).await
}

async fn moderate(
    admin: &AdminService,
    ids: &Ids,
    moderation: Moderation,
    id: &str,
    request: ModerationRequest,
    operator: &Operator,
) -> Result<HttpResponse, Problem> {
    let user_id = ids.kinds.users.parse(id).map_err(|error| {
        let detail = format!("the user id in the path {error}");
        Problem::new(Code::InvalidUserId, detail)
    })?;
    let answer = admin.moderate(moderation, user_id, request, &operator.0);
    Ok(answered(answer.await?))
}
