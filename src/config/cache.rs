//! How to reach Redis, and the limits of cache entries there.

use std::path::PathBuf;
use std::time::Duration;

use super::PartialConfig;
use crate::domain::UserEntry;

/// How to reach Redis, and how much it may hold.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://HOST:PORT/DB`, or `redis+cluster://HOST:PORT,HOST:PORT` for a cluster; with `rediss` for TLS.
    pub url: String,
    /// The file of the trusted authorities (PEM); without it, those of the system.
    pub tls_ca: Option<PathBuf>,
    /// The certificate of this client (PEM).
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub tls_key: Option<PathBuf>,
    /// How long one round trip may take.
    pub timeout: Duration,
    /// The lifetime of an unchanged entry.
    pub time_to_live: Duration,
    /// The limit of the pairs in one user entry.
    pub pairs_per_user: usize,
}

impl RedisOptions {
    /// Returns whether the URL names servers of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.url.contains("+cluster://")
    }

    /// `None` if there is no Redis.
    pub(super) fn new(config: &PartialConfig) -> Option<Self> {
        Some(Self {
            url: super::not_blank(config.redis_url.as_deref())?,
            tls_ca: config.redis_tls_ca.clone(),
            tls_cert: config.redis_tls_cert.clone(),
            tls_key: config.redis_tls_key.clone(),
            timeout: Duration::from_secs(config.redis_timeout_seconds()),
            time_to_live: Duration::from_secs(config.cache_ttl_seconds().max(1)),
            pairs_per_user: UserEntry::MOST_PAIRS,
        })
    }
}
