//! Resources that support one method, and answer 405 to the others.

use std::future::ready;

use actix_web::{Resource, Route, web};

use super::problem::Problem;

pub(super) fn only_get(path: &str, route: Route) -> Resource {
    only(path, route, "GET")
}

pub(super) fn only_post(path: &str, route: Route) -> Resource {
    only(path, route, "POST")
}

fn only(path: &str, route: Route, method: &'static str) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(move || ready(Problem::method_not_allowed(method))))
}
