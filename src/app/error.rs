//! Why the service cannot start.

use std::net::SocketAddr;

use crate::cache::CacheError;
use crate::config::ConfigError;
use crate::nats::NatsError;
use crate::store::StoreError;
use crate::web::auth::AuthError;
use crate::webhooks::WebhookError;

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Sign-in cannot be set up.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The database cannot be used.
    #[error("cannot use the database {url}: {source}")]
    Store {
        /// Its URL without the password.
        url: String,
        /// Why.
        source: StoreError,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache: {0}")]
    Cache(#[from] CacheError),
    /// The broker cannot be used.
    #[error("cannot use the broker: {0}")]
    Broker(#[from] NatsError),
    /// Webhooks cannot be sent as configured.
    #[error("cannot send webhooks: {0}")]
    Webhooks(#[from] WebhookError),
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {source}; set LIKEWISE_HTTP_ADDR to another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process cannot handle signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// The thread that reports to the other processes cannot be started.
    #[error("cannot start the thread for the reports of processes: {0}")]
    Reports(std::io::Error),
}
