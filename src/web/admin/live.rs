//! `GET /admin/live`: sends the report of `/admin/actors` once a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use actor_kit::Registry;
use tokio::time::{Instant, sleep_until};

use super::actors::{Actors, Scope, Which};
use crate::actors::process_reports::ProcessReports;
use crate::live::Live;
use crate::web::parameters::query;
use crate::web::problem::{Code, Problem};
use crate::web::sse::{self, Source};

/// The interval of the reports.
const TICK: Duration = Duration::from_secs(1);

/// The reports that a process sends: one for each scope and second in which somebody watches, however many do.
pub(in crate::web) struct ActorFeed {
    registry: Registry,
    reports: Arc<ProcessReports>,
    began: Instant,
    own: Latest,
    all: Latest,
}

/// The last event of a scope, with its second.
type Latest = Mutex<Option<(u32, Bytes)>>;

impl ActorFeed {
    /// Returns the feed of these actors, and of those that other processes report.
    pub(in crate::web) fn new(registry: Registry, reports: Arc<ProcessReports>) -> Self {
        Self {
            registry,
            reports,
            began: Instant::now(),
            own: Latest::default(),
            all: Latest::default(),
        }
    }

    /// Returns the number of the current second.
    fn second(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Returns the event with the report of this second, or a later one.
    fn event(&self, scope: Scope, second: u32) -> Bytes {
        let latest = match scope {
            Scope::Process => &self.own,
            Scope::Cluster => &self.all,
        };
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, event)) = &*latest
            && *of >= second
        {
            return event.clone();
        }
        let json = serde_json::to_string(&Actors::of(scope, &self.registry, &self.reports));
        let json = json.unwrap_or_else(|error| unreachable!("always JSON: {error}"));
        let event = Bytes::from(format!("event: actors\ndata: {json}\n\n"));
        *latest = Some((second, event.clone()));
        event
    }
}

/// Sends the report of `/admin/actors` once a second.
///
/// The data of each event `actors` is the same JSON. While nobody watches, no report is made.
#[utoipa::path(
    get,
    path = "/admin/live",
    tag = "admin",
    operation_id = "watch_actors",
    params(Which),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 503)
    )
)]
pub(super) async fn watch(
    request: HttpRequest,
    live: Data<Live>,
    feed: Data<ActorFeed>,
) -> Result<HttpResponse, Problem> {
    let Which { scope } = query(&request)?;
    let stream = live.operators.open().ok_or_else(|| {
        let detail = format!(
            "this process has {} connections that watch its actors, and accepts no more; read /admin/actors",
            live.operators.most()
        );
        Problem::new(Code::TooManyWatchers, detail)
    })?;
    let second = feed.second();
    let already = feed.event(scope, second);
    let source = Seconds {
        feed,
        scope,
        second,
    };
    Ok(sse::answer(&request, stream, &already, source))
}

/// The reports after this second.
struct Seconds {
    feed: Data<ActorFeed>,
    scope: Scope,
    second: u32,
}

impl Source for Seconds {
    async fn next(&mut self) -> Option<Bytes> {
        sleep_until(self.feed.began + TICK * (self.second + 1)).await;
        // A connection that did not take its bytes skips reports.
        self.second = self.feed.second();
        Some(self.feed.event(self.scope, self.second))
    }
}
