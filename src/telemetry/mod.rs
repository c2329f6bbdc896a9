//! The only room that names a metric or writes a log line. All other rooms create one of the [`events`] and call its
//! `emit`, which updates the metric and writes the line.

mod dependency;
mod events;
mod figures;
mod histogram;
mod http;
mod labels;
mod metrics;
mod outages;
mod process;
mod scrape;

pub use dependency::Dependency;
pub use events::*;
pub use figures::{Figures, percentile};
pub use http::{Route, UNMATCHED};
use metrics::METRICS;
pub use outages::{Failing, failing};
pub use scrape::{PoolUse, RuntimeUse, Scrape, openmetrics, text};

/// Creates the series of problems with these codes, and of these findings of audits, with zeros.
pub fn declare(codes: &[&'static str], findings: Vec<&'static str>) {
    METRICS.declare_more(codes, metrics::FINDINGS.get_or_init(|| findings));
}

/// Starts logging to standard error. `RUST_LOG` sets the filter (default: `info`).
pub fn init_logging() {
    let filter =
        env_logger::Env::default().default_filter_or("info,actix_server=warn,async_nats=warn");
    env_logger::Builder::from_env(filter)
        .format_timestamp_millis()
        .init();
}

/// Writes panics to the log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!(target: "likewise", "panic: {panic}");
    }));
}
