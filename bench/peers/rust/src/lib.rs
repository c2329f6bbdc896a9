//! What the peers in Rust share: the HTTP contract of Likewise, and the counter that the benchmark reads.

use std::future::Future;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The likes that this process has completed in the database.
pub static COMPLETED: AtomicU64 = AtomicU64::new(0);

/// A like or an unlike, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub event_id: Uuid,
    /// The user.
    pub user_id: i64,
    /// The video.
    pub video_id: i64,
    /// `like` or `unlike`.
    pub action: String,
    /// Microseconds since 1970. The newest event of a pair wins.
    pub version: i64,
}

/// The answer to a like or an unlike.
#[derive(Serialize)]
pub struct Answer {
    event_id: Uuid,
    resource_type: &'static str,
    resource_id: i64,
    user_id: i64,
    liked: bool,
    changed: bool,
    like_count: i64,
    durability: &'static str,
    cached: bool,
}

/// The answer to a read.
#[derive(Serialize)]
pub struct Read {
    resource_type: &'static str,
    resource_id: i64,
    user_id: i64,
    liked: bool,
    like_count: i64,
}

/// The outcome of an event or of a read.
pub struct State {
    /// Whether the user likes the video.
    pub liked: bool,
    /// Whether the event changed that.
    pub changed: bool,
    /// The likes of the video.
    pub like_count: i64,
}

impl Event {
    /// The event of a request; `None` without a valid user.
    pub fn of(request: &HttpRequest, video_id: i64, liked: bool) -> Option<Self> {
        Some(Self {
            event_id: Uuid::now_v7(),
            user_id: user(request)?,
            video_id,
            action: if liked { "like" } else { "unlike" }.to_owned(),
            version: Utc::now().timestamp_micros(),
        })
    }

    /// Whether it is a like.
    pub fn liked(&self) -> bool {
        self.action == "like"
    }

    /// The response after it is durable.
    pub fn answered(&self, state: &State, durability: &'static str, cached: bool) -> HttpResponse {
        HttpResponse::Ok().json(Answer {
            event_id: self.event_id,
            resource_type: "video",
            resource_id: self.video_id,
            user_id: self.user_id,
            liked: self.liked(),
            changed: state.changed,
            like_count: state.like_count,
            durability,
            cached,
        })
    }
}

/// The user of a request.
pub fn user(request: &HttpRequest) -> Option<i64> {
    let user = request.headers().get("X-User-Id")?.to_str().ok()?;
    user.parse().ok().filter(|id| *id > 0)
}

/// The response to a read.
pub fn read(user_id: i64, video_id: i64, state: &State) -> HttpResponse {
    HttpResponse::Ok().json(Read {
        resource_type: "video",
        resource_id: video_id,
        user_id,
        liked: state.liked,
        like_count: state.like_count,
    })
}

/// The response to a request that cannot be served.
pub fn failed(error: &dyn std::fmt::Display) -> HttpResponse {
    let _ = writeln!(io::stderr(), "{error}");
    HttpResponse::ServiceUnavailable().finish()
}

/// A setting from the environment.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        let _ = writeln!(io::stderr(), "set {name}");
        std::process::exit(2)
    })
}

/// Serves the handlers and `/metrics` at the address in `LISTEN` until the process is killed. `data` runs once in each
/// worker thread, and makes what its handlers share.
pub async fn serve<D, F, R>(
    workers: usize,
    data: D,
    configure: fn(&mut ServiceConfig),
) -> io::Result<()>
where
    D: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<R, Box<dyn std::error::Error>>> + 'static,
    R: 'static,
{
    let server = HttpServer::new(move || {
        App::new()
            .data_factory(data.clone())
            .route("/metrics", web::get().to(metrics))
            .configure(configure)
    })
    .workers(workers)
    .bind(setting("LISTEN"))?;
    for address in server.addrs() {
        writeln!(io::stderr(), "listening on http://{address}")?;
    }
    server.run().await
}

async fn metrics() -> String {
    let completed = COMPLETED.load(Ordering::Relaxed);
    format!("likewise_ledger_rows_completed_total {completed}\n")
}

/// As many threads as the machine has cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
