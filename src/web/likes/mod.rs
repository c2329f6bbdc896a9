//! The like API: one file for each path.

mod batch;
mod behaviors;
mod count;
mod liked;
mod likers;
mod live;
mod one;
mod status;
mod top;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

pub(super) use one::{AcceptedBody, answer_like};

use super::methods::{get, only_get, only_post};
use super::problem::Problem;
use super::requests::resource;
use crate::domain::ResourceTypes;

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((name = "likes", description = "Likes of users.")),
    paths(
        one::like,
        one::unlike,
        one::read,
        count::count,
        live::one,
        live::several,
        behaviors::count,
        behaviors::count_all,
        batch::batch,
        status::status,
        likers::likers,
        liked::liked_by,
        top::top,
    )
)]
pub(super) struct Document;

/// The routes of each resource type, which have its name in their paths, and the routes of all types.
pub(super) fn routes(config: &mut ServiceConfig, types: &ResourceTypes) {
    for resource_type in types.iter() {
        let path = |rest: &str| format!("/v1/{resource_type}s/{rest}");
        config
            .service(
                resource(&path("{id}/like"))
                    .app_data(resource_type)
                    .route(web::put().to(one::like))
                    .route(web::delete().to(one::unlike))
                    .route(get().to(one::read))
                    .default_service(web::to(async || {
                        Problem::method_not_allowed("GET, HEAD, PUT, DELETE")
                    })),
            )
            .service(
                only_get(&path("{id}/likes"), get().to(likers::likers)).app_data(resource_type),
            )
            .service(
                only_get(&path("{id}/likes/count"), get().to(count::count)).app_data(resource_type),
            )
            .service(
                only_get(&path("{id}/likes/live"), get().to(live::one)).app_data(resource_type),
            )
            .service(
                only_get(&path("{id}/behaviors/count"), get().to(behaviors::count))
                    .app_data(resource_type),
            )
            .service(only_get(&path("top"), get().to(top::top)).app_data(resource_type));
    }
    config
        .service(only_post("/v1/likes", web::post().to(batch::batch)))
        .service(only_post(
            "/v1/likes/status",
            web::post().to(status::status),
        ))
        .service(only_get("/v1/likes/live", get().to(live::several)))
        .service(only_post(
            "/v1/behaviors/count",
            web::post().to(behaviors::count_all),
        ))
        .service(only_get("/v1/users/{id}/likes", get().to(liked::liked_by)));
}
