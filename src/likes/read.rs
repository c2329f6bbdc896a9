//! Reading likes: from the cache, and from the database what the cache cannot tell.

use std::collections::BTreeMap;
use std::time::Duration;

use actor_kit::{Actor as _, Refused};
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Likes;
use crate::actors::CacheWriter;
use crate::domain::{FailureKind, Pair, Reading, Resource, UserId};
use crate::messages::{Known, Lookup};
use crate::store::StoreError;
use crate::telemetry::{Dependency, DependencyFailed};

/// Whether a user likes a resource, and how many do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Like {
    /// Whether the user likes it.
    pub liked: bool,
    /// How many users like it; `None` if that cannot be told now.
    pub like_count: Option<i64>,
}

/// Why likes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// More is waiting than may wait.
    #[error("{0}")]
    Overloaded(Refused),
    /// The cache does not know, and the database cannot be asked.
    #[error("the cache does not know this like, and the database cannot be asked now")]
    Unknown,
    /// The database, which alone knows, cannot be asked.
    #[error("the database, which alone knows this, cannot be asked now")]
    Unavailable,
    /// The database holds what it should not.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for NotRead {
    /// Logs what the answer does not say.
    fn from(error: StoreError) -> Self {
        match error.kind() {
            FailureKind::Invalid => Self::Internal(error.to_string()),
            FailureKind::Infrastructure | FailureKind::Rejected => {
                if error.is_news() {
                    DependencyFailed {
                        dependency: Dependency::Database,
                        doing: "reading likes from the database",
                        error: &error,
                    }
                    .emit();
                }
                Self::Unavailable
            }
        }
    }
}

/// Permits for look-ups: half of the cache writer's mailbox, so that reads cannot crowd out likes. Pages of a hundred
/// items on some hundred connections need more than that at the same time. They are no overload: they wait.
#[derive(Debug)]
pub struct Lookups {
    permits: Semaphore,
    capacity: usize,
    wait: Duration,
}

impl Lookups {
    /// Returns the permits for a mailbox of this capacity. A read waits so long for its permits.
    #[must_use]
    pub fn new(mailbox_capacity: usize, wait: Duration) -> Self {
        let capacity = (mailbox_capacity / 2).max(1);
        Self {
            permits: Semaphore::new(capacity),
            capacity,
            wait,
        }
    }

    /// Waits for permits for so many look-ups. More look-ups than there are permits take all of them.
    async fn reserve(&self, pairs: usize) -> Result<SemaphorePermit<'_>, NotRead> {
        let pairs = u32::try_from(pairs.min(self.capacity)).unwrap_or(u32::MAX);
        let permits = self.permits.acquire_many(pairs);
        match tokio::time::timeout(self.wait, permits).await {
            Ok(Ok(permits)) => Ok(permits),
            _ => Err(NotRead::Overloaded(Refused::Full(CacheWriter::NAME))),
        }
    }
}

impl Likes {
    /// Reads a like.
    ///
    /// # Errors
    /// If nothing that can be reached knows it: an answer is never a guess.
    pub async fn read(&self, user_id: UserId, resource: Resource) -> Result<Like, NotRead> {
        let likes = self.read_all(user_id, &[resource]).await?;
        likes.first().copied().ok_or(NotRead::Unknown)
    }

    /// Reads a user's likes of several resources, in one round trip to the cache if that knows them all;
    /// answers in the order of the resources, one of which may come more than once.
    ///
    /// # Errors
    /// If nothing that can be reached knows one of them: an answer is never a guess.
    pub async fn read_all(
        &self,
        user_id: UserId,
        resources: &[Resource],
    ) -> Result<Vec<Like>, NotRead> {
        let pair = |resource: &Resource| Pair {
            resource: *resource,
            user_id,
        };
        let pairs: Vec<Pair> = resources.iter().map(pair).collect();
        // A cache that cannot be read knows nothing; the cache writer reports it when it fails there.
        let mut readings = self.cache.read(&pairs).await.unwrap_or_default();
        readings.resize(pairs.len(), Reading::default());
        if readings.iter().any(|reading| like(reading).is_none()) {
            self.look_up(&pairs, &mut readings).await?;
        }
        let likes: Option<Vec<Like>> = readings.iter().map(known).collect();
        likes.ok_or(NotRead::Unknown)
    }

    /// Asks for what the cache does not know, each pair once.
    async fn look_up(&self, pairs: &[Pair], readings: &mut [Reading]) -> Result<(), NotRead> {
        let mut missing: BTreeMap<Pair, Option<Known>> = BTreeMap::new();
        for (pair, reading) in pairs.iter().zip(readings.iter()) {
            if like(reading).is_none() {
                missing.insert(*pair, None);
            }
        }
        let _permits = self.lookups.reserve(missing.len()).await?;
        let mut asked = Vec::with_capacity(missing.len());
        for pair in missing.keys().copied() {
            let known = self.cache_writer.ask(Lookup { pair });
            let known = known.map_err(NotRead::Overloaded)?;
            asked.push(async move { Ok::<_, NotRead>((pair, known.await.ok().flatten())) });
        }
        missing.extend(try_join_all(asked).await?);
        for (pair, reading) in pairs.iter().zip(readings.iter_mut()) {
            if let Some(Some(known)) = missing.get(pair) {
                reading.liked = Some(known.liked);
                reading.like_count = known.like_count;
            }
        }
        Ok(())
    }
}

/// What a reading tells, if it tells all.
fn like(reading: &Reading) -> Option<Like> {
    reading.like_count.and(known(reading))
}

/// What a reading tells, perhaps without the count.
fn known(reading: &Reading) -> Option<Like> {
    reading.liked.map(|liked| Like {
        liked,
        like_count: reading.like_count,
    })
}
