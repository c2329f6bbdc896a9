//! The settings of the HTTP server.

use std::time::Duration;

use super::guard::HostName;
use super::limits::LimitOptions;

/// The settings of the HTTP server.
#[derive(Debug, Clone)]
pub struct WebOptions {
    /// The origins whose web pages may call.
    pub cors_origins: Vec<String>,
    /// The hosts that the service serves, besides loopback names.
    pub hosts: Vec<HostName>,
    /// The rate limits.
    pub limits: LimitOptions,
    /// How long the service may take to answer a request.
    pub request_timeout: Duration,
}
