//! How the actors work: batch sizes, concurrency and intervals.

use std::time::Duration;

use super::PartialConfig;
use crate::domain::Backoff;

/// How the event publisher works.
#[derive(Debug, Clone, Copy)]
pub struct PublisherOptions {
    /// The limit of the events in one message.
    pub largest_batch: usize,
    /// How many such messages may be in flight.
    pub lanes: usize,
    /// How many more may be in flight while a full one waits, or beside one that is slow.
    pub spare_lanes: usize,
    /// How often a stream that is not ready is checked again.
    pub check_every: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            largest_batch: 256,
            // One at a time, so that messages grow under load. A lost acknowledgement holds up no other message.
            lanes: 1,
            spare_lanes: 1,
            check_every: Duration::from_millis(500),
        }
    }
}

/// How the NATS subscriber works.
#[derive(Debug, Clone, Copy)]
pub struct SubscriberOptions {
    /// The limit of the messages in one pull, and in one batch.
    pub largest_batch: usize,
    /// How many batches may be in flight.
    pub lanes: usize,
    /// How long one pull waits for messages.
    pub pull_for: Duration,
    /// The time from one batch to the next, unless a batch is full. Events that arrive meanwhile share a transaction.
    pub pace: Duration,
    /// How long a pull may stay silent beyond that before it is restarted.
    pub stalled_after: Duration,
    /// How long a message that could not be recorded waits for its next delivery.
    pub redeliver: Backoff,
    /// How often an event is retried that the database rejects, before it is quarantined.
    pub max_retries: u32,
    /// How long pulling pauses after messages could not be recorded.
    pub pause: Duration,
}

impl SubscriberOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        Self {
            largest_batch: config.batch_size().min(config.mailbox_capacity()),
            lanes: 4,
            pull_for: Duration::from_secs(2),
            pace: Duration::from_millis(20),
            stalled_after: Duration::from_secs(5),
            redeliver: Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(10),
            },
            max_retries: config.max_retries().unsigned_abs(),
            pause: Duration::from_millis(500),
        }
    }
}

/// How the behavior recorder works.
#[derive(Debug, Clone, Copy)]
pub struct RecorderOptions {
    /// The limit of the events in one transaction.
    pub largest_batch: usize,
    /// How many transactions may be in flight.
    pub lanes: usize,
    /// The duration of this process's lease on new ledger rows.
    pub lease: Duration,
    /// How many failed attempts a ledger row may have before it is dead.
    pub max_retries: i32,
    /// How long senders wait for the settlement of the cache.
    pub settled_within: Duration,
}

impl RecorderOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        Self {
            largest_batch: config.batch_size(),
            // One at a time, so that batches grow under load; recording and syncing overlap.
            lanes: 1,
            lease: Duration::from_secs(config.lease_seconds()),
            max_retries: config.max_retries(),
            settled_within: Duration::from_secs(config.read_timeout_seconds()),
        }
    }
}

/// How the sync publisher works.
#[derive(Debug, Clone, Copy)]
pub struct SyncOptions {
    /// The limit of the ledger rows in one transaction.
    pub largest_batch: usize,
    /// How many transactions may be in flight.
    pub lanes: usize,
    /// The wait between a failed attempt and the next.
    pub backoff: Backoff,
}

impl SyncOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        Self {
            largest_batch: config.batch_size(),
            // One at a time, so that batches grow under load; recording and syncing overlap.
            lanes: 1,
            backoff: Backoff {
                base: Duration::from_secs(1),
                cap: Duration::from_secs(300),
            },
        }
    }
}

/// How the retry scheduler works.
#[derive(Debug, Clone, Copy)]
pub struct RetryOptions {
    /// How often it looks for due rows.
    pub interval: Duration,
    /// The limit of the rows in one claim.
    pub largest_claim: usize,
    /// The duration of this process's lease on claimed rows.
    pub lease: Duration,
}

impl RetryOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        Self {
            interval: Duration::from_millis(500),
            largest_claim: config.batch_size().min(config.mailbox_capacity()),
            lease: Duration::from_secs(config.lease_seconds()),
        }
    }
}

/// How the idempotency keeper works.
#[derive(Debug, Clone, Copy)]
pub struct KeeperOptions {
    /// The limit of the requests in one transaction.
    pub largest_batch: usize,
    /// How long a request is reserved for the process that works on it.
    pub lease: Duration,
}

impl KeeperOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        Self {
            largest_batch: config.batch_size(),
            lease: Duration::from_secs(config.lease_seconds()),
        }
    }
}

/// How the cache writer works.
#[derive(Debug, Clone, Copy)]
pub struct CacheOptions {
    /// The limit of the messages in one round trip to the cache, and of the pairs in one read of the database.
    pub largest_batch: usize,
    /// How many writes of each kind may be in flight.
    pub lanes: usize,
    /// How many more may be in flight while a full one waits, or beside one that is slow.
    pub spare_lanes: usize,
    /// How many reads of the database may be in flight.
    pub lookup_lanes: usize,
    /// How often the cache writer checks whether the cache must be repaired.
    pub heal_every: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            largest_batch: 256,
            // One at a time, so that round trips carry more under load.
            lanes: 1,
            spare_lanes: 1,
            // Reads run side by side, on connections of their own.
            lookup_lanes: 2,
            heal_every: Duration::from_secs(1),
        }
    }
}
