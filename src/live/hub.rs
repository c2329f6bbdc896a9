//! The counts that this process watches: the newest state of each, and who watches it. A watcher that does not read costs
//! nothing and delays nobody, because the states wait here, and each replaces the one before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::Notify;

use crate::domain::{
    Id, LikeCount, LiveEpoch, LivePosition, LiveState, Resource, ResourceType, Seen,
};

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
}

/// A watched resource.
#[derive(Debug, Default)]
struct Watched(Mutex<WatchedState>);

#[derive(Debug, Default)]
struct WatchedState {
    /// The newest state; `None` while it is unknown.
    newest: Option<Newest>,
    watchers: HashMap<u64, Arc<Notify>, foldhash::fast::RandomState>,
    /// When the database last told the count, or is asked again if that is unset.
    checked: Option<Instant>,
}

/// The newest state of a resource.
#[derive(Debug)]
struct Newest {
    position: LivePosition,
    /// The fields of its event.
    fields: Bytes,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, WatchedState> {
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
        }
    }

    /// Watches these resources, each once. After the event of this id, only newer states are shown.
    #[must_use]
    pub fn watch(self: &Arc<Self>, resources: &[Resource], last_event_id: Option<&str>) -> Watch {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let changed = Arc::new(Notify::new());
        let seen = Seen::resume(resources, last_event_id, &self.epoch());
        let mut watched = self.lock();
        let mut is_unknown = false;
        let mut watch = |resource: &Resource| {
            let one = Arc::clone(watched.entry(resource.clone()).or_default());
            let mut state = one.lock();
            is_unknown |= state.newest.is_none();
            state.watchers.insert(id, Arc::clone(&changed));
            drop(state);
            (resource.clone(), one)
        };
        let watching = resources.iter().map(&mut watch).collect();
        self.size.store(watched.len(), Ordering::Relaxed);
        drop(watched);
        if is_unknown {
            self.unknown.notify_one();
        }
        Watch {
            hub: Arc::clone(self),
            id,
            watching,
            changed,
            seen,
        }
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

    /// Shows what the database tells of these resources. `epoch` is that of the moment before the database was asked.
    pub(super) fn checked<'a>(
        &self,
        epoch: &LiveEpoch,
        states: impl IntoIterator<Item = (&'a Resource, LiveState)>,
    ) {
        let now = Instant::now();
        let watched = self.lock();
        for (resource, found) in states {
            if let Some(one) = watched.get(resource) {
                let mut state = one.lock();
                state.checked = Some(now);
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

    /// Returns up to `most` watched resources that the database should be asked for: those whose count is unknown or suspect, and
    /// those that were last checked so long ago.
    pub(super) fn due(&self, age: Option<Duration>, most: usize) -> Vec<Resource> {
        let now = Instant::now();
        let watched = self.lock();
        let is_due = |one: &Watched| {
            let state = one.lock();
            let checked = state.checked.filter(|_| state.newest.is_some());
            checked.is_none_or(|checked| age.is_some_and(|age| now.duration_since(checked) >= age))
        };
        let due = watched.iter().filter(|(_, one)| is_due(one));
        due.take(most)
            .map(|(resource, _)| resource.clone())
            .collect()
    }

    /// Has the database asked for all watched resources: changes may have been missed.
    pub(super) fn suspect(&self) {
        for one in self.lock().values() {
            one.lock().checked = None;
        }
    }

    /// Returns the current epoch.
    #[must_use]
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
    fn forget(&self, watch: &Watch) {
        let mut watched = self.lock();
        for (resource, one) in &watch.watching {
            let mut state = one.lock();
            state.watchers.remove(&watch.id);
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

/// The resources that one connection watches. It ends when it is dropped.
pub struct Watch {
    hub: Arc<Hub>,
    id: u64,
    watching: Vec<(Resource, Arc<Watched>)>,
    /// Notified when one of the resources has a new state.
    changed: Arc<Notify>,
    seen: Seen,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish()
    }
}

impl Watch {
    /// Waits until a resource has a new state, or has had one since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the states of all resources are known.
    pub async fn known(&self) {
        let is_known = |(_, one): &(Resource, Arc<Watched>)| one.lock().newest.is_some();
        while !self.watching.iter().all(is_known) {
            self.changed().await;
        }
    }

    /// Returns whether no later state can follow, because all resources are erased.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.watching.iter().all(|(_, one)| {
            let state = one.lock();
            let newest = state.newest.as_ref();
            newest.is_some_and(|newest| newest.position.revision == i64::MAX)
        })
    }

    /// Returns the events of the states that the watcher has not seen, the newest of each resource; `None` without any. The
    /// last event has an id, from which another connection resumes.
    pub fn take(&mut self) -> Option<Bytes> {
        let mut events = BytesMut::new();
        let mut last = None;
        for (place, (_, one)) in self.watching.iter().enumerate() {
            let state = one.lock();
            let Some(newest) = &state.newest else {
                continue;
            };
            if self.seen.advance(place, newest.position)
                && let Some(earlier) = last.replace(newest.fields.clone())
            {
                events.extend_from_slice(&earlier);
                events.extend_from_slice(b"\n");
            }
        }
        let last = last?;
        let id = self.seen.id(&self.hub.epoch());
        events.extend_from_slice(format!("id: {id}\n").as_bytes());
        events.extend_from_slice(&last);
        events.extend_from_slice(b"\n");
        Some(events.freeze())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.forget(self);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const fn counted(like_count: i64, revision: i64) -> LikeCount {
        LikeCount {
            like_count,
            revision,
        }
    }

    fn hub() -> Arc<Hub> {
        let hub = Hub::new(false);
        hub.follow("5f0c");
        Arc::new(hub)
    }

    fn publish(hub: &Hub, video: i64, like_count: i64, revision: i64) {
        hub.publish([(&Resource::video(video), counted(like_count, revision))]);
    }

    fn taken(watch: &mut Watch) -> String {
        let events = watch.take().unwrap_or_default();
        String::from_utf8(events.to_vec()).expect("text")
    }

    fn count_in(events: &str) -> Option<&str> {
        let (_, rest) = events.split_once("\"like_count\":")?;
        rest.split_once(',').map(|(count, _)| count)
    }

    #[test]
    fn watcher_gets_the_newest_state_of_each_resource() {
        let hub = hub();
        let mut watch = hub.watch(&[1, 2].map(Resource::video), None);
        assert_eq!(watch.take(), None);
        for revision in 1..=1_000 {
            publish(&hub, 1, revision * 2, revision);
        }
        publish(&hub, 2, 5, 1);
        publish(&hub, 3, 5, 1);
        assert_eq!(watch.changed().now_or_never(), Some(()));
        let events = taken(&mut watch);
        let (first, second) = events.split_once("\n\n").expect("two events");
        assert_eq!(
            first,
            "data: {\"resource_type\":\"video\",\"resource_id\":1,\"like_count\":2000,\"revision\":1000}"
        );
        let (id, data) = second.split_once('\n').expect("an id");
        assert!(
            id.starts_with("id: 5f0c-") && id.ends_with("-1000.1"),
            "{id}"
        );
        assert_eq!(
            data,
            "data: {\"resource_type\":\"video\",\"resource_id\":2,\"like_count\":5,\"revision\":1}\n\n"
        );
        publish(&hub, 1, 7, 999);
        assert_eq!(watch.take(), None, "an older count");
        assert_eq!(watch.changed().now_or_never(), None);
    }

    #[test]
    fn resumed_watcher_gets_what_is_newer() {
        let hub = hub();
        let resources = [1, 2].map(Resource::video);
        let mut first = hub.watch(&resources, None);
        publish(&hub, 1, 1, 1);
        publish(&hub, 2, 1, 1);
        let events = taken(&mut first);
        let (_, id) = events.split_once("id: ").expect("an id");
        let (id, _) = id.split_once('\n').expect("a line");
        publish(&hub, 2, 2, 2);
        let mut second = hub.watch(&resources, Some(id));
        let events = taken(&mut second);
        assert_eq!(events.matches("data:").count(), 1, "{events}");
        assert_eq!(count_in(&events), Some("2"));
        let mut third = hub.watch(&resources, None);
        assert_eq!(taken(&mut third).matches("data:").count(), 2);
    }

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
        hub.checked(&hub.epoch(), videos.iter().map(|video| (video, never)));
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
        let before = hub.epoch();
        hub.follow("5f0c");
        hub.follow("77aa");
        publish(&hub, 1, 8, 80);
        hub.checked(&before, [(&video[0], LiveState::Counted(counted(9, 91)))]);
        let events = taken(&mut watch);
        assert_eq!(count_in(&events), Some("8"));
        assert!(events.starts_with("id: 77aa-"), "{events}");
    }

    #[test]
    fn erased_resource_ends_its_events() {
        let hub = Hub::new(true);
        hub.follow("5f0c");
        let hub = Arc::new(hub);
        let video = [Resource::video(1)];
        let mut watch = hub.watch(&video, None);
        assert!(!watch.is_over());
        hub.checked(&hub.epoch(), [(&video[0], LiveState::Erased)]);
        let events = taken(&mut watch);
        assert!(
            events.ends_with(
                "event: erased\ndata: {\"resource_type\":\"video\",\"resource_id\":\"1\"}\n\n"
            ),
            "{events}"
        );
        publish(&hub, 1, 1, 1);
        assert_eq!(watch.take(), None);
        assert!(watch.is_over());
    }
}
