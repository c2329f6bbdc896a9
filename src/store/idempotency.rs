//! Requests that are done once; a part of [`Store`](super::Store).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::StoreFuture;
use crate::domain::{KeyedRequest, Started};

/// A request that was worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its place in the table.
    pub id: String,
    /// The attempt that worked on it.
    pub holder: Uuid,
    /// What was answered; `None` if the request may be made again.
    pub answer: Option<String>,
}

/// Requests with an `Idempotency-Key`.
pub trait IdempotencyKeys: Send + Sync {
    /// Takes requests to work on, until the lease ends; answers for each of them whether it got it. To call
    /// this again with the same attempts changes nothing.
    fn begin_requests<'a>(
        &'a self,
        requests: &'a [KeyedRequest],
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> StoreFuture<'a, Vec<Started>>;

    /// Keeps the answers of requests; of those that another attempt has taken since, nothing.
    fn end_requests<'a>(
        &'a self,
        ended: &'a [StoredResponse],
        now: DateTime<Utc>,
    ) -> StoreFuture<'a, ()>;

    /// Forgets requests that came before this moment, at most `limit` of them; answers how many.
    fn prune_requests(&self, before: DateTime<Utc>, limit: usize) -> StoreFuture<'_, usize>;
}
