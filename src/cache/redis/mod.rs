//! The cache on Redis: on one server (`standalone/`) or on a cluster (`cluster/`). An entry is a string, and a count entry may
//! have a sorted set of its events in flight. Only the atomic script in `rule/` changes entries, many in one call.

mod answer;
mod call;
mod cluster;
mod connection;
mod entry;
mod keys;
mod read;
mod standalone;
mod text;

use std::sync::Arc;

pub use cluster::RedisClusterCache;
pub use standalone::RedisCache;

use super::{Cache, CacheError};
use crate::config::RedisOptions;
use crate::domain::CurrentDeployment;

/// Creates the cache on a Redis server or a Redis Cluster, as the URL says.
///
/// # Errors
/// If the URL is invalid.
pub fn on_redis(
    options: &RedisOptions,
    deployment: CurrentDeployment,
) -> Result<Arc<dyn Cache>, CacheError> {
    Ok(match options.is_cluster() {
        true => Arc::new(RedisClusterCache::new(options, deployment)?),
        false => Arc::new(RedisCache::new(options, deployment)?),
    })
}
