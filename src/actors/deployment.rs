//! Keeps the identity of the deployment current: counts heartbeats, and notices that the database was restored from an
//! earlier state, because cache or stream remember a later heartbeat. `app/` runs [`DeploymentWatch::watch`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::domain::deployment::is_restored;
use crate::domain::{CurrentDeployment, Deployment};
use crate::nats::Broker;
use crate::store::{Store, StoreError};
use crate::telemetry::{CacheShared, DatabaseRestored, GenerationChanged};

/// The interval between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(2);

/// The interval at which the consumer remembers a heartbeat. Each is a change of the consumer.
const NOTE_AT_BROKER_EVERY: Duration = Duration::from_secs(60);

/// The longest wait for an answer of NATS.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// The heartbeat of this process.
pub struct DeploymentWatch {
    store: Arc<Store>,
    cache: Arc<dyn Cache>,
    broker: Option<Arc<Broker>>,
    current: CurrentDeployment,
    /// The last heartbeat that this process counted, and its generation.
    last: Option<(Deployment, i64)>,
    /// Whether the heartbeat at the consumer was read, which no other process of this generation lowers.
    asked_broker: bool,
    noted_at_broker: Option<Instant>,
    /// The deployment that was last reported to share the cache.
    shared_with: Option<String>,
}

/// What is known of the heartbeats before this one.
struct Remembered {
    latest: Option<i64>,
    /// Whether the cache answered.
    in_cache: bool,
}

impl DeploymentWatch {
    /// Creates the heartbeat of a process with these dependencies.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        cache: Arc<dyn Cache>,
        broker: Option<Arc<Broker>>,
        current: CurrentDeployment,
    ) -> Self {
        Self {
            store,
            cache,
            broker,
            current,
            last: None,
            asked_broker: false,
            noted_at_broker: None,
            shared_with: None,
        }
    }

    /// Sends heartbeats until the process ends. A database that cannot be reached is reported elsewhere.
    pub async fn watch(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let _ = self.beat().await;
        }
    }

    /// Works under the deployment that the stream names, until the database answers.
    pub async fn assume(&self) {
        if self.current.get().is_some() {
            return;
        }
        let Some(broker) = self.broker.as_ref().filter(|broker| broker.is_connected()) else {
            return;
        };
        let only = tokio::time::timeout(BROKER_TIMEOUT, broker.only_deployment()).await;
        if let Ok(Ok(Some(only))) = only {
            self.current.set(&only);
        }
    }

    /// Counts a heartbeat, and brings the identity of this process up to date.
    ///
    /// # Errors
    /// If the database cannot be reached. The identity stays then.
    pub async fn beat(&mut self) -> Result<(), StoreError> {
        let known = self.store.deployment().await?;
        // Before the heartbeat is counted: what is remembered now was counted before.
        let Remembered { latest, in_cache } = self.remembered(&known).await;
        let (mut found, mut beat) = self.store.beat().await?;
        if found == known && is_restored(beat, latest) {
            found = self.store.start_generation(&known).await?;
            DatabaseRestored {
                before: &known.generation,
                generation: &found.generation,
            }
            .emit();
            (found, beat) = self.store.beat().await?;
        }
        self.adopt(&found).await;
        self.note(&found, beat, in_cache).await;
        self.last = Some((found, beat));
        Ok(())
    }

    /// Returns the latest heartbeat of this generation that this process, the cache or the consumer remembers.
    async fn remembered(&mut self, known: &Deployment) -> Remembered {
        let own = self.last.as_ref().filter(|(last, _)| last == known);
        let own = own.map(|(_, beat)| *beat);
        let cached = self.cache.last_beat(known).await;
        let mut consumed = None;
        if let Some(broker) = &self.broker
            && broker.is_connected()
            && !self.asked_broker
        {
            let asked = tokio::time::timeout(BROKER_TIMEOUT, broker.last_beat(known)).await;
            if let Ok(Ok(beat)) = asked {
                consumed = beat;
                self.asked_broker = true;
            }
        }
        Remembered {
            in_cache: cached.is_ok(),
            latest: own.max(cached.unwrap_or_default()).max(consumed),
        }
    }

    /// Sets the identity of this process.
    async fn adopt(&mut self, found: &Deployment) {
        let Some(before) = self.current.set(found) else {
            return;
        };
        GenerationChanged {
            before: &before.generation,
            generation: &found.generation,
        }
        .emit();
        // A cache in the process has no names. A failed call leaves entries of the new generation, which are right.
        let _ = self.cache.clear().await;
    }

    /// Lets cache and consumer remember the heartbeat, unless what they remember could not be read: a new heartbeat would
    /// replace a later one.
    async fn note(&mut self, found: &Deployment, beat: i64, in_cache: bool) {
        if in_cache
            && let Ok(Some(other)) = self.cache.note_beat(found, beat).await
            && self.shared_with.as_ref() != Some(&other)
        {
            CacheShared { other: &other }.emit();
            self.shared_with = Some(other);
        }
        let is_due = self
            .noted_at_broker
            .is_none_or(|noted| noted.elapsed() >= NOTE_AT_BROKER_EVERY);
        if let Some(broker) = &self.broker
            && broker.is_ready()
            && self.asked_broker
            && is_due
            && broker.note_beat(found, beat).await.is_ok()
        {
            self.noted_at_broker = Some(Instant::now());
        }
    }
}
