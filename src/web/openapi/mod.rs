//! The OpenAPI document of the HTTP API, made from the annotations of the handlers, and the page that shows
//! it. What holds for every operation is added here, once: problems, headers, sign-in.

mod page;
mod problems;
mod resources;
mod security;

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::path::{HttpMethod, Operation, PathItem};

pub use problems::{PROBLEMS, ProblemKind};

use super::{Context, Problem, action, admin, health, likes, only_get};
use crate::config::Role;

/// What the document depends on.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Which routes there are.
    pub role: Role,
    /// Whether users must sign in.
    pub sign_in: bool,
    /// Whether `/admin` asks nobody who they are.
    pub admin_is_open: bool,
}

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
struct Document;

/// The document of a process.
#[must_use]
pub fn document(about: About) -> Description {
    let mut document = Document::openapi();
    if about.role.is_api() {
        document.merge(resources::expand(likes::Document::openapi()));
        document.merge(action::Document::openapi());
    }
    document.merge(health::Document::openapi());
    document.merge(admin::Document::openapi());
    // What the service is for comes first.
    if let Some(tags) = &mut document.tags {
        tags.rotate_left(1);
    }
    security::describe(&mut document, about);
    problems::describe(&mut document);
    document
}

/// The document as it is served.
pub(super) fn bytes(about: About) -> Bytes {
    let json = serde_json::to_vec(&document(about));
    json.unwrap_or_else(|error| unreachable!("a document is always JSON: {error}"))
        .into()
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(only_get("/openapi.json", web::get().to(specification)))
        .service(only_get("/docs", web::get().to(page::show)))
        .service(only_get("/docs/{file}", web::get().to(page::asset)));
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "documentation",
    operation_id = "openapi",
    responses((status = 200, body = serde_json::Value))
)]
async fn specification(context: Data<Context>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(context.document.clone())
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem {
        get,
        put,
        post,
        delete,
        ..
    } = item;
    [
        (HttpMethod::Get, get),
        (HttpMethod::Put, put),
        (HttpMethod::Post, post),
        (HttpMethod::Delete, delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::test::{TestRequest, call_and_read_body, init_service};
    use actix_web::{App, HttpRequest};

    use super::*;
    use crate::web;

    /// The paths of the routes in actix-web's map of them, which it shows to whoever debugs.
    fn paths_in(map: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        // The scopes that a line is in, each with how far its own lines are indented.
        let mut scopes: Vec<(usize, String)> = Vec::new();
        let mut pattern = "";
        let mut lines = map.lines();
        while let Some(line) = lines.next() {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            if text.starts_with("patterns: ") {
                assert_eq!(text, "patterns: Single(");
                let quoted = lines.next().expect("a pattern").trim();
                pattern = quoted.trim_end_matches(',').trim_matches('"');
            }
            let Some(is_prefix) = text.strip_prefix("is_prefix: ") else {
                continue;
            };
            scopes.retain(|(outer, _)| *outer < indent);
            if is_prefix == "true," {
                scopes.push((indent, pattern.to_owned()));
            } else {
                let outer = scopes.iter().map(|(_, prefix)| prefix.as_str());
                paths.insert(outer.chain([pattern]).collect());
            }
        }
        paths
    }

    #[actix_web::test]
    async fn exactly_the_routes_are_documented() {
        const MAP: &str = "/a-route-of-this-test";
        for role in [Role::All, Role::Api, Role::Worker] {
            let map = async |request: HttpRequest| format!("{:#?}", request.resource_map());
            let app = App::new()
                .route(MAP, actix_web::web::get().to(map))
                .configure(|config| web::routes(config, role));
            let app = init_service(app).await;
            let request = TestRequest::get().uri(MAP).to_request();
            let map = call_and_read_body(&app, request).await;
            let mut routes = paths_in(&String::from_utf8_lossy(&map));
            assert!(routes.remove(MAP), "{routes:?}");
            let document = document(About {
                role,
                sign_in: false,
                admin_is_open: true,
            });
            let json = serde_json::to_string(&document).expect("JSON");
            assert!(!json.contains("{resource_type}"), "{json}");
            let documented: BTreeSet<_> = document.paths.paths.into_keys().collect();
            assert_eq!(routes, documented, "{role:?}");
            assert_eq!(routes.contains("/v1/comments/{id}/like"), role.is_api());
        }
    }
}
