//! The cache answers requests immediately. It holds an entry for each user and one for each resource's count. Every
//! implementation follows one newest-wins rule ([`UserEntry`](crate::domain::UserEntry) and
//! [`CountEntry`](crate::domain::CountEntry)). Only the cache writer changes the cache; readers call [`Cache::read`].

mod memory;
mod redis;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

pub use self::redis::{RedisCache, RedisClusterCache, on_redis};
pub use memory::MemoryCache;

use crate::domain::{
    Applied, CountFill, Coverage, DataSubject, Deployment, EntryId, EntryView, LikeCount, Pair,
    Reading, Resource, UserId, Version, VersionedState,
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

/// The name of one lifetime of an entry: see [`UserEntry::fill`](crate::domain::UserEntry::fill). Unique for its entry only.
pub type Incarnation = u64;

/// The database's state of one resource after a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// The states of the commit's pairs.
    pub states: BTreeMap<UserId, VersionedState>,
    /// The like count.
    pub count: Option<LikeCount>,
}

/// Entries to fill, read before the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The incarnation and the coverage of each user entry.
    pub users: Vec<(Incarnation, Coverage)>,
    /// The incarnation of each unknown count; `None` for a known one.
    pub counts: Vec<Option<Incarnation>>,
}

/// Both entries of a pair, opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedPair {
    /// The incarnation and the coverage of the user entry.
    pub user: (Incarnation, Coverage),
    /// The incarnation of the count, if it is unknown.
    pub count: Option<Incarnation>,
}

/// The database's rows of a user whose entry the cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFilling {
    /// The user.
    pub user_id: UserId,
    /// The incarnation of the entry, read before the query.
    pub incarnation: Incarnation,
    /// [`Coverage::Complete`] if these are all rows of the user, otherwise [`Coverage::Partial`].
    pub coverage: Coverage,
    /// The states. [`VersionedState::NEVER`] for a pair without a row.
    pub rows: Vec<(Resource, VersionedState)>,
}

/// The database's count of a resource that the cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountFilling {
    /// The resource.
    pub resource: Resource,
    /// The incarnation of the unknown count, read before the query; zero for a known one.
    pub incarnation: Incarnation,
    /// The count.
    pub count: LikeCount,
}

/// Which fillings the cache took. An entry whose lifetime ended refuses its filling, so that the reader must query again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// For each user.
    pub users: Vec<bool>,
    /// For each count.
    pub counts: Vec<CountFill>,
    /// For each event that was applied after the fill; `None` if an entry refused its filling, so that it was not applied.
    pub applied: Vec<Option<Applied>>,
}

/// What a call of [`Cache::fill_and_apply`] fills, and which events it then applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filling {
    /// The users.
    pub users: Vec<UserFilling>,
    /// The counts.
    pub counts: Vec<CountFilling>,
    /// The events.
    pub events: Vec<(Pair, VersionedState)>,
}

/// The entries that refused their fillings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedEntries<'a> {
    users: BTreeSet<&'a UserId>,
    counts: BTreeSet<&'a Resource>,
}

impl Filling {
    /// Returns the entries that refused their fillings.
    #[must_use]
    pub fn refused_by(&self, filled: &Filled) -> RefusedEntries<'_> {
        let users = self.users.iter().zip(&filled.users);
        RefusedEntries {
            users: users
                .filter(|(_, taken)| !**taken)
                .map(|(filling, _)| &filling.user_id)
                .collect(),
            counts: self.counts_filled(filled, CountFill::Refused),
        }
    }

    /// Returns the resources of the counts that keep an earlier one.
    #[must_use]
    pub fn kept_by(&self, filled: &Filled) -> BTreeSet<&Resource> {
        self.counts_filled(filled, CountFill::Kept)
    }

    fn counts_filled(&self, filled: &Filled, fill: CountFill) -> BTreeSet<&Resource> {
        let counts = self.counts.iter().zip(&filled.counts);
        let counts = counts.filter(|(_, of_count)| **of_count == fill);
        counts.map(|(filling, _)| &filling.resource).collect()
    }
}

impl RefusedEntries<'_> {
    /// Returns whether this user's entry refused its filling.
    #[must_use]
    pub fn has_user(&self, user_id: &UserId) -> bool {
        self.users.contains(user_id)
    }

    /// Returns whether this resource's count refused its filling.
    #[must_use]
    pub fn has_count(&self, resource: &Resource) -> bool {
        self.counts.contains(resource)
    }

    /// Returns whether one of the entries of this pair refused its filling.
    #[must_use]
    pub fn has(&self, pair: &Pair) -> bool {
        self.has_user(&pair.user_id) || self.has_count(&pair.resource)
    }
}

/// One page of the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The entries; duplicates are possible.
    pub entries: Vec<EntryId>,
    /// The cursor of the next page; `None` at the end.
    pub cursor: Option<u64>,
}

/// The state of one master of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterState {
    /// Its host and port.
    pub address: String,
    /// Its slots, as ranges.
    pub slots: String,
    /// Whether it answers.
    pub is_up: bool,
}

/// The cache. Results are in the order of the arguments. `now` is the database's time.
pub trait Cache: Send + Sync {
    /// Succeeds if the cache accepts writes.
    fn ping(&self) -> CacheFuture<'_, ()>;

    /// Reads the likes of a user and the like counts of some resources, in one round trip. Without a user, `liked` is
    /// `None`.
    fn read<'a>(
        &'a self,
        user_id: Option<&'a UserId>,
        resources: &'a [Resource],
        now: Version,
    ) -> CacheFuture<'a, Vec<Reading>>;

    /// Applies accepted events. Opens the entries of each event whose answer needs a fill, as [`open`](Self::open) does.
    fn apply_and_open<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<(Applied, Option<OpenedPair>)>>;

    /// Applies accepted events.
    fn apply<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<Applied>> {
        Box::pin(async move {
            let applied = self.apply_and_open(events, now).await?;
            Ok(applied.into_iter().map(|(applied, _)| applied).collect())
        })
    }

    /// Settles the database's state after a commit.
    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
        now: Version,
    ) -> CacheFuture<'a, ()>;

    /// Reverts events that could not be made durable.
    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()>;

    /// Ensures that these entries exist, and returns what a fill needs.
    fn open<'a>(
        &'a self,
        users: &'a [UserId],
        resources: &'a [Resource],
    ) -> CacheFuture<'a, Opened>;

    /// Fills entries from a database read, and then applies events that waited for it, but not those whose entries refused
    /// their fillings.
    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled>;

    /// Returns up to `limit` events of a resource that are in flight and older than `before`, oldest first. Drops a count
    /// entry that has lost events in flight.
    fn overdue<'a>(
        &'a self,
        resource: &'a Resource,
        before: Version,
        limit: usize,
        now: Version,
    ) -> CacheFuture<'a, Vec<(UserId, Version)>>;

    /// Drops these entries, so that they are rebuilt from the database.
    fn drop_entries<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, ()>;

    /// Returns about `count` entries, from the cursor of an earlier page; zero starts at the beginning. An entry that exists
    /// during the whole scan is on some page.
    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned>;

    /// Returns the content of these entries; `None` for missing ones.
    fn inspect<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, Vec<Option<EntryView>>>;

    /// Returns whether each entry names this user or resource.
    fn name<'a>(
        &'a self,
        entries: &'a [EntryId],
        subject: &'a DataSubject,
    ) -> CacheFuture<'a, Vec<bool>>;

    /// Returns whether other processes use the same entries.
    fn is_shared(&self) -> bool {
        false
    }

    /// Drops every entry.
    fn clear(&self) -> CacheFuture<'_, ()>;

    /// Returns whether the cache restarted or refused writes since the last call, and may therefore have stale data.
    fn restarted(&self) -> CacheFuture<'_, bool>;

    /// Drops the entries that may be stale after [`restarted`](Self::restarted) has returned `true`. Returns their number;
    /// `None` if these are all.
    fn drop_stale(&self) -> CacheFuture<'_, Option<usize>> {
        Box::pin(async {
            self.clear().await?;
            Ok(None)
        })
    }

    /// Returns the masters of a cluster.
    fn masters(&self) -> Vec<MasterState> {
        Vec::new()
    }

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
