//! The cache in the process and on a real Redis: one suite that both pass, and random histories that give the same
//! answers on both.

mod conformance;
mod eviction;
mod other_id_kinds;
mod redis_outages;
mod rust_and_lua_agree;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use likewise::cache::{Cache, Filling, Incarnation, MemoryCache, RedisCache, Settlement};
use likewise::config::RedisOptions;
use likewise::domain::{
    Applied, Deployment, LikeCount, Pair, Reading, Resource, UserId, Version, VersionedState,
};
use redis::Commands;
use tokio::runtime::Runtime;

use crate::support::servers::{Kind, Server};

const VIDEO: Resource = Resource::video(7);

/// A limit that only the tests of eviction reach.
const PLENTY: usize = 10_000;

/// The lifetime of entries.
const HOUR: Duration = Duration::from_secs(3_600);

/// The time after which a call fails.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A Redis for one test, and the cache on it.
struct OnRedis {
    server: Server,
    cache: RedisCache,
}

impl OnRedis {
    fn start() -> Self {
        Self::with(PLENTY, HOUR)
    }

    fn with(pairs_per_resource: usize, time_to_live: Duration) -> Self {
        let server = Server::start(Kind::Redis);
        let cache = cache_on(&server, pairs_per_resource, time_to_live);
        Self { server, cache }
    }

    /// Returns another client of the same cache.
    fn other_cache(&self) -> RedisCache {
        cache_on(&self.server, PLENTY, HOUR)
    }

    /// Sends commands to Redis directly.
    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.server.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    fn keys(&self) -> Vec<String> {
        self.connection().keys("*").expect("keys")
    }
}

/// The cache on a Redis.
fn cache_on(server: &Server, pairs_per_resource: usize, time_to_live: Duration) -> RedisCache {
    let options = RedisOptions {
        url: server.url(),
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        timeout: TIMEOUT,
        time_to_live,
        pairs_per_resource,
    };
    run(async { RedisCache::new(&options, deployment("a").into()).expect("a URL") })
}

/// A generation of a deployment.
fn deployment(generation: &str) -> Deployment {
    Deployment {
        id: uuid::Uuid::nil(),
        generation: generation.to_owned(),
    }
}

/// Creates a cache in the process. One resource may hold this many pairs.
fn in_process(pairs_per_resource: usize) -> MemoryCache {
    MemoryCache::new(pairs_per_resource * 160)
}

thread_local! {
    /// One runtime for a whole test, because connections live on it.
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
}

/// Runs a future to its end on this thread.
fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

const fn mark(version: i64, liked: bool) -> VersionedState {
    VersionedState {
        version: Version(version),
        liked,
    }
}

const fn count(like_count: i64, revision: i64) -> LikeCount {
    LikeCount {
        like_count,
        revision,
    }
}

const fn known(liked: bool, like_count: i64) -> Reading {
    Reading {
        liked: Some(liked),
        like_count: Some(like_count),
    }
}

/// The methods of the trait, for one pair or resource at a time.
struct One<'a>(&'a dyn Cache);

impl One<'_> {
    async fn read(&self, resource: Resource, user_id: UserId) -> Reading {
        let read = self.0.read(&[Pair { resource, user_id }]).await;
        read.expect("an answer")[0]
    }

    async fn apply(&self, resource: Resource, user_id: UserId, mark: VersionedState) -> Applied {
        let applied = self.0.apply(&[(Pair { resource, user_id }, mark)]).await;
        applied.expect("an answer")[0]
    }

    async fn settle(
        &self,
        resource: Resource,
        marks: &[(UserId, VersionedState)],
        count: Option<LikeCount>,
    ) {
        let settlement = Settlement {
            states: marks.iter().cloned().collect(),
            count,
        };
        let settlements = BTreeMap::from([(resource, settlement)]);
        self.0.settle(&settlements).await.expect("an answer");
    }

    async fn open(&self, resource: Resource) -> Incarnation {
        self.0.open(&[resource]).await.expect("an answer")[0]
    }

    async fn fill(
        &self,
        incarnation: Incarnation,
        resource: Resource,
        user_id: UserId,
        mark: VersionedState,
        count: LikeCount,
    ) -> Option<Reading> {
        let state = Some((user_id, mark));
        self.fill_with(Filling {
            resource,
            incarnation,
            state,
            count,
        })
        .await
    }

    async fn fill_with(&self, filling: Filling) -> Option<Reading> {
        self.0.fill(&[filling]).await.expect("an answer")[0]
    }

    /// Fills the count alone.
    async fn fill_count(
        &self,
        incarnation: Incarnation,
        resource: Resource,
        count: LikeCount,
    ) -> Option<Reading> {
        self.fill_with(Filling {
            resource,
            incarnation,
            state: None,
            count,
        })
        .await
    }

    async fn count(&self, resource: Resource) -> Option<i64> {
        let counts = self.0.counts(&[resource]).await;
        counts.expect("an answer")[0]
    }

    /// Opens and fills an entry without interference.
    async fn learn(
        &self,
        resource: Resource,
        user_id: UserId,
        mark: VersionedState,
        count: LikeCount,
    ) {
        let life = self.open(resource.clone()).await;
        let filled = self.fill(life, resource, user_id, mark, count).await;
        assert!(filled.is_some(), "nothing has changed since it was opened");
    }

    async fn forget(&self, resource: Resource, user_id: UserId, version: i64) {
        let pair = Pair { resource, user_id };
        let forgotten = self.0.forget(&[(pair, Version(version))]).await;
        forgotten.expect("an answer");
    }
}
