//! What is held of a user or a resource: exports and erasures.

mod erase;
mod export;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use super::methods::{get, only_get};
use super::problem::Problem;
use super::requests::resource;
use crate::domain::ResourceTypes;

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((name = "data", description = "What is held of users and resources.")),
    paths(erase::user, erase::resource, erase::show, export::export)
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig, types: &ResourceTypes) {
    let only_delete = |path: &str| {
        resource(path).default_service(web::to(async || Problem::method_not_allowed("DELETE")))
    };
    for resource_type in types.iter() {
        let path = format!("/v1/{resource_type}s/{{id}}");
        config.service(
            only_delete(&path)
                .app_data(resource_type)
                .route(web::delete().to(erase::resource)),
        );
    }
    config
        .service(only_delete("/v1/users/{id}").route(web::delete().to(erase::user)))
        .service(only_get("/v1/users/{id}/export", get().to(export::export)))
        .service(only_get("/v1/erasures/{id}", get().to(erase::show)));
}
