//! `GET /v1/{resource_type}s/{id}/likes/live` and `GET /v1/likes/live`: send like counts when they change.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};
use utoipa::IntoParams;

use crate::domain::{Resource, ResourceType};
use crate::likes::{Likes, NotRead};
use crate::live::{Live, Watch};
use crate::web::auth::CountReader;
use crate::web::extract::{ResourceInPath, decoded};
use crate::web::ids::Ids;
use crate::web::parameters::query;
use crate::web::problem::{Code, Problem};
use crate::web::sse::{self, LAST_EVENT_ID, Source};

/// The most resources of a connection.
const MOST: usize = 100;

/// The shortest time between two transmissions to a watcher. A lone change is sent at once.
const PACE: Duration = Duration::from_millis(50);

/// The watched resources.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct WatchQuery {
    /// 1 to 100 resources, each `<resource_type>:<id>`, with commas between them. An id of text is percent-encoded within the
    /// list.
    #[param(example = "video:7,comment:9")]
    resources: String,
}

/// Sends the like count of a {resource_type} whenever it changes.
///
/// The stream begins with the current count, or after the event in `Last-Event-ID` with a newer one. Each event has the newest
/// count; counts that follow each other quickly are skipped.
#[utoipa::path(
    get,
    path = "/v1/{resource_type}s/{id}/likes/live",
    tag = "likes",
    operation_id = "watch_likes_of_{resource_type}",
    params(
        ("id" = i64, Path, description = "The {resource_type}'s id", minimum = 1),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400),
        (status = 410),
        (status = 503)
    ),
    security(("counts" = []))
)]
pub(in crate::web) async fn one(
    request: HttpRequest,
    live: Data<Live>,
    _: CountReader,
    ResourceInPath(resource): ResourceInPath,
) -> Result<HttpResponse, Problem> {
    watch(&request, &live, &[resource]).await
}

/// Sends the like counts of up to 100 resources whenever they change.
///
/// As for one resource. Each event is about one resource.
#[utoipa::path(
    get,
    path = "/v1/likes/live",
    tag = "likes",
    operation_id = "watch_likes",
    params(
        WatchQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400),
        (status = 503)
    ),
    security(("counts" = []))
)]
pub(in crate::web) async fn several(
    request: HttpRequest,
    live: Data<Live>,
    likes: Data<Likes>,
    ids: Ids,
    _: CountReader,
) -> Result<HttpResponse, Problem> {
    let WatchQuery { resources } = query(&request)?;
    let resources = listed(&resources, &likes, &ids)?;
    watch(&request, &live, &resources).await
}

/// Reads a list of resources, each once.
fn listed(list: &str, likes: &Likes, ids: &Ids) -> Result<Vec<Resource>, Problem> {
    let invalid = |reason: String| Problem::new(Code::InvalidParameter, reason);
    let mut resources = BTreeSet::new();
    for item in list.split(',') {
        let (word, id) = item.split_once(':').ok_or_else(|| {
            invalid(format!(
                "'resources' must be a list such as video:7,comment:9; '{item:.80}' is no <resource_type>:<id>"
            ))
        })?;
        let resource_type = word
            .parse::<ResourceType>()
            .and_then(|word| likes.resource_types().served(word));
        let id = ids.kinds.resources.parse(&decoded(id));
        resources.insert(Resource {
            resource_type: resource_type
                .map_err(|error| invalid(format!("'resources': {error}")))?,
            id: id.map_err(|error| invalid(format!("an id in 'resources' {error}")))?,
        });
        if resources.len() > MOST {
            return Err(invalid(format!(
                "'resources' may have at most {MOST} resources; open a second connection for more"
            )));
        }
    }
    Ok(resources.into_iter().collect())
}

/// Begins to watch, once the current counts are known.
async fn watch(
    request: &HttpRequest,
    live: &Live,
    resources: &[Resource],
) -> Result<HttpResponse, Problem> {
    let stream = live.counts.open().ok_or_else(|| {
        let detail = format!(
            "this process has {} connections that watch counts, the limit of LIKEWISE_LIVE_CONNECTIONS; try again, or \
             read the counts",
            live.counts.most()
        );
        Problem::new(Code::TooManyWatchers, detail)
    })?;
    let last_event_id = request.headers().get(LAST_EVENT_ID);
    let last_event_id = last_event_id.and_then(|id| id.to_str().ok());
    let mut watch = live.hub.watch(resources, last_event_id);
    if timeout(live.read_timeout, watch.known()).await.is_err() {
        return Err(NotRead::Unavailable.into());
    }
    let already = watch.take().unwrap_or_default();
    let counts = Counts {
        watch,
        sent_at: Instant::now(),
    };
    Ok(sse::answer(request, stream, &already, counts))
}

/// The changes of the watched counts.
struct Counts {
    watch: Watch,
    sent_at: Instant,
}

impl Source for Counts {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            sleep_until(self.sent_at + PACE).await;
            if let Some(events) = self.watch.take() {
                self.sent_at = Instant::now();
                return Some(events);
            }
            if self.watch.is_over() {
                return None;
            }
            self.watch.changed().await;
        }
    }
}
