//! Shared by the unit tests of the hub and of its watchers.

use std::sync::Arc;

use super::hub::Hub;
use super::watch::Watch;
use crate::domain::{LikeCount, Resource};

/// Returns a count.
pub(super) const fn counted(like_count: i64, revision: i64) -> LikeCount {
    LikeCount {
        like_count,
        revision,
    }
}

/// Returns a hub of a deployment.
pub(super) fn hub() -> Arc<Hub> {
    let hub = Hub::new(false);
    hub.follow("5f0c");
    Arc::new(hub)
}

/// Publishes a count of a video.
pub(super) fn publish(hub: &Hub, video: i64, like_count: i64, revision: i64) {
    hub.publish([(&Resource::video(video), counted(like_count, revision))]);
}

/// Returns the events that a watcher has not seen.
pub(super) fn taken(watch: &mut Watch) -> String {
    let events = watch.take().unwrap_or_default();
    String::from_utf8(events.to_vec()).expect("text")
}

/// Returns the first count in events.
pub(super) fn count_in(events: &str) -> Option<&str> {
    let (_, rest) = events.split_once("\"like_count\":")?;
    rest.split_once(',').map(|(count, _)| count)
}
