//! `GET /admin/live`: sends the report of `/admin/actors` once a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use actor_kit::Registry;
use tokio::time::{Instant, sleep_until};

use crate::live::Live;
use crate::web::problem::{Code, Problem};
use crate::web::sse::{self, Source};

/// The interval of the reports.
const TICK: Duration = Duration::from_secs(1);

/// The reports of a process: one for each second in which somebody watches, however many do.
pub(in crate::web) struct Reports {
    registry: Registry,
    began: Instant,
    latest: Mutex<Option<(u32, Bytes)>>,
}

impl Reports {
    /// Returns the reports of these actors.
    pub(in crate::web) fn new(registry: Registry) -> Self {
        Self {
            registry,
            began: Instant::now(),
            latest: Mutex::default(),
        }
    }

    /// Returns the number of the current second.
    fn second(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Returns the event with the report of this second, or a later one.
    fn event(&self, second: u32) -> Bytes {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, event)) = &*latest
            && *of >= second
        {
            return event.clone();
        }
        let json = serde_json::to_string(&self.registry.snapshot());
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
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 503)
    )
)]
pub(super) async fn watch(
    request: HttpRequest,
    live: Data<Live>,
    reports: Data<Reports>,
) -> Result<HttpResponse, Problem> {
    let stream = live.operators.open().ok_or_else(|| {
        let detail = format!(
            "this process has {} connections that watch its actors, and accepts no more; read /admin/actors",
            live.operators.most()
        );
        Problem::new(Code::TooManyWatchers, detail)
    })?;
    let second = reports.second();
    let already = reports.event(second);
    let source = Seconds { reports, second };
    Ok(sse::answer(&request, stream, &already, source))
}

/// The reports after this second.
struct Seconds {
    reports: Data<Reports>,
    second: u32,
}

impl Source for Seconds {
    async fn next(&mut self) -> Option<Bytes> {
        sleep_until(self.reports.began + TICK * (self.second + 1)).await;
        // A connection that did not take its bytes skips reports.
        self.second = self.reports.second();
        Some(self.reports.event(self.second))
    }
}
