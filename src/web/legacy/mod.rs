//! The endpoints of the previous service, `/v1/action/...`, with its envelope, for clients that still use them. They
//! do the same as `/v1/{resource_type}s/{id}/like` and `/v1/users/me/likes`.

mod envelope;
mod like;
mod list;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use self::envelope::enclose;
use super::methods::{get, only_get, only_post};
use super::problem::Problem;

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((
        name = "action",
        description = "The endpoints of the previous service, with its envelope: `code` is 10000 on success, \
                       and otherwise the HTTP status."
    )),
    paths(like::like, list::list)
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/v1/action")
            .wrap(from_fn(enclose))
            .service(only_post("/like", web::post().to(like::like)))
            .service(only_get("/list", get().to(list::list)))
            .default_service(web::to(async || Problem::not_found())),
    );
}
