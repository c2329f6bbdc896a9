//! A Redis and a NATS for one test, and services between them.

use super::servers::{Kind, Server};
use super::service::Setup;

/// The servers of a service, besides its database.
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

    /// Creates the setup of a service on these servers and on an SQLite file.
    pub fn setup(&self) -> Setup {
        Setup::new()
            .set("LIKEWISE_REDIS_URL", self.redis.url())
            .set("LIKEWISE_NATS_URL", self.nats.url())
            .set("LIKEWISE_LEASE_SECONDS", 3)
    }
}
