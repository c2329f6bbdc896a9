//! What the API offers, without HTTP: accepting likes, reading and listing them. Called by `web/`; it talks to
//! the actors through their mailboxes, and reads the cache directly.

mod accept;
mod lists;
mod once;
mod read;

use std::sync::Arc;

use actor_kit::Mailbox;

use crate::actors::probe::DependenciesUnavailable;
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher, IdempotencyKeeper};
use crate::cache::Cache;
use crate::domain::{HybridClock, InFlight, ResourceTypes, Version};
use crate::store::Reader;

pub use accept::{Accepted, LikeRequest, NotAccepted};
pub use lists::{Liked, Listed, Page, Place};
pub use once::{Attempt, Keyed, NotOnce, Once};
pub use read::{Like, Lookups, NotRead};

/// The cheap handle in front of the pipeline.
#[derive(Clone)]
pub struct Likes {
    /// The resource types of the deployment.
    pub resource_types: ResourceTypes,
    /// Draws the versions of this process.
    pub clock: Arc<HybridClock>,
    /// The likes and unlikes that this process is working on.
    pub in_flight: Arc<InFlight>,
    /// Read directly; written only through the cache writer.
    pub cache: Arc<dyn Cache>,
    /// Reads lists; all else goes through the actors.
    pub reader: Reader,
    /// Permits for the look-ups of reads.
    pub lookups: Arc<Lookups>,
    /// Takes what the cache should hold.
    pub cache_writer: Mailbox<CacheWriter>,
    /// Takes what must be durable, if there is a broker.
    pub publisher: Option<Mailbox<EventPublisher>>,
    /// Takes what must be durable and cannot be published.
    pub recorder: Mailbox<BehaviorRecorder>,
    /// Keeps which requests were answered; on an api.
    pub keeper: Option<Mailbox<IdempotencyKeeper>>,
    /// Which parts are gone.
    pub gone: Arc<DependenciesUnavailable>,
}

impl Likes {
    /// Returns the resource types of the deployment.
    #[must_use]
    pub const fn resource_types(&self) -> &ResourceTypes {
        &self.resource_types
    }

    /// The moment that versions are drawn at: the database's time, which a step of this process's clock does not
    /// change.
    fn now(&self) -> Version {
        Version::at(self.reader.now())
    }
}
