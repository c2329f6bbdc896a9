//! The only room that names a metric or writes a log line. All other rooms create one of the [`events`] and call its
//! `emit`, which updates the metric and writes the line.

mod dependency;
mod events;
mod metrics;
mod outages;

pub use dependency::Dependency;
pub use events::*;
pub use metrics::exposition;
pub use outages::{Failing, failing};

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
