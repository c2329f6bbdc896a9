//! The only room that names a metric or writes a log line. All other rooms create one of the [`events`] and call its
//! `emit`, which updates the metric and writes the line.

mod dependency;
mod events;
mod exposition;
mod figures;
mod histogram;
mod http;
mod http_series;
mod labels;
mod logging;
mod metrics;
mod outages;
mod process;
mod resolved;
mod scrape;

pub use dependency::Dependency;
pub use events::*;
pub use exposition::{openmetrics, text};
pub use figures::{Figures, percentile};
pub use http::{Route, UNMATCHED};
pub use logging::{init_logging, log_panics, write_failure};
use metrics::METRICS;
pub use outages::{Failing, failing};
pub use scrape::{PoolUse, RuntimeUse, Scrape};

/// Creates the series of problems with these codes, and of these findings of audits, with zeros.
pub fn declare(codes: &[&'static str], findings: Vec<&'static str>) {
    METRICS.declare_more(codes, metrics::FINDINGS.get_or_init(|| findings));
}
