//! The series of HTTP requests, by route, method and status. `http.rs` counts in them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::histogram::Histogram;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    /// The template of its path.
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// A route and a method.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) route: String,
    pub(super) method: &'static str,
}

/// Requests.
pub(super) type Requests = Family<RequestLabels, Counter>;

/// The durations of requests.
pub(super) type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// Returns an empty histogram for the durations of requests: from half a millisecond to ten seconds.
pub(super) fn durations() -> Histogram {
    Histogram::new([
        0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}
