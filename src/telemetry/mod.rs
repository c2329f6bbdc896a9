//! The only place that names a metric or writes a log line. Everything else makes one of the events of
//! [`events`] and calls its `emit`, which does both together.

mod dependency;
mod events;
mod metrics;
mod outages;

pub use dependency::Dependency;
pub use events::*;
pub use metrics::exposition;
pub use outages::{Failing, failing};

/// Starts logging to standard error; `RUST_LOG` chooses what is shown (default: `info`).
pub fn init_logging() {
    let filter =
        env_logger::Env::default().default_filter_or("info,actix_server=warn,async_nats=warn");
    env_logger::Builder::from_env(filter)
        .format_timestamp_millis()
        .init();
}

/// Sends panics to the log instead of to bare standard error.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!(target: "likewise", "panic: {panic}");
    }));
}
