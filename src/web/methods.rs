//! Resources that support one method, and answer 405 to the others. `HEAD` comes with `GET`.

use std::future::ready;

use actix_web::guard::{Any, Get, Head};
use actix_web::{Resource, Route, web};

use super::problem::Problem;
use super::requests::resource;

/// A route for `GET` and `HEAD`. The HTTP codec omits the body of a response to `HEAD`.
pub(super) fn get() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

pub(super) fn only_get(path: &str, route: Route) -> Resource {
    only(path, route, "GET, HEAD")
}

pub(super) fn only_post(path: &str, route: Route) -> Resource {
    only(path, route, "POST")
}

fn only(path: &str, route: Route, method: &'static str) -> Resource {
    resource(path)
        .route(route)
        .default_service(web::to(move || ready(Problem::method_not_allowed(method))))
}
