//! Counts requests by the route that answers them, and the problems among the answers. `app/` creates a [`Pending`] in
//! the outermost middleware, and each resource of a route is made by [`resource`].

use std::cell::OnceCell;
use std::time::Instant;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::{Resource, web};

use super::problem::Problem;
use super::trace::trace;
use crate::domain::TraceParent;
use crate::telemetry::{Route, UNMATCHED};

/// The route of a resource, resolved at its first request in each worker.
#[derive(Default)]
struct RouteCell(OnceCell<&'static Route>);

/// Returns a resource whose requests are counted.
pub(super) fn resource(path: &str) -> Resource {
    web::resource(path).app_data(RouteCell::default())
}

/// What the log and the metrics need of a request. It is copied before the request is served: one that times out is dropped,
/// and cannot be read afterwards.
pub struct Pending {
    method: Method,
    trace: Option<TraceParent>,
    started: Instant,
}

impl Pending {
    /// Remembers a request that begins now.
    #[must_use]
    pub fn of(request: &ServiceRequest) -> Self {
        Self {
            method: request.method().clone(),
            trace: trace(request.headers()),
            started: Instant::now(),
        }
    }

    /// Counts the request, and logs the problem that it was answered with. A request without a route counts as `unmatched`,
    /// and so does one that was refused before it reached its route, or that took too long.
    pub fn answered<B>(self, answer: &Result<ServiceResponse<B>, actix_web::Error>) {
        let (route, status, error) = match answer {
            Ok(response) => (
                route(response),
                response.status(),
                response.response().error(),
            ),
            Err(error) => (None, error.as_response_error().status_code(), Some(error)),
        };
        if let Some(problem) = error.and_then(actix_web::Error::as_error::<Problem>) {
            problem.answered(self.trace);
        }
        let route = route.unwrap_or_else(|| Route::of(UNMATCHED));
        let took = self.started.elapsed();
        route.answered(self.method.as_str(), status.as_u16(), took);
    }
}

fn route<B>(response: &ServiceResponse<B>) -> Option<&'static Route> {
    let request = response.request();
    let RouteCell(cell) = request.app_data::<RouteCell>()?;
    if let Some(route) = cell.get() {
        return Some(route);
    }
    let route = Route::of(&request.match_pattern()?);
    Some(cell.get_or_init(|| route))
}
