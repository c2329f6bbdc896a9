//! Whether the service is alive, whether it can keep its promises now, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use actor_kit::{ActorState, Registry};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::auth::Caller;
use super::{Context, Problem};
use crate::config::Role;
use crate::health::{DependencyReport, DependencyReports, Probe, can_accept};
use crate::store::{Gate, Waiting};
use crate::telemetry::{self, Failing};

/// How the service is.
#[derive(OpenApi)]
#[openapi(
    tags((name = "health", description = "How the service is, for what watches it.")),
    paths(healthz, readyz, metrics)
)]
pub(super) struct Document;

/// The content type of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Asks parts and actors how they are.
#[derive(Clone)]
pub struct Health {
    /// The parts.
    pub probe: Probe,
    /// The actors.
    pub registry: Registry,
    /// Set when the service shuts down.
    pub draining: Arc<AtomicBool>,
    /// Closed until the tables are up to date.
    pub gate: Arc<Gate>,
    /// What this process does.
    pub role: Role,
}

/// Whether a like sent now can be made durable, and why not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether it can.
    ready: bool,
    /// Whether the service is shutting down.
    draining: bool,
    /// How far this process's clock is ahead of the database's, in milliseconds; negative if behind, `null` if
    /// the database runs in the process or has not answered yet.
    clock_skew_ms: Option<i64>,
    /// What the start still waits for: `database` or `migrations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'static str>,
    /// How each part that is configured is, by its name.
    #[schema(value_type = BTreeMap<String, DependencyReport>)]
    parts: DependencyReports,
    /// What fails now, call after call. Ledger rows that wait for it are tried again until they succeed.
    failing: Vec<Failing>,
    /// What each actor is up to, by its name.
    #[schema(value_type = BTreeMap<String, ActorState>)]
    actors: BTreeMap<&'static str, ActorState>,
}

impl Health {
    /// Whether the process can do its part while the gate is closed: an api whose database is away accepts
    /// likes through NATS, but one that waits for migrations leaves the likes to its predecessors, and a worker
    /// has nothing to work on.
    fn has_started(&self) -> bool {
        match self.gate.waiting() {
            None => true,
            Some(Waiting::ForDatabase(_)) => !self.role.is_worker(),
            Some(Waiting::ForMigrations(_)) => false,
        }
    }

    async fn readiness(&self) -> Readiness {
        let parts = self.probe.report().await;
        let actors: BTreeMap<_, _> = self
            .registry
            .report()
            .into_iter()
            .map(|actor| (actor.name, actor.state))
            .collect();
        let skew = self.probe.store.clock_skew();
        let draining = self.draining.load(Ordering::Relaxed);
        let working =
            |state: &ActorState| matches!(state, ActorState::Running | ActorState::Restarting);
        Readiness {
            ready: !draining
                && self.has_started()
                && can_accept(&parts)
                && actors.values().all(working),
            draining,
            clock_skew_ms: skew.map(|skew| skew.num_milliseconds()),
            waiting_for: self.gate.waiting().map(|waiting| match waiting {
                Waiting::ForDatabase(_) => "database",
                Waiting::ForMigrations(_) => "migrations",
            }),
            parts,
            failing: telemetry::failing(),
            actors,
        }
    }
}

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always true.
    alive: bool,
    /// Which version of Likewise it is.
    version: &'static str,
}

/// The process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    operation_id = "healthz",
    responses((status = 200, body = Alive))
)]
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive {
        alive: true,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// A like sent now can be made durable.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot, or nothing could be found out in time", body = Readiness)
    )
)]
pub(super) async fn readyz(context: Data<Context>) -> HttpResponse {
    let readiness = context.health.readiness().await;
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// The metrics, in the OpenMetrics text format.
///
/// Where users must sign in, it asks for a token as `/admin` does.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses((status = 200, body = String, content_type = METRICS_TYPE))
)]
pub(super) async fn metrics(
    context: Data<Context>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    context.auth.watcher(&Caller::of(&request)?)?;
    Ok(HttpResponse::Ok()
        .content_type(METRICS_TYPE)
        .body(telemetry::exposition()))
}
