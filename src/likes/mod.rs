//! The use cases of the like API, without HTTP: accept, read and list likes. Called by `web/`; it sends messages to
//! the actors, and reads the cache directly.

mod accept;
mod draft;
mod lists;
mod once;
mod read;
mod uncancelled;

use std::sync::Arc;

use actor_kit::Mailbox;

use crate::actors::probe::DependenciesUnavailable;
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher, IdempotencyKeeper};
use crate::cache::Cache;
use crate::domain::{HybridClock, InFlight, ResourceTypes, Version};
use crate::store::{Erasures, Reader};

pub use accept::{Accepted, NotAccepted};
pub use draft::LikeRequest;
pub use lists::{Liked, Listed, Page, Place};
pub use once::{Attempt, Keyed, NotOnce, Once};
pub use read::{Like, Lookups, NotRead};

/// What the use cases need of the pipeline.
pub struct Likes {
    /// The resource types of the deployment.
    pub resource_types: ResourceTypes,
    /// Draws the versions of this process.
    pub clock: Arc<HybridClock>,
    /// The likes and unlikes that this process is working on.
    pub in_flight: Arc<InFlight>,
    /// The cache, for reads; only the cache writer writes it.
    pub cache: Arc<dyn Cache>,
    /// Reads lists from the database.
    pub reader: Reader,
    /// Permits for the look-ups of reads.
    pub lookups: Arc<Lookups>,
    /// Applies events to the cache, and loads missing entries.
    pub cache_writer: Mailbox<CacheWriter>,
    /// Publishes events; `None` without a broker.
    pub publisher: Option<Mailbox<EventPublisher>>,
    /// Records events that cannot be published.
    pub recorder: Mailbox<BehaviorRecorder>,
    /// Stores the answers to requests with an `Idempotency-Key`; `None` on a worker.
    pub keeper: Option<Mailbox<IdempotencyKeeper>>,
    /// The dependencies that were down at the last probe.
    pub gone: Arc<DependenciesUnavailable>,
}

impl Likes {
    /// Returns the resource types of the deployment.
    #[must_use]
    pub const fn resource_types(&self) -> &ResourceTypes {
        &self.resource_types
    }

    /// Returns the erasures that this process knows of.
    #[must_use]
    pub fn erasures(&self) -> &Erasures {
        self.reader.erasures()
    }

    /// Returns the database's time, at which versions are drawn. A step of this process's clock does not change it.
    fn now(&self) -> Version {
        Version::at(self.reader.now())
    }
}
