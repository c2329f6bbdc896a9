//! The counts that this process watches: the newest state of each, and who watches it. A watcher that does not read costs
//! nothing and delays nobody, because the states wait here, and each replaces the one before. `watch.rs` has the watchers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use crate::domain::{Id, LikeCount, LiveEpoch, LivePosition, LiveState, Resource, ResourceType};

/// The watched counts of a process.
#[derive(Debug)]
pub struct Hub {
    watched: Mutex<HashMap<Resource, Arc<Watched>, foldhash::fast::RandomState>>,
    /// The number of watched resources.
    size: AtomicUsize,
    epoch: RwLock<LiveEpoch>,
    /// Whether events have ids that are numbers as text.
    ids_as_text: bool,
    /// The number that the next watcher gets.
    next_watcher: AtomicU64,
    /// Notified when a resource is watched whose count is unknown.
    unknown: Notify,
    /// How often changes may have been missed.
    suspicions: AtomicU64,
}

/// A moment before the database is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AsOf {
    epoch: LiveEpoch,
    suspicions: u64,
}

/// A watched resource.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<WatchedState>);

#[derive(Debug, Default)]
pub(super) struct WatchedState {
    /// The newest state; `None` while it is unknown.
    pub(super) newest: Option<Newest>,
    watchers: HashMap<u64, Arc<Notify>, foldhash::fast::RandomState>,
    /// When the database last told the count, or is asked again if that is unset.
    checked: Option<Instant>,
}

/// The newest state of a resource.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) position: LivePosition,
    /// The fields of its event.
    pub(super) fields: Bytes,
}

impl Watched {
    pub(super) fn lock(&self) -> MutexGuard<'_, WatchedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data of an event.
#[derive(Serialize)]
struct EventJson<'a> {
    resource_type: ResourceType,
    resource_id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    like_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
}

impl Hub {
    /// Returns a hub without watchers.
    #[must_use]
    pub fn new(ids_as_text: bool) -> Self {
        Self {
            watched: Mutex::default(),
            size: AtomicUsize::new(0),
            epoch: RwLock::default(),
            ids_as_text,
            next_watcher: AtomicU64::new(0),
            unknown: Notify::new(),
            suspicions: AtomicU64::new(0),
        }
    }

    /// Adds a watcher of these resources. Returns its number and what is known of them.
    pub(super) fn join(
        &self,
        resources: &[Resource],
        changed: &Arc<Notify>,
    ) -> (u64, Vec<(Resource, Arc<Watched>)>) {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let mut watched = self.lock();
        let mut is_unknown = false;
        let mut watch = |resource: &Resource| {
            let one = Arc::clone(watched.entry(resource.clone()).or_default());
            let mut state = one.lock();
            is_unknown |= state.newest.is_none();
            state.watchers.insert(id, Arc::clone(changed));
            drop(state);
            (resource.clone(), one)
        };
        let watching = resources.iter().map(&mut watch).collect();
        self.size.store(watched.len(), Ordering::Relaxed);
        drop(watched);
        if is_unknown {
            self.unknown.notify_one();
        }
        (id, watching)
    }

    /// Returns whether a resource is watched.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.size.load(Ordering::Relaxed) > 0
    }

    /// Shows these counts of the database to their watchers, unless newer ones are known.
    pub fn publish<'a>(&self, counts: impl IntoIterator<Item = (&'a Resource, LikeCount)>) {
        if !self.is_watched() {
            return;
        }
        let epoch = self.epoch();
        let watched = self.lock();
        for (resource, count) in counts {
            if let Some(one) = watched.get(resource) {
                self.show(&mut one.lock(), &epoch, resource, LiveState::Counted(count));
            }
        }
    }

    /// Returns the present moment, before the database is asked.
    pub(super) fn as_of(&self) -> AsOf {
        AsOf {
            suspicions: self.suspicions.load(Ordering::SeqCst),
            epoch: self.epoch(),
        }
    }

    /// Shows what the database tells of these resources, as of the moment before it was asked. If changes may have been missed
    /// since then, the database is asked again.
    pub(super) fn checked<'a>(
        &self,
        AsOf { epoch, suspicions }: &AsOf,
        states: impl IntoIterator<Item = (&'a Resource, LiveState)>,
    ) {
        let now = Instant::now();
        let watched = self.lock();
        let is_current = self.suspicions.load(Ordering::SeqCst) == *suspicions;
        for (resource, found) in states {
            if let Some(one) = watched.get(resource) {
                let mut state = one.lock();
                if is_current {
                    state.checked = Some(now);
                }
                self.show(&mut state, epoch, resource, found);
            }
        }
    }

    fn show(
        &self,
        state: &mut WatchedState,
        epoch: &LiveEpoch,
        resource: &Resource,
        found: LiveState,
    ) {
        let position = epoch.position(found);
        if state
            .newest
            .as_ref()
            .is_some_and(|newest| newest.position >= position)
        {
            return;
        }
        let fields = fields(resource, found, self.ids_as_text);
        state.newest = Some(Newest { position, fields });
        for watcher in state.watchers.values() {
            watcher.notify_one();
        }
    }

    /// Waits until a resource is watched whose count is unknown.
    pub(super) async fn unknown(&self) {
        self.unknown.notified().await;
    }

    /// Returns up to `most` watched resources that the database should be asked for: those whose count is unknown, for which a
    /// watcher waits; then suspect ones; then those that were last checked so long ago, the oldest first, so that each has its
    /// turn.
    pub(super) fn due(&self, age: Option<Duration>, most: usize) -> Vec<Resource> {
        let now = Instant::now();
        let watched = self.lock();
        let turn = |one: &Watched| {
            let state = one.lock();
            (state.newest.is_some(), state.checked)
        };
        let is_due = |(is_known, checked): &(bool, Option<Instant>)| match checked {
            Some(checked) if *is_known => {
                age.is_some_and(|age| now.duration_since(*checked) >= age)
            }
            _ => true,
        };
        let turns = watched.iter().map(|(resource, one)| (turn(one), resource));
        let mut due: Vec<_> = turns.filter(|(turn, _)| is_due(turn)).collect();
        if due.len() > most {
            due.select_nth_unstable_by_key(most, |(turn, _)| *turn);
            due.truncate(most);
        }
        due.into_iter()
            .map(|(_, resource)| resource.clone())
            .collect()
    }

    /// Has the database asked for all watched resources: changes may have been missed.
    pub(super) fn suspect(&self) {
        let watched = self.lock();
        self.suspicions.fetch_add(1, Ordering::SeqCst);
        for one in watched.values() {
            one.lock().checked = None;
        }
    }

    /// Returns the current epoch.
    pub(super) fn epoch(&self) -> LiveEpoch {
        self.epoch
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts the next epoch if the generation of the data has another name. Lower revisions are newer then.
    pub(super) fn follow(&self, generation: &str) {
        if &*self.epoch().generation == generation {
            return;
        }
        let mut epoch = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *epoch = epoch.next(generation);
        drop(epoch);
        self.suspect();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Resource, Arc<Watched>, foldhash::fast::RandomState>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a watcher, and the resources that nobody else watches.
    pub(super) fn forget(&self, id: u64, watching: &[(Resource, Arc<Watched>)]) {
        let mut watched = self.lock();
        for (resource, one) in watching {
            let mut state = one.lock();
            state.watchers.remove(&id);
            if !state.watchers.is_empty() {
                continue;
            }
            drop(state);
            if let Entry::Occupied(entry) = watched.entry(resource.clone()) {
                entry.remove();
            }
        }
        self.size.store(watched.len(), Ordering::Relaxed);
    }
}

/// Returns the fields of an event with this state.
fn fields(resource: &Resource, state: LiveState, ids_as_text: bool) -> Bytes {
    let shown = match &resource.id {
        Id::Number(number) if ids_as_text => Some(Id::from(&*number.to_string())),
        _ => None,
    };
    let count = match state {
        LiveState::Counted(count) => Some(count),
        LiveState::Erased => None,
    };
    let json = serde_json::to_string(&EventJson {
        resource_type: resource.resource_type,
        resource_id: shown.as_ref().unwrap_or(&resource.id),
        like_count: count.map(|count| count.like_count),
        revision: count.map(|count| count.revision),
    });
    let json = json.unwrap_or_else(|error| unreachable!("always JSON: {error}"));
    let name = match state {
        LiveState::Counted(_) => "",
        LiveState::Erased => "event: erased\n",
    };
    Bytes::from(format!("{name}data: {json}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;

    use super::*;
    use crate::live::testing::{count_in, counted, hub, publish, taken};

    #[test]
    fn unwatched_resources_are_forgotten() {
        let hub = hub();
        let one = hub.watch(&[1, 2].map(Resource::video), None);
        let two = hub.watch(&[2, 3].map(Resource::video), None);
        assert_eq!(hub.due(None, 10).len(), 3);
        drop(one);
        assert_eq!(hub.due(None, 10).len(), 2);
        assert!(hub.is_watched());
        drop(two);
        assert!(!hub.is_watched());
    }

    #[test]
    fn database_is_asked_for_unknown_and_old_counts() {
        let hub = hub();
        let videos = [1, 2].map(Resource::video);
        let mut watch = hub.watch(&videos, None);
        assert_eq!(hub.unknown().now_or_never(), Some(()));
        publish(&hub, 1, 5, 3);
        assert_eq!(watch.known().now_or_never(), None);
        let age = Some(Duration::from_secs(3_600));
        assert_eq!(
            hub.due(age, 10).len(),
            2,
            "an announced count was not checked"
        );
        let never = LiveState::Counted(LikeCount::NEVER);
        hub.checked(&hub.as_of(), videos.iter().map(|video| (video, never)));
        assert_eq!(hub.due(age, 10), []);
        assert_eq!(hub.due(None, 10), []);
        assert_eq!(hub.due(Some(Duration::ZERO), 1).len(), 1);
        assert_eq!(watch.known().now_or_never(), Some(()));
        let events = taken(&mut watch);
        assert_eq!(count_in(&events), Some("5"), "the announced count is newer");
        assert!(
            events.contains("\"like_count\":0,\"revision\":0"),
            "{events}"
        );
        hub.suspect();
        assert_eq!(hub.due(age, 10).len(), 2);
    }

    #[test]
    fn restored_database_may_lower_a_count() {
        let hub = hub();
        let video = [Resource::video(1)];
        let mut watch = hub.watch(&video, None);
        publish(&hub, 1, 9, 90);
        taken(&mut watch);
        let before = hub.as_of();
        hub.follow("5f0c");
        hub.follow("77aa");
        publish(&hub, 1, 8, 80);
        hub.checked(&before, [(&video[0], LiveState::Counted(counted(9, 91)))]);
        let events = taken(&mut watch);
        assert_eq!(count_in(&events), Some("8"));
        assert!(events.starts_with("id: 77aa-"), "{events}");
    }

    #[test]
    fn suspicion_during_a_read_is_not_lost() {
        let hub = hub();
        let video = [Resource::video(1)];
        let _watch = hub.watch(&video, None);
        let before = hub.as_of();
        // The connection to NATS comes back while the database answers.
        hub.suspect();
        hub.checked(&before, [(&video[0], LiveState::Counted(counted(1, 1)))]);
        assert_eq!(hub.due(None, 10), video, "it is asked again");
        hub.checked(
            &hub.as_of(),
            [(&video[0], LiveState::Counted(counted(1, 1)))],
        );
        assert_eq!(hub.due(None, 10), []);
    }

    #[test]
    fn every_count_is_checked_in_its_turn() {
        let hub = hub();
        let videos: Vec<_> = (1..=20).map(Resource::video).collect();
        let _watch = hub.watch(&videos, None);
        let never = LiveState::Counted(LikeCount::NEVER);
        hub.checked(&hub.as_of(), videos.iter().map(|video| (video, never)));
        // All of them are always old, and only five are read at once.
        let mut checked = BTreeSet::new();
        for _ in 0..4 {
            let due = hub.due(Some(Duration::ZERO), 5);
            hub.checked(&hub.as_of(), due.iter().map(|video| (video, never)));
            checked.extend(due);
        }
        assert_eq!(checked.len(), 20, "{checked:?}");
        // A new watcher does not wait for them.
        hub.suspect();
        let _other = hub.watch(&[Resource::video(99)], None);
        assert_eq!(hub.due(Some(Duration::ZERO), 1), [Resource::video(99)]);
    }
}
