//! The cache: what answers at once. One newest-wins rule ([`Entry`](crate::domain::Entry)), whatever
//! holds the entries. The cache writer is the only caller of what changes it; readers call
//! [`Cache::read`].

mod memory;
mod redis;
mod redis_entry;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

pub use self::redis::RedisCache;
pub use memory::MemoryCache;

use crate::domain::{
    Applied, EntryView, LikeCount, Pair, Reading, Resource, UserId, Version, VersionedState,
};

/// What every method of [`Cache`] answers with.
pub type CacheFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send + 'a>>;

/// Why the cache did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// It could not be reached, or did not answer in time.
    #[error("the cache cannot be reached: {0}")]
    Unavailable(String),
    /// It accepts no writes: it is a replica now.
    #[error("the cache is read-only: {0}")]
    ReadOnly(String),
    /// It could not be reached before, and has not been heard of since.
    #[error("the cache is away")]
    Away,
}

/// Names one life of an entry: see [`Entry::fill`](crate::domain::Entry::fill).
pub type Incarnation = u64;

/// What the database holds of one resource after a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// The states of the pairs that the commit touched.
    pub marks: BTreeMap<UserId, VersionedState>,
    /// The like count.
    pub count: Option<LikeCount>,
}

/// What a reader found in the database for a pair that the cache could not tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// The pair.
    pub pair: Pair,
    /// The life of the entry that was found wanting, before the database was read.
    pub incarnation: Incarnation,
    /// The pair's state in the database.
    pub mark: VersionedState,
    /// The resource's like count in the database.
    pub count: LikeCount,
}

/// Some of the resources that have an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// They; one may come more than once.
    pub resources: Vec<Resource>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<u64>,
}

/// The cache. Answers come in the order of what was asked.
pub trait Cache: Send + Sync {
    /// Answers if the cache accepts writes.
    fn ping(&self) -> CacheFuture<'_, ()>;

    /// What is known of each pair.
    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>>;

    /// Takes in accepted events.
    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>>;

    /// Takes in what the database holds after a commit.
    fn settle<'a>(&'a self, settlements: &'a BTreeMap<Resource, Settlement>)
    -> CacheFuture<'a, ()>;

    /// Puts back events that could not be made durable.
    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()>;

    /// Makes sure that each resource has an entry, to be filled.
    fn open<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>>;

    /// Takes in what a reader found in the database; answers what is known of each pair then, and
    /// `None` where the entry has begun another life since, so that the reader must look again.
    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>>;

    /// Drops the entries of these resources, so that they are built anew from the database.
    fn drop_entries<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, ()>;

    /// Resources that have an entry, about `count` of them, from a place that an earlier answer named;
    /// zero for the beginning. One that has its entry all the while comes in some answer.
    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned>;

    /// All that the entries of these resources hold; `None` where there is none.
    fn inspect<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>>;

    /// Drops every entry.
    fn clear(&self) -> CacheFuture<'_, ()>;

    /// Whether the cache was started again or could not be written since this was last asked, and so may
    /// have come back with older data.
    fn restarted(&self) -> CacheFuture<'_, bool>;

    /// The name of the cache's kind, for people.
    fn kind(&self) -> &'static str;
}
