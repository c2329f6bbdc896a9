//! HTTP requests by route, method and status. A route resolves its series once, so that a request costs a few atomic
//! additions and no lookup.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::histogram::Histogram;
use super::http_series::{RequestLabels, RouteLabels};
use super::metrics::METRICS;

/// The route of requests for which there is none.
pub const UNMATCHED: &str = "unmatched";

/// The methods with series of their own. All others share one.
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "other"];

/// The statuses with series of their own, ascending. A status that the service never answers with counts as the last.
const STATUSES: [u16; 26] = [
    200, 201, 202, 204, 206, 301, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 414, 415,
    421, 422, 429, 431, 500, 503, 599,
];

/// The statuses whose series every route has from the start.
const EXPECTED: [u16; 3] = [200, 500, 503];

/// The series of one route.
#[derive(Debug)]
pub struct Route {
    template: String,
    methods: [OnceLock<MethodSeries>; METHODS.len()],
}

/// The series of one method of a route.
#[derive(Debug)]
struct MethodSeries {
    durations: Histogram,
    requests: [OnceLock<Counter>; STATUSES.len()],
}

impl Route {
    /// Returns the route with this template of its path, such as `/v1/videos/{id}/like`.
    pub fn of(template: &str) -> &'static Self {
        static ROUTES: LazyLock<Mutex<BTreeMap<String, &'static Route>>> =
            LazyLock::new(Mutex::default);
        let mut routes = ROUTES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(template) {
            return route;
        }
        let route: &'static Self = Box::leak(Box::new(Self {
            template: template.to_owned(),
            methods: Default::default(),
        }));
        routes.insert(template.to_owned(), route);
        route
    }

    /// Creates the series of a method, with zeros.
    pub fn serves(&self, method: &str) {
        let series = self.series(method);
        for status in EXPECTED {
            self.counter(method, series, status);
        }
    }

    /// Counts a request.
    pub fn answered(&self, method: &str, status: u16, took: Duration) {
        let series = self.series(method);
        self.counter(method, series, status).inc();
        series.durations.observe(took);
    }

    fn series(&self, method: &str) -> &MethodSeries {
        let place = method_place(method);
        self.methods[place].get_or_init(|| {
            let labels = RouteLabels {
                route: self.template.clone(),
                method: METHODS[place],
            };
            let durations = &METRICS.http_request_duration_seconds;
            MethodSeries {
                durations: durations.get_or_create_owned(&labels),
                requests: Default::default(),
            }
        })
    }

    fn counter<'a>(&self, method: &str, series: &'a MethodSeries, status: u16) -> &'a Counter {
        let last = STATUSES.len() - 1;
        let place = STATUSES.binary_search(&status).unwrap_or(last);
        series.requests[place].get_or_init(|| {
            METRICS.http_requests.get_or_create_owned(&RequestLabels {
                route: self.template.clone(),
                method: METHODS[method_place(method)],
                status: STATUSES[place],
            })
        })
    }
}

fn method_place(method: &str) -> usize {
    let place = METHODS.iter().position(|known| *known == method);
    place.unwrap_or(METHODS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_ascend() {
        assert!(STATUSES.is_sorted());
        for status in EXPECTED {
            assert!(STATUSES.contains(&status), "{status}");
        }
    }

    #[test]
    fn route_is_counted_by_method_and_status() {
        let route = Route::of("/test/{id}");
        assert!(std::ptr::eq(route, Route::of("/test/{id}")));
        route.serves("GET");
        for (method, status) in [("GET", 200), ("GET", 200), ("PATCH", 405), ("GET", 418)] {
            route.answered(method, status, Duration::from_millis(1));
        }
        let text = crate::telemetry::openmetrics(&crate::telemetry::Scrape::default());
        for line in [
            r#"likewise_http_requests_total{route="/test/{id}",method="GET",status="200"} 2"#,
            r#"likewise_http_requests_total{route="/test/{id}",method="GET",status="503"} 0"#,
            r#"likewise_http_requests_total{route="/test/{id}",method="other",status="405"} 1"#,
            r#"likewise_http_requests_total{route="/test/{id}",method="GET",status="599"} 1"#,
            r#"likewise_http_request_duration_seconds_count{route="/test/{id}",method="GET"} 3"#,
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
