//! The OpenAPI document of the HTTP API, made from the annotations of the handlers, and the page that shows it.
//! `problems.rs` and `security.rs` add what all operations share.

mod ids;
mod operations;
mod page;
mod problems;
mod resources;
mod security;

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, ServiceConfig};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::path::HttpMethod;

pub use security::About;

use super::methods::{get, only_get};
use super::{admin, console, data, health, legacy, likes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Likewise",
        description = "An event-driven like service: the cache answers at once, the database follows \
                       exactly. An answered like is durable, and comes to its end once."
    ),
    tags((name = "documentation", description = "This document.")),
    paths(specification, page::show, page::asset)
)]
struct Own;

/// The document as JSON.
pub(super) struct Document(pub(super) Bytes);

/// The document of a process.
#[must_use]
pub fn document(about: &About) -> Description {
    let mut document = Own::openapi();
    if about.role.is_api() {
        document.merge(resources::expand(
            likes::Document::openapi(),
            &about.resource_types,
        ));
        document.merge(resources::expand(
            data::Document::openapi(),
            &about.resource_types,
        ));
        document.merge(legacy::Document::openapi());
    }
    document.merge(health::Document::openapi());
    document.merge(admin::Document::openapi());
    document.merge(console::Document::openapi());
    // The tag of this room, which comes first, goes last.
    if let Some(tags) = &mut document.tags {
        tags.rotate_left(1);
    }
    security::describe(&mut document, about);
    resources::list_types(&mut document, &about.resource_types);
    ids::describe(&mut document, about.ids);
    problems::describe(&mut document);
    document
}

/// The paths and methods of a document.
pub(super) fn served(document: &mut Description) -> Vec<(String, &'static str)> {
    let mut served = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for (method, _) in operations::operations(item) {
            let methods: &[&str] = match method {
                HttpMethod::Put => &["PUT"],
                HttpMethod::Post => &["POST"],
                HttpMethod::Delete => &["DELETE"],
                _ => &["GET", "HEAD"],
            };
            served.extend(methods.iter().map(|method| (path.clone(), *method)));
        }
    }
    served
}

/// The document of a process, as JSON.
pub(super) fn bytes(document: &Description) -> Bytes {
    let json = serde_json::to_vec(document);
    json.unwrap_or_else(|error| unreachable!("a document is always JSON: {error}"))
        .into()
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(only_get("/openapi.json", get().to(specification)))
        .service(only_get("/docs", get().to(page::show)))
        .service(only_get("/docs/{file}", get().to(page::asset)));
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "documentation",
    operation_id = "openapi",
    responses((status = 200, body = serde_json::Value))
)]
async fn specification(document: Data<Document>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(document.0.clone())
}
