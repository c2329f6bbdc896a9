//! Server-Sent Events: the response of a stream, with heartbeats, and its ends. `likes/live.rs` and `admin/live.rs` call it.
//!
//! actix-web polls a stream only while the connection takes its bytes, so a client that does not read delays its own events
//! and holds a bounded buffer; `slow_clients.rs` closes such a connection. No crate is used: the format is three kinds of
//! lines, and those that have it (`actix-web-lab`) put a channel between source and connection, whose backlog is what
//! a source here avoids.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};

use super::slow_clients::{ActiveRequest, Activity};
use crate::live::OpenStream;

/// The media type.
pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// The header with the id of the last event that a client received.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Turns off the buffer of nginx for this response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The interval of comments while nothing else is sent. Proxies close connections that are silent for longer, often a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The comment.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The longest life of a stream. Then the client connects again, with a token that is valid then.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// The shortest wait of a client before it connects again, in milliseconds. Each client waits up to twice as long more, so
/// that a restart does not bring all of them at once.
const RETRY: u64 = 1_000;

/// A source of events.
pub(super) trait Source: 'static {
    /// Waits for the next events, complete with their empty lines; `None` at the end of the stream. The caller may drop the
    /// future and ask again, so it loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>>;
}

/// An open response.
struct Open<S> {
    /// What is sent first.
    first: Option<Bytes>,
    source: S,
    stream: OpenStream,
    activity: Option<Rc<Activity>>,
    /// The request is in progress until the stream ends.
    _active: Option<ActiveRequest>,
    ends_at: Instant,
}

impl<S: Source> Open<S> {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = self.stream.closed() => None,
            () = left(self.activity.as_deref()) => None,
            () = sleep_until(self.ends_at) => None,
            events = self.source.next() => events,
            () = sleep(HEARTBEAT) => Some(COMMENT),
        }
    }
}

/// Waits until the client has left. The connection polls its response whenever the client sends or closes.
async fn left(activity: Option<&Activity>) {
    poll_fn(|_| match activity {
        Some(activity) if activity.has_ended() => Poll::Ready(()),
        _ => Poll::Pending,
    })
    .await;
}

/// Returns the response with these events: first those that are there already, then those of the source.
pub(super) fn answer<S: Source>(
    request: &HttpRequest,
    stream: OpenStream,
    already: &[u8],
    source: S,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response
        .content_type(CONTENT_TYPE)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((ACCEL_BUFFERING, "no"));
    if request.method() == Method::HEAD {
        return response.streaming(stream::empty::<Result<Bytes, Infallible>>());
    }
    let retry = RETRY + rand::random_range(0..2 * RETRY);
    let mut first = format!("retry: {retry}\n\n").into_bytes();
    first.extend_from_slice(already);
    let activity = request.conn_data::<Rc<Activity>>().cloned();
    let open = Open {
        first: Some(first.into()),
        source,
        stream,
        _active: activity.as_ref().map(Activity::begin_stream),
        activity,
        ends_at: Instant::now() + LIFETIME.mul_f64(rand::random_range(0.9..1.1)),
    };
    let events = stream::unfold(open, async |mut open| {
        let events = open.next().await?;
        Some((Ok::<_, Infallible>(events), open))
    });
    response.streaming(Box::pin(events))
}
