//! Keeps the watched counts of a process current: from announcements on NATS, and from the database. `app/` runs it in each
//! process with an api.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, OptionFuture};
use tokio::time::{MissedTickBehavior, interval};

use super::hub::{AsOf, Hub};
use crate::domain::{CurrentDeployment, LikeCount, LiveState, Resource};
use crate::nats::{Announced, Announcements, Broker};
use crate::store::{Reader, StoreError, Wanted};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked};

/// The interval at which the feed looks for counts to check.
const TICK: Duration = Duration::from_secs(1);

/// The age at which a watched count is read from the database again: a process may end between a commit and its
/// announcement, and without NATS nobody announces the commits of other processes.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The most counts of one read.
const MOST: usize = 1_000;

/// How long the subscription stays without watchers.
const UNSUBSCRIBE_AFTER: Duration = Duration::from_secs(30);

/// The name of this work in the log.
const READING: &str = "reading watched counts";

/// The outcome of a read: the moment before it, what was asked, and the answer.
type Read = (
    AsOf,
    Vec<Resource>,
    Result<Vec<(Resource, LikeCount)>, StoreError>,
);

/// The feed of a process.
pub struct Feed {
    hub: Arc<Hub>,
    reader: Reader,
    broker: Option<Arc<Broker>>,
    deployment: CurrentDeployment,
    announcements: Option<Announcements>,
    /// How often the broker had connected when the counts were last checked because of that.
    connects: u64,
    /// Whether the next tick checks all counts.
    checks_again: bool,
    watched_at: Instant,
}

impl Feed {
    /// Returns the feed of this hub. Without a broker, it hears only of the commits of this process.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        reader: Reader,
        broker: Option<Arc<Broker>>,
        deployment: CurrentDeployment,
    ) -> Self {
        Self {
            hub,
            reader,
            broker,
            deployment,
            announcements: None,
            connects: 0,
            checks_again: false,
            watched_at: Instant::now(),
        }
    }

    /// Feeds the hub until the process ends.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading: Option<BoxFuture<'static, Read>> = None;
        // Whether known counts may be old.
        let mut is_old = false;
        loop {
            // Whether counts may be unknown. After a failed read, the next tick tries again.
            let is_due = tokio::select! {
                announced = next(&mut self.announcements) => {
                    self.take(announced);
                    continue;
                }
                () = self.hub.unknown() => true,
                _ = tick.tick() => {
                    is_old = true;
                    if std::mem::take(&mut self.checks_again) {
                        self.hub.suspect();
                    }
                    true
                }
                Some(read) = OptionFuture::from(reading.as_mut()) => {
                    reading = None;
                    self.checked(read)
                }
            };
            self.follow().await;
            if reading.is_none() && is_due {
                // One read a second is enough for old counts, so that many of them do not load the database.
                let age = std::mem::take(&mut is_old).then_some(CHECK_EVERY);
                reading = self.read_due(age);
            }
        }
    }

    /// Shows announced counts, unless they are of another database or of the time before a backup was restored.
    fn take(&mut self, announced: Option<Announced>) {
        let Some(announced) = announced else {
            self.announcements = None;
            return;
        };
        if self.deployment.get().as_deref() == Some(&announced.deployment) {
            let counts = announced.counts.iter();
            self.hub
                .publish(counts.map(|(resource, count)| (resource, *count)));
        }
    }

    /// Follows the generation of the data, the watchers and the connection to the broker.
    async fn follow(&mut self) {
        if let Some(deployment) = self.deployment.get() {
            self.hub.follow(&deployment.generation);
        }
        let Some(broker) = &self.broker else {
            return;
        };
        if !self.hub.is_watched() {
            if self.watched_at.elapsed() >= UNSUBSCRIBE_AFTER {
                self.announcements = None;
            }
            return;
        }
        self.watched_at = Instant::now();
        let (was_subscribed, connects) = (self.announcements.is_some(), broker.connects());
        if !was_subscribed {
            self.announcements = broker.announcements().await.ok();
        }
        // What was announced while the server did not know of the subscription is in the database. The server learns of it a
        // moment later, so the counts are checked again at the next tick.
        if !was_subscribed || self.connects != connects {
            self.connects = connects;
            self.hub.suspect();
            self.checks_again = true;
        }
    }

    /// Starts to read counts that are unknown, or were last read so long ago.
    fn read_due(&self, age: Option<Duration>) -> Option<BoxFuture<'static, Read>> {
        if !self.hub.is_watched() {
            return None;
        }
        let due = self.hub.due(age, MOST);
        if due.is_empty() {
            return None;
        }
        let (as_of, reader) = (self.hub.as_of(), self.reader.clone());
        Some(Box::pin(async move {
            let resources: BTreeSet<Resource> = due.iter().cloned().collect();
            let wanted = Wanted {
                resources,
                ..Wanted::default()
            };
            let read =
                reader.read(move |store| async move { store.load_entries(&wanted, 0).await });
            let counts = read
                .await
                .map(|loaded| loaded.found.counts.into_iter().collect());
            (as_of, due, counts)
        }))
    }

    /// Shows what the database told. Returns whether it answered.
    fn checked(&self, (as_of, asked, counts): Read) -> bool {
        let counts = match counts {
            Ok(counts) => counts,
            Err(error) => {
                DependencyFailed {
                    dependency: Dependency::Database,
                    doing: READING,
                    error: &error,
                }
                .emit_if(error.is_news());
                return false;
            }
        };
        DependencyWorked {
            dependency: Dependency::Database,
            doing: READING,
        }
        .emit();
        let erasures = self.reader.erasures();
        let states = asked.iter().map(|resource| {
            if erasures.has_resource(resource) {
                return (resource, LiveState::Erased);
            }
            let place = counts.binary_search_by(|(other, _)| other.cmp(resource));
            let count = place.ok().and_then(|place| counts.get(place));
            let count = count.map_or(LikeCount::NEVER, |(_, count)| *count);
            (resource, LiveState::Counted(count))
        });
        self.hub.checked(&as_of, states);
        true
    }
}

/// Waits for the next announcement; for ever without a subscription.
async fn next(announcements: &mut Option<Announcements>) -> Option<Announced> {
    match announcements {
        Some(announcements) => announcements.next().await,
        None => std::future::pending().await,
    }
}
