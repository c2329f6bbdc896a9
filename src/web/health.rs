//! Whether the service is alive, whether it can keep its promises now, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use serde::Serialize;

use super::Context;
use crate::actors::kit::{Registry, State};
use crate::cache::Cache;
use crate::nats::Broker;
use crate::store::Store;
use crate::telemetry;

/// How long a part may take to answer before it counts as down.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the parts how they are.
#[derive(Clone)]
pub struct Health {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The broker, if there is one.
    pub broker: Option<Arc<Broker>>,
    /// The actors.
    pub registry: Registry,
    /// Set when the service shuts down.
    pub draining: Arc<AtomicBool>,
}

/// How one part is.
#[derive(Debug, Clone, Serialize)]
struct PartReport {
    kind: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl PartReport {
    fn of<T, E: ToString>(
        kind: &'static str,
        answer: Result<Result<T, E>, tokio::time::error::Elapsed>,
    ) -> Self {
        let error = match answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {PING_TIMEOUT:?}")),
        };
        Self {
            kind,
            state: if error.is_none() { "up" } else { "down" },
            error,
        }
    }
}

impl PartReport {
    fn of_broker(broker: &Broker) -> Self {
        let error = match (broker.is_connected(), broker.is_ready()) {
            (false, _) => Some("not connected".to_owned()),
            (true, false) => Some("connected, but its stream is not in order".to_owned()),
            (true, true) => None,
        };
        Self {
            kind: "NATS",
            state: if error.is_none() { "up" } else { "down" },
            error,
        }
    }
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    parts: BTreeMap<&'static str, PartReport>,
    actors: BTreeMap<&'static str, State>,
}

impl Health {
    async fn readiness(&self) -> Readiness {
        let (database, cache) = tokio::join!(
            tokio::time::timeout(PING_TIMEOUT, self.store.ping()),
            tokio::time::timeout(PING_TIMEOUT, self.cache.ping()),
        );
        let database = PartReport::of(self.store.kind(), database);
        let cache = PartReport::of(self.cache.kind(), cache);
        let actors: BTreeMap<_, _> = self
            .registry
            .report()
            .into_iter()
            .map(|actor| (actor.name, actor.state))
            .collect();
        let mut parts = BTreeMap::from([("database", database), ("cache", cache)]);
        if let Some(broker) = &self.broker {
            parts.insert("broker", PartReport::of_broker(broker));
        }
        // Promise 1 needs the broker or the database, and with it one other part that still answers.
        let up = |part| {
            parts
                .get(part)
                .is_some_and(|part: &PartReport| part.error.is_none())
        };
        let durable = up("broker") || up("database");
        let down = parts.values().filter(|part| part.error.is_some()).count();
        let draining = self.draining.load(Ordering::Relaxed);
        let working = |state: &State| matches!(state, State::Running | State::Restarting);
        Readiness {
            ready: !draining && durable && down <= 1 && actors.values().all(working),
            draining,
            parts,
            actors,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Alive {
    alive: bool,
    version: &'static str,
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive {
        alive: true,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /readyz`: a like sent now can be made durable; 503 if not.
pub(super) async fn readyz(context: Data<Context>) -> HttpResponse {
    let readiness = context.health.readiness().await;
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// `GET /metrics`, in the OpenMetrics text format.
pub(super) async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(telemetry::exposition())
}
