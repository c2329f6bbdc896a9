//! The cache answers requests immediately. Every implementation follows one newest-wins rule
//! ([`Entry`](crate::domain::Entry)). Only the cache writer changes the cache; readers call [`Cache::read`].

mod memory;
mod redis;
mod redis_connection;
mod redis_entry;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

pub use self::redis::RedisCache;
pub use memory::MemoryCache;

use crate::domain::{
    Applied, Deployment, EntryView, LikeCount, Pair, Reading, Resource, UserId, Version,
    VersionedState,
};

/// The result of every method of [`Cache`].
pub type CacheFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send + 'a>>;

/// A failed call of the cache.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// The cache is unreachable or did not answer in time.
    #[error("the cache cannot be reached: {0}")]
    Unavailable(String),
    /// The cache refuses writes, for example as a replica.
    #[error("the cache is read-only: {0}")]
    ReadOnly(String),
    /// The keys are named after the deployment, which the database has not told yet.
    #[error("the cache waits for the database, which names its keys")]
    Unnamed,
    /// An earlier call found the cache unreachable, and it has not answered since.
    #[error("the cache is away")]
    Away,
}

impl CacheError {
    /// Returns whether the call was not sent, so that it has no effect and its cause is reported elsewhere.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Away | Self::Unnamed)
    }
}

/// The name of one lifetime of an entry: see [`Entry::fill`](crate::domain::Entry::fill).
pub type Incarnation = u64;

/// The database's state of one resource after a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// The states of the commit's pairs.
    pub states: BTreeMap<UserId, VersionedState>,
    /// The like count.
    pub count: Option<LikeCount>,
}

/// The database's state of a resource that the cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// The resource.
    pub resource: Resource,
    /// The incarnation of the incomplete entry, read before the query.
    pub incarnation: Incarnation,
    /// A user and the pair's state in the database; `None` to fill the count alone.
    pub state: Option<(UserId, VersionedState)>,
    /// The resource's like count in the database.
    pub count: LikeCount,
}

/// One page of the resources that have an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The resources; duplicates are possible.
    pub resources: Vec<Resource>,
    /// The cursor of the next page; `None` at the end.
    pub cursor: Option<u64>,
}

/// The cache. Results are in the order of the arguments.
pub trait Cache: Send + Sync {
    /// Succeeds if the cache accepts writes.
    fn ping(&self) -> CacheFuture<'_, ()>;

    /// Reads each pair.
    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>>;

    /// Reads the like count of each resource; `None` if unknown.
    fn counts<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<i64>>>;

    /// Applies accepted events.
    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>>;

    /// Settles the database's state after a commit.
    fn settle<'a>(&'a self, settlements: &'a BTreeMap<Resource, Settlement>)
    -> CacheFuture<'a, ()>;

    /// Reverts events that could not be made durable.
    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()>;

    /// Ensures that each resource has an entry, and returns their incarnations.
    fn open<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>>;

    /// Fills entries from a database read. Returns the state after each filling, or `None` if the entry's lifetime ended, so
    /// that the reader must query again.
    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>>;

    /// Drops the entries of these resources, so that they are rebuilt from the database.
    fn drop_entries<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, ()>;

    /// Returns about `count` resources that have an entry, from the cursor of an earlier page; zero starts at the beginning.
    /// A resource whose entry exists during the whole scan is on some page.
    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned>;

    /// Returns the content of the entries of these resources; `None` for missing ones.
    fn inspect<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>>;

    /// Returns for each pair whether its resource's entry holds the user.
    fn holds<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let resources: Vec<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
            let views = self.inspect(&resources).await?;
            let held = views.iter().zip(pairs).map(|(view, pair)| {
                let view = view.as_ref();
                view.is_some_and(|view| view.pairs.contains_key(&pair.user_id))
            });
            Ok(held.collect())
        })
    }

    /// Returns whether other processes use the same entries.
    fn is_shared(&self) -> bool {
        false
    }

    /// Drops every entry.
    fn clear(&self) -> CacheFuture<'_, ()>;

    /// Returns whether the cache restarted or refused writes since the last call, and may therefore have stale data.
    fn restarted(&self) -> CacheFuture<'_, bool>;

    /// Returns the last heartbeat of this generation that the cache knows of; `None` if it keeps none.
    fn last_beat<'a>(&'a self, _: &'a Deployment) -> CacheFuture<'a, Option<i64>> {
        Box::pin(async { Ok(None) })
    }

    /// Notes a heartbeat of this generation. Returns the id of another deployment that used the cache last.
    fn note_beat<'a>(&'a self, _: &'a Deployment, _: i64) -> CacheFuture<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }

    /// Returns the display name of the cache's kind.
    fn kind(&self) -> &'static str;
}
