//! The cache in the process, on a real Redis and on a real Redis Cluster: one suite that all pass, and random histories that
//! give the same answers on all.

mod backlog;
mod conformance;
mod encoding;
mod eviction;
mod other_id_kinds;
mod redis_cluster;
mod redis_outages;
mod rust_and_lua_agree;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use likewise::cache::{
    Cache, CountFilling, Filling, Incarnation, MemoryCache, RedisCache, RedisClusterCache,
    Settlement, UserFilling,
};
use likewise::config::RedisOptions;
use likewise::domain::{
    Applied, CountFill, Coverage, Deployment, EntryId, LikeCount, Pair, Reading, Resource, UserId,
    Version, VersionedState,
};
use redis::Commands;
use tokio::runtime::Runtime;

use crate::support::redis_cluster::RedisCluster;
use crate::support::servers::{Kind, Server};

const VIDEO: Resource = Resource::video(7);

/// A limit that only the tests of eviction reach.
const PLENTY: usize = 10_000;

/// The lifetime of entries.
const HOUR: Duration = Duration::from_secs(3_600);

/// The time after which a call fails. A busy machine may stop Redis or the test for seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The same for calls that Redis is not to answer.
const HASTY: Duration = Duration::from_secs(2);

/// A Redis for one test, and the cache on it.
struct OnRedis {
    server: Server,
    cache: RedisCache,
}

impl OnRedis {
    fn start() -> Self {
        Self::with(PLENTY, HOUR)
    }

    fn with(pairs_per_user: usize, time_to_live: Duration) -> Self {
        let server = Server::start(Kind::Redis);
        let cache = cache_on(&server, pairs_per_user, time_to_live);
        Self { server, cache }
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
fn cache_on(server: &Server, pairs_per_user: usize, time_to_live: Duration) -> RedisCache {
    let options = options(server.url(), pairs_per_user, time_to_live);
    run(async { RedisCache::new(&options, deployment("a").into()).expect("a URL") })
}

/// The cache of a new generation on a cluster.
fn cache_on_cluster(cluster: &RedisCluster, pairs_per_user: usize) -> RedisClusterCache {
    cache_of(cluster, pairs_per_user, &new_generation())
}

/// The name of a generation that no other test has.
fn new_generation() -> String {
    static GENERATION: AtomicUsize = AtomicUsize::new(0);
    GENERATION.fetch_add(1, Ordering::Relaxed).to_string()
}

/// The cache of a generation on a cluster.
fn cache_of(cluster: &RedisCluster, pairs_per_user: usize, generation: &str) -> RedisClusterCache {
    let options = options(cluster.url(), pairs_per_user, HOUR);
    run(async { RedisClusterCache::new(&options, deployment(generation).into()).expect("a URL") })
}

fn options(url: String, pairs_per_user: usize, time_to_live: Duration) -> RedisOptions {
    RedisOptions {
        url,
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        timeout: TIMEOUT,
        time_to_live,
        pairs_per_user,
    }
}

/// A generation of a deployment.
fn deployment(generation: &str) -> Deployment {
    Deployment {
        id: uuid::Uuid::nil(),
        generation: generation.to_owned(),
    }
}

/// Creates a cache in the process. One user may hold this many pairs.
fn in_process(pairs_per_user: usize) -> MemoryCache {
    MemoryCache::with(1_000_000, pairs_per_user)
}

/// The database's time, at which no event of the tests is overdue.
const NOW: Version = Version(1_000);

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
        is_overdue: false,
    }
}

/// Returns the entries of a pair.
fn entries(resource: Resource, user_id: UserId) -> [EntryId; 2] {
    EntryId::of_pair(&Pair { resource, user_id })
}

/// The methods of the trait, for one pair or resource at a time.
struct One<'a>(&'a dyn Cache);

/// The incarnations of the entries of a pair; `None` for a known count.
type Lives = (Incarnation, Option<Incarnation>);

impl One<'_> {
    async fn read(&self, resource: Resource, user_id: UserId) -> Reading {
        let read = self.0.read(Some(&user_id), &[resource], NOW).await;
        read.expect("an answer")[0]
    }

    async fn apply(&self, resource: Resource, user_id: UserId, mark: VersionedState) -> Applied {
        let events = [(Pair { resource, user_id }, mark)];
        let applied = self.0.apply(&events, NOW).await;
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
        self.0.settle(&settlements, NOW).await.expect("an answer");
    }

    async fn open(&self, resource: Resource, user_id: UserId) -> Lives {
        let opened = self.0.open(&[user_id], &[resource]).await;
        let opened = opened.expect("an answer");
        (opened.users[0].0, opened.counts[0])
    }

    /// Fills all rows of a user. Returns whether the cache took them.
    async fn fill_user(
        &self,
        incarnation: Incarnation,
        user_id: UserId,
        coverage: Coverage,
        rows: &[(Resource, VersionedState)],
    ) -> bool {
        let filling = UserFilling {
            user_id,
            incarnation,
            coverage,
            rows: rows.to_vec(),
        };
        let filling = Filling {
            users: vec![filling],
            ..Filling::default()
        };
        let filled = self.0.fill_and_apply(&filling, NOW).await;
        filled.expect("an answer").users[0]
    }

    /// Fills a count. Returns whether the cache took it.
    async fn fill_count(
        &self,
        incarnation: Option<Incarnation>,
        resource: Resource,
        count: LikeCount,
    ) -> bool {
        let filling = CountFilling {
            resource,
            incarnation: incarnation.unwrap_or_default(),
            count,
        };
        let filling = Filling {
            counts: vec![filling],
            ..Filling::default()
        };
        let filled = self.0.fill_and_apply(&filling, NOW).await;
        filled.expect("an answer").counts[0] == CountFill::Taken
    }

    async fn count(&self, resource: Resource) -> Option<i64> {
        let counts = self.0.read(None, &[resource], NOW).await;
        counts.expect("an answer")[0].like_count
    }

    /// Opens and fills the entries of a pair without interference. It is the only row of its user, if it is one.
    async fn learn(
        &self,
        resource: Resource,
        user_id: UserId,
        mark: VersionedState,
        count: LikeCount,
    ) {
        let lives = self.open(resource.clone(), user_id.clone()).await;
        let rows = [(resource.clone(), mark)];
        let rows = &rows[usize::from(mark == VersionedState::NEVER)..];
        let filled = self.fill_user(lives.0, user_id, Coverage::Complete, rows);
        assert!(filled.await, "nothing has changed since it was opened");
        let filled = self.fill_count(lives.1, resource, count);
        assert!(filled.await, "nothing has changed since it was opened");
    }

    async fn forget(&self, resource: Resource, user_id: UserId, version: i64) {
        let pair = Pair { resource, user_id };
        let forgotten = self.0.forget(&[(pair, Version(version))], NOW).await;
        forgotten.expect("an answer");
    }
}
