//! A watcher: the resources that one connection watches, and what it has been shown of them. `web/likes/live.rs` opens one for each
//! connection, by [`Hub::watch`].

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::hub::{Hub, Watched};
use crate::domain::{Resource, Seen};

/// The resources that one connection watches. It ends when it is dropped.
pub struct Watch {
    hub: Arc<Hub>,
    id: u64,
    watching: Vec<(Resource, Arc<Watched>)>,
    /// Notified when one of the resources has a new state.
    changed: Arc<Notify>,
    seen: Seen,
}

impl Hub {
    /// Watches these resources, each once. After the event of this id, only newer states are shown.
    #[must_use]
    pub fn watch(self: &Arc<Self>, resources: &[Resource], last_event_id: Option<&str>) -> Watch {
        let changed = Arc::new(Notify::new());
        let seen = Seen::resume(resources, last_event_id, &self.epoch());
        let (id, watching) = self.join(resources, &changed);
        Watch {
            hub: Arc::clone(self),
            id,
            watching,
            changed,
            seen,
        }
    }
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
        self.hub.forget(self.id, &self.watching);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::LiveState;
    use crate::live::testing::{count_in, hub, publish, taken};

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
    fn erased_resource_ends_its_events() {
        let hub = Hub::new(true);
        hub.follow("5f0c");
        let hub = Arc::new(hub);
        let video = [Resource::video(1)];
        let mut watch = hub.watch(&video, None);
        assert!(!watch.is_over());
        hub.checked(&hub.as_of(), [(&video[0], LiveState::Erased)]);
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
