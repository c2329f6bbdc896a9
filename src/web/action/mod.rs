//! The paths and the envelope of the service that came before, for clients that still speak to it. What they
//! do is what `/v1/{resource_type}s/{id}/like` and `/v1/users/me/likes` do.

mod envelope;
mod like;
mod list;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use self::envelope::enclose;
use super::{Problem, only_get, only_post};

/// What is documented of it.
#[derive(OpenApi)]
#[openapi(
    tags((
        name = "action",
        description = "The paths of the service that came before, with its envelope: `code` is 10000 if it \
                       went well, and else the HTTP status."
    )),
    paths(like::like, list::list)
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/v1/action")
            .wrap(from_fn(enclose))
            .service(only_post("/like", web::post().to(like::like)))
            .service(only_get("/list", web::get().to(list::list)))
            .default_service(web::to(async || Problem::not_found())),
    );
}
