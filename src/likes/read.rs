//! Reads likes from the cache, and entries that the cache lacks from the database. `web/` calls it.

use std::collections::BTreeSet;
use std::time::Duration;

use actor_kit::{Actor as _, Refused};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Likes;
use crate::actors::CacheWriter;
use crate::domain::{BehaviorCounts, FailureKind, Reading, Resource, UserId};
use crate::messages::{Lookup, Reconcile};
use crate::store::StoreError;
use crate::telemetry::{CacheRead, Dependency, DependencyFailed};

/// The like of a user and the like count of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Like {
    /// Whether the user likes it; `None` without a user.
    pub liked: Option<bool>,
    /// The number of users who like it; `None` if that is unknown.
    pub like_count: Option<i64>,
}

/// Why likes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// Too many reads wait for the database.
    #[error("{0}")]
    Overloaded(Refused),
    /// The cache does not hold the like, and the database does not answer.
    #[error("the cache does not hold this like, and the database does not answer now")]
    Unknown,
    /// The database, the only source of lists and counts by behavior, does not answer.
    #[error("the database, the only source of lists and counts by behavior, does not answer now")]
    Unavailable,
    /// The database holds an invalid value.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for NotRead {
    /// Logs the cause, which the answer omits.
    fn from(error: StoreError) -> Self {
        match error.kind() {
            FailureKind::Invalid => Self::Internal(error.to_string()),
            FailureKind::Infrastructure | FailureKind::Rejected => {
                DependencyFailed {
                    dependency: Dependency::Database,
                    doing: "reading likes from the database",
                    error: &error,
                }
                .emit_if(error.is_news());
                Self::Unavailable
            }
        }
    }
}

/// Permits for look-ups: half of the cache writer's mailbox, so that reads cannot crowd out likes. Pages of a hundred
/// items on some hundred connections need more at once. Such reads wait for permits, because they are no overload.
#[derive(Debug)]
pub struct Lookups {
    permits: Semaphore,
    capacity: usize,
    wait: Duration,
}

impl Lookups {
    /// Returns the permits for a mailbox of this capacity. A read waits at most `wait` for its permits.
    #[must_use]
    pub fn new(mailbox_capacity: usize, wait: Duration) -> Self {
        let capacity = (mailbox_capacity / 2).max(1);
        Self {
            permits: Semaphore::new(capacity),
            capacity,
            wait,
        }
    }

    /// Waits for a permit for each look-up. More look-ups than there are permits take all of them.
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
    /// Reads the like of a user and the like count of a resource, or without a user the count alone.
    ///
    /// # Errors
    /// If neither the cache nor the database answers: a read never guesses.
    pub async fn read(
        &self,
        user_id: Option<&UserId>,
        resource: Resource,
    ) -> Result<Like, NotRead> {
        let likes = self.read_all(user_id, &[resource]).await?;
        likes.first().copied().ok_or(NotRead::Unknown)
    }

    /// Reads the like count of a resource.
    ///
    /// # Errors
    /// If neither the cache nor the database answers: a read never guesses.
    pub async fn count(&self, resource: Resource) -> Result<i64, NotRead> {
        let like = self.read(None, resource).await?;
        like.like_count.ok_or(NotRead::Unknown)
    }

    /// Reads the counts by behavior of several resources from the database. The answer is in the order of the resources, which
    /// may repeat. An erased resource has none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn behavior_counts(
        &self,
        resources: &[Resource],
    ) -> Result<Vec<BehaviorCounts>, NotRead> {
        let kept = |resource: &&Resource| !self.erasures().has_resource(resource);
        let wanted: BTreeSet<Resource> = resources.iter().filter(kept).cloned().collect();
        let read = self
            .reader
            .read(move |store| async move { store.behavior_counts(&wanted).await });
        let found = read.await?;
        let counts = |resource| found.get(resource).copied().unwrap_or_default();
        Ok(resources.iter().map(counts).collect())
    }

    /// Reads a user's likes and the like counts of several resources, in one round trip if the cache holds them all.
    /// The answer is in the order of the resources, which may repeat.
    ///
    /// # Errors
    /// If neither the cache nor the database answers for one of them: a read never guesses.
    pub async fn read_all(
        &self,
        user_id: Option<&UserId>,
        resources: &[Resource],
    ) -> Result<Vec<Like>, NotRead> {
        let now = self.now();
        // A failed read counts as an empty one: the look-up that follows meets and reports the failure.
        let read = self.cache.read(user_id, resources, now).await;
        let mut readings = read.unwrap_or_default();
        readings.resize(resources.len(), Reading::default());
        self.reconcile(user_id, resources, &readings);
        let is_complete =
            |reading: &Reading| is_known(user_id, reading) && reading.like_count.is_some();
        let hits = readings
            .iter()
            .filter(|reading| is_complete(reading))
            .count();
        CacheRead {
            hits,
            misses: readings.len() - hits,
        }
        .emit();
        if hits < readings.len() {
            let missing = resources.iter().zip(&mut readings);
            let missing = missing.filter(|(_, reading)| !is_complete(reading));
            self.look_up(user_id, missing.collect()).await?;
        }
        if !readings.iter().all(|reading| is_known(user_id, reading)) {
            return Err(NotRead::Unknown);
        }
        let like = |reading: &Reading| Like {
            liked: reading.liked,
            like_count: reading.like_count,
        };
        Ok(readings.iter().map(like).collect())
    }

    /// Has the cache writer compare events that have been in flight for too long with the database. The answer does not wait
    /// for it.
    fn reconcile(&self, user_id: Option<&UserId>, resources: &[Resource], readings: &[Reading]) {
        let overdue = resources.iter().zip(readings);
        let overdue = overdue.filter(|(_, reading)| reading.is_overdue);
        let resources: Vec<Resource> = overdue.map(|(resource, _)| resource.clone()).collect();
        if !resources.is_empty() {
            // If the mailbox is full, the next reader asks again.
            let _ = self.cache_writer.ask(Reconcile {
                user_id: user_id.cloned(),
                resources,
            });
        }
    }

    /// Looks up what the cache lacks, each resource once.
    async fn look_up(
        &self,
        user_id: Option<&UserId>,
        mut missing: Vec<(&Resource, &mut Reading)>,
    ) -> Result<(), NotRead> {
        let resources: BTreeSet<&Resource> =
            missing.iter().map(|(resource, _)| *resource).collect();
        let resources: Vec<Resource> = resources.into_iter().cloned().collect();
        let _permits = self.lookups.reserve(resources.len()).await?;
        let is_user_unknown = missing.iter().any(|(_, reading)| reading.liked.is_none());
        let found = self.cache_writer.ask(Lookup {
            user_id: user_id.filter(|_| is_user_unknown).cloned(),
            resources: resources.clone(),
        });
        let found = found
            .map_err(NotRead::Overloaded)?
            .await
            .unwrap_or_default();
        for (resource, reading) in &mut missing {
            let place = resources.binary_search(resource).ok();
            if let Some(found) = place.and_then(|place| found.get(place)) {
                reading.liked = found.liked.or(reading.liked);
                reading.like_count = found.like_count.or(reading.like_count);
            }
        }
        Ok(())
    }
}

/// Whether a reading suffices for the answer: it needs the user's like, or without a user the count.
const fn is_known(user_id: Option<&UserId>, reading: &Reading) -> bool {
    match user_id {
        Some(_) => reading.liked.is_some(),
        None => reading.like_count.is_some(),
    }
}
