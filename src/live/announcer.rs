//! Announces changed counts after a commit: to the watchers of this process at once, and on NATS together with those of the
//! commits around it. The sync publisher calls [`Announcer`]; jobs and imports, whose commits are large, call [`announce`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::hub::Hub;
use crate::domain::{LikeCount, NewestCounts, Resource};
use crate::nats::Broker;
use crate::store::Settled;
use crate::telemetry::{CountsAnnounced, Dependency, DependencyFailed, DependencyWorked};

/// The pause after a message. A lone change is announced at once, and those of a busy moment share a message.
const PACE: Duration = Duration::from_millis(25);

/// The interval at which an announcer without a connection tries again.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// How long a shutdown waits for the last message.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The name of this work in the log.
const ANNOUNCING: &str = "announcing counts";

/// Announces the changed counts of a process.
#[derive(Default)]
pub struct Announcer {
    hub: Option<Arc<Hub>>,
    broker: Option<Arc<Broker>>,
    waiting: Mutex<NewestCounts>,
    added: Notify,
}

impl Announcer {
    /// Returns an announcer to the watchers of this hub, and on this broker.
    #[must_use]
    pub fn new(hub: Option<Arc<Hub>>, broker: Option<Arc<Broker>>) -> Self {
        Self {
            hub,
            broker,
            ..Self::default()
        }
    }

    /// Announces the counts that a commit has changed, without waiting.
    pub fn announce(&self, settled: &Settled) {
        if settled.changed.is_empty() {
            return;
        }
        if let Some(hub) = &self.hub {
            hub.publish(changed(settled));
        }
        if self.broker.is_some() {
            let mut waiting = self.waiting();
            for (resource, count) in changed(settled) {
                waiting.add(resource, count);
            }
            drop(waiting);
            self.added.notify_one();
        }
    }

    /// Publishes what waits, until the process ends.
    pub async fn run(self: Arc<Self>) {
        let Some(broker) = &self.broker else {
            return;
        };
        loop {
            self.added.notified().await;
            while !self.waiting().is_empty() {
                let pause = match broker.is_connected() {
                    true => {
                        self.publish(broker).await;
                        PACE
                    }
                    false => RETRY_EVERY,
                };
                sleep(pause).await;
            }
        }
    }

    /// Publishes what waits, at the end of the process.
    pub async fn finish(&self) {
        if let Some(broker) = self.broker.as_ref().filter(|broker| broker.is_connected()) {
            let last = async {
                self.publish(broker).await;
                broker.flush().await
            };
            // Whoever watches these counts reads the database some seconds later.
            let _ = timeout(FLUSH_TIMEOUT, last).await;
        }
    }

    async fn publish(&self, broker: &Broker) {
        let counts = self.waiting().take();
        publish(
            broker,
            counts.iter().map(|(resource, count)| (resource, *count)),
        )
        .await;
    }

    fn waiting(&self) -> MutexGuard<'_, NewestCounts> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces the counts that a large commit has changed on NATS, if it is connected.
pub(crate) async fn announce(broker: Option<&Arc<Broker>>, settled: &Settled) {
    if let Some(broker) = broker.filter(|broker| broker.is_connected()) {
        publish(broker, changed(settled)).await;
    }
}

async fn publish<'a>(
    broker: &Broker,
    counts: impl Iterator<Item = (&'a Resource, LikeCount)> + Clone,
) {
    let announced = counts.clone().count();
    match broker.announce(counts).await {
        Ok(()) => {
            CountsAnnounced { counts: announced }.emit();
            DependencyWorked {
                dependency: Dependency::Broker,
                doing: ANNOUNCING,
            }
            .emit();
        }
        Err(error) => DependencyFailed {
            dependency: Dependency::Broker,
            doing: ANNOUNCING,
            error: &error,
        }
        .emit(),
    }
}

/// Returns the counts that a commit has changed.
fn changed(settled: &Settled) -> impl Iterator<Item = (&Resource, LikeCount)> + Clone {
    settled.changed.iter().filter_map(|resource| {
        let count = settled.counts.get(resource)?;
        Some((resource, *count))
    })
}
