//! Live updates: streams of like counts for everyone, and of the actors' state for operators.

mod counts;
mod crowds;
mod limits;
mod operators;
mod outages;

use crate::support::service::Service;
use crate::support::sse::EventSource;

/// Watches a video, without a user.
#[track_caller]
fn watch(service: &Service, video: i64) -> EventSource {
    watch_after(service, video, None)
}

/// Watches a video after the event of this id.
#[track_caller]
fn watch_after(service: &Service, video: i64, last_event_id: Option<&str>) -> EventSource {
    let path = format!("/v1/videos/{video}/likes/live");
    let header = last_event_id.map(|id| ("Last-Event-ID", id));
    let source = EventSource::open(service.address(), &path, header.as_slice());
    assert_eq!(source.received().status, 200, "{:?}", source.received());
    source
}

/// The query of a list of videos.
fn videos(ids: impl IntoIterator<Item = i64>) -> String {
    let items: Vec<_> = ids.into_iter().map(|id| format!("video:{id}")).collect();
    format!("/v1/likes/live?resources={}", items.join(","))
}
