//! How to reach the database.

use std::time::Duration;

use super::{ConfigError, PartialConfig, TlsOptions};
use crate::domain::Lease;

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Its URL: `sqlite://FILE`, `mysql://USER:PASSWORD@HOST:PORT/DATABASE` or
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, without the parameters of TLS.
    pub url: String,
    /// How its connections use TLS.
    pub tls: TlsOptions,
    /// The limit of the connections for reading.
    pub max_connections: usize,
    /// How long one call may take before it fails and its connection is dropped.
    pub timeout: Duration,
}

impl StoreOptions {
    pub(super) fn new(config: &PartialConfig) -> Result<Self, ConfigError> {
        let lease = Duration::from_secs(config.lease_seconds());
        let longest_attempt = Lease::longest_attempt(lease);
        let timeout = config.database_timeout_seconds.map_or_else(
            || longest_attempt.min(Duration::from_secs(10)),
            Duration::from_secs,
        );
        if timeout > longest_attempt {
            return Err(ConfigError::ShortLease { lease, timeout });
        }
        let url = super::not_blank(config.database_url.as_deref())
            .unwrap_or_else(|| PartialConfig::default().database_url());
        let (url, tls) = TlsOptions::new(&url, config)?;
        Ok(Self {
            url,
            tls,
            max_connections: 8,
            timeout,
        })
    }

    /// The URL without the password, for logs.
    #[must_use]
    pub fn url_without_password(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        match rest.rsplit_once('@') {
            Some((credentials, host)) => {
                let user = credentials.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}@{host}")
            }
            None => self.url.clone(),
        }
    }
}
