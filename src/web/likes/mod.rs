//! The like API: one like, the likes of a page, lists of likes, and the most liked.

mod batch;
mod lists;
mod one;
mod status;
mod top;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

pub(super) use one::AcceptedBody;

use super::{Problem, only_get, only_post};
use crate::domain::ResourceType;

/// What is documented of it.
#[derive(OpenApi)]
#[openapi(
    tags((name = "likes", description = "Likes of users.")),
    paths(
        one::like,
        one::unlike,
        one::read,
        batch::batch,
        status::status,
        lists::likers,
        lists::liked_by,
        top::top,
    )
)]
pub(super) struct Document;

/// The routes of each resource type, whose name is in their paths, and those of all.
pub(super) fn routes(config: &mut ServiceConfig) {
    for resource_type in ResourceType::ALL {
        let path = |rest: &str| format!("/v1/{resource_type}s/{rest}");
        config
            .service(
                web::resource(path("{id}/like"))
                    .app_data(resource_type)
                    .route(web::put().to(one::like))
                    .route(web::delete().to(one::unlike))
                    .route(web::get().to(one::read))
                    .default_service(web::to(async || {
                        Problem::method_not_allowed("GET, PUT, DELETE")
                    })),
            )
            .service(
                only_get(&path("{id}/likes"), web::get().to(lists::likers)).app_data(resource_type),
            )
            .service(only_get(&path("top"), web::get().to(top::top)).app_data(resource_type));
    }
    config
        .service(only_post("/v1/likes", web::post().to(batch::batch)))
        .service(only_post(
            "/v1/likes/status",
            web::post().to(status::status),
        ))
        .service(only_get(
            "/v1/users/{id}/likes",
            web::get().to(lists::liked_by),
        ));
}
