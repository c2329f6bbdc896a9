//! Why the service cannot start.

use std::net::SocketAddr;

use crate::cache::CacheError;
use crate::config::ConfigError;
use crate::nats::NatsError;
use crate::store::StoreError;
use crate::web::auth::AuthError;

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings do not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Sign-in cannot be set up.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The database cannot be used.
    #[error("cannot use the database {url}: {source}")]
    Store {
        /// Which, without its password.
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
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; set LIKEWISE_HTTP_ADDR to another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process cannot be told to stop.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}
