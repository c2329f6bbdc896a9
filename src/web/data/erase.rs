//! `DELETE /v1/users/{id}` and `DELETE /v1/{resource_type}s/{id}`: erases a user or a resource. `GET /v1/erasures/{id}`
//! shows how far that is.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};

use crate::admin::{AdminService, ErasureReport};
use crate::domain::DataSubject;
use crate::web::auth::Eraser;
use crate::web::extract::{decoded, resource_in_path};
use crate::web::ids::Ids;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::problem::{Code, Problem};

/// Erases a user: likes, behaviors, ledger, stored answers, messages and cache.
///
/// From the answer on, no event of the user is recorded. A job deletes the data. Asking again returns the same erasure. It
/// cannot be undone.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "data",
    operation_id = "erase_user",
    params(
        ("id" = i64, Path, description = "The user's id", minimum = 1),
        OperatorHeader
    ),
    responses(
        (
            status = 202,
            description = "The erasure",
            body = ErasureReport,
            headers(("Location" = String, description = "The path of the erasure"))
        ),
        (status = 400)
    ),
    security(("eraser" = []))
)]
pub(in crate::web) async fn user(
    admin: Data<AdminService>,
    ids: Ids,
    _: Eraser,
    operator: Operator,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let text = decoded(request.match_info().query("id"));
    let user_id = ids.kinds.users.parse(&text).map_err(|error| {
        let detail = format!("the user in the path {error}");
        Problem::new(Code::InvalidUserId, detail)
    })?;
    erase(&admin, &DataSubject::User(user_id), &operator).await
}

/// Erases a {resource_type}: its likes, behaviors, ledger, count, messages and cache.
///
/// From the answer on, no event of the {resource_type} is recorded. A job deletes the data. Asking again returns the same
/// erasure. It cannot be undone.
#[utoipa::path(
    delete,
    path = "/v1/{resource_type}s/{id}",
    tag = "data",
    operation_id = "erase_{resource_type}",
    params(
        ("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1),
        OperatorHeader
    ),
    responses(
        (
            status = 202,
            description = "The erasure",
            body = ErasureReport,
            headers(("Location" = String, description = "The path of the erasure"))
        ),
        (status = 400)
    ),
    security(("eraser" = []))
)]
pub(in crate::web) async fn resource(
    admin: Data<AdminService>,
    _: Eraser,
    operator: Operator,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let resource = resource_in_path(&request)?;
    erase(&admin, &DataSubject::Resource(resource), &operator).await
}

async fn erase(
    admin: &AdminService,
    subject: &DataSubject,
    operator: &Operator,
) -> Result<HttpResponse, Problem> {
    let erasure = admin.erase(subject, &operator.0).await?;
    Ok(HttpResponse::Accepted()
        .insert_header(("Location", format!("/v1/erasures/{}", erasure.id)))
        .json(erasure))
}

/// An erasure: its progress and, when it is completed, the proof.
#[utoipa::path(
    get,
    path = "/v1/erasures/{id}",
    tag = "data",
    operation_id = "show_erasure",
    params(("id" = String, Path, description = "The erasure's id")),
    responses((status = 200, body = ErasureReport), (status = 404)),
    security(("eraser" = []))
)]
pub(in crate::web) async fn show(
    admin: Data<AdminService>,
    _: Eraser,
    id: Path<String>,
) -> Result<Json<ErasureReport>, Problem> {
    Ok(Json(admin.erasure(&id).await?))
}
