//! The routes of each role, and headers of every response.

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{self, ServiceConfig};

use super::methods::{get, only_get};
use super::problem::Problem;
use super::{admin, console, data, health, legacy, likes, openapi};
use crate::config::Role;
use crate::domain::ResourceTypes;

/// Adds the routes of a process with this role. A worker has no like API.
pub fn routes(config: &mut ServiceConfig, role: Role, types: &ResourceTypes) {
    if role.is_api() {
        config
            .configure(|config| likes::routes(config, types))
            .configure(|config| data::routes(config, types))
            .configure(legacy::routes);
    }
    config
        .service(only_get("/healthz", get().to(health::healthz)))
        .service(only_get("/readyz", get().to(health::readyz)))
        .service(only_get("/metrics", get().to(health::metrics)))
        .configure(openapi::routes)
        // Before the scope `/admin`, which would answer for its page.
        .configure(console::routes)
        .configure(admin::routes)
        .default_service(web::to(async || Problem::not_found()));
}

/// Adds security headers to a response that does not set them: browsers guess no content type, and caches store
/// nothing.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::test::{TestRequest, call_and_read_body, init_service};
    use actix_web::{App, HttpRequest};

    use super::*;
    use crate::domain::IdKinds;
    use crate::web::ids::Ids;
    use crate::web::openapi::{About, document};

    /// The paths of the routes, read from the debug output of actix-web's resource map.
    fn paths_in(map: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        // The scopes around a line, each with the indentation of its own lines.
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
                .configure(|config| routes(config, role, &ResourceTypes::default()));
            let app = init_service(app).await;
            let request = TestRequest::get().uri(MAP).to_request();
            let map = call_and_read_body(&app, request).await;
            let mut routes = paths_in(&String::from_utf8_lossy(&map));
            assert!(routes.remove(MAP), "{routes:?}");
            let document = document(&About {
                role,
                resource_types: ResourceTypes::default(),
                ids: Ids {
                    kinds: IdKinds::default(),
                    as_text: false,
                },
                sign_in: false,
                admin_is_open: true,
                public_reads: false,
            });
            let json = serde_json::to_string(&document).expect("JSON");
            assert!(!json.contains("{resource_type}"), "{json}");
            let documented: BTreeSet<_> = document.paths.paths.into_keys().collect();
            assert_eq!(routes, documented, "{role:?}");
            assert_eq!(routes.contains("/v1/comments/{id}/like"), role.is_api());
        }
    }
}
