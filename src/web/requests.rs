//! Counts requests by the route that answers them. `app/` calls [`count`] around everything else, and each resource of a
//! route is made by [`resource`].

use std::cell::OnceCell;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::{Resource, web};

use crate::telemetry::{Route, UNMATCHED};

/// The route of a resource, resolved at its first request in each worker.
#[derive(Default)]
struct RouteCell(OnceCell<&'static Route>);

/// Returns a resource whose requests are counted.
pub(super) fn resource(path: &str) -> Resource {
    web::resource(path).app_data(RouteCell::default())
}

/// Counts an answered request. A request without a route counts as `unmatched`, and so does one that was refused before it
/// reached its route, or that took too long.
pub fn count<B>(
    method: &Method,
    answer: &Result<ServiceResponse<B>, actix_web::Error>,
    took: Duration,
) {
    let (route, status) = match answer {
        Ok(response) => (route(response), response.status()),
        Err(error) => (None, error.as_response_error().status_code()),
    };
    let route = route.unwrap_or_else(|| Route::of(UNMATCHED));
    route.answered(method.as_str(), status.as_u16(), took);
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
