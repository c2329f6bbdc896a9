//! The whole of it: a Redis and a NATS of a test's own, for a service between them.

use super::servers::{Kind, Server};
use super::service::Setup;

/// The servers that a service depends on, apart from its database.
pub struct Stack {
    /// Where its cache is.
    pub redis: Server,
    /// Where its stream is.
    pub nats: Server,
}

impl Stack {
    /// Starts both.
    pub fn start() -> Self {
        Self {
            redis: Server::start(Kind::Redis),
            nats: Server::start(Kind::Nats),
        }
    }

    /// A service on them, and on an SQLite file.
    pub fn setup(&self) -> Setup {
        Setup::new()
            .set("LIKEWISE_REDIS_URL", self.redis.url())
            .set("LIKEWISE_NATS_URL", self.nats.url())
            .set("LIKEWISE_LEASE_SECONDS", 3)
    }
}
