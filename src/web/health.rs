//! `/healthz`, `/readyz` and `/metrics`: liveness, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use actor_kit::{Actor, ActorState, Registry, StuckAfter};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::auth::{Auth, caller};
use super::draining::Draining;
use super::problem::Problem;
use crate::actors::probe::{
    DependencyReport, DependencyReports, DependencyState, Probe, can_accept,
};
use crate::actors::processes::Differences;
use crate::actors::{BehaviorRecorder, CacheWriter};
use crate::config::Role;
use crate::domain::CurrentDeployment;
use crate::store::{Gate, Waiting};
use crate::telemetry::{self, Failing, RuntimeUse, Scrape};

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((name = "health", description = "Liveness, readiness and metrics, for monitoring.")),
    paths(healthz, readyz, metrics)
)]
pub(super) struct Document;

/// The actors that accept likes. A process with a paused one is not ready.
const ACCEPTING: [&str; 2] = [CacheWriter::NAME, BehaviorRecorder::NAME];

/// The content type of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of the metrics in the text format of Prometheus.
const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reports the health of dependencies and actors.
#[derive(Clone)]
pub struct Health {
    /// Probes the dependencies.
    pub probe: Probe,
    /// The actors.
    pub registry: Registry,
    /// The times after which a stuck actor makes the process unready.
    pub unready_after: StuckAfter,
    /// Set when the service shuts down.
    pub draining: Arc<Draining>,
    /// Closed until the tables are migrated.
    pub gate: Arc<Gate>,
    /// The deployment, once it is known.
    pub deployment: CurrentDeployment,
    /// The role of the process.
    pub role: Role,
    /// The runtime that the actors share.
    pub runtime: tokio::runtime::Handle,
    /// How this process differs from others on the database.
    pub differences: Differences,
}

/// Whether the service can make a like durable now, and why not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether it can.
    ready: bool,
    /// Why it cannot; empty if it can.
    reasons: Vec<String>,
    /// Whether the service is shutting down.
    draining: bool,
    /// How far the clock of this process is ahead of the database's, in milliseconds; negative if it is behind,
    /// `null` if the database runs in the process or has not answered yet.
    clock_skew_ms: Option<i64>,
    /// What the process waits for to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<WaitingFor>,
    /// The health of each configured dependency, by name. While the service is shutting down, it is what the last probe
    /// found, without the check for events in quarantine.
    #[schema(value_type = BTreeMap<String, DependencyReport>)]
    parts: DependencyReports,
    /// The calls that fail now. Ledger rows that wait for them are retried until they succeed.
    failing: Vec<Failing>,
    /// How this process is set up differently from others on the same database.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
    /// The state of each actor, by name.
    #[schema(value_type = BTreeMap<String, ActorState>)]
    actors: BTreeMap<&'static str, ActorState>,
}

/// What a process waits for to start.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum WaitingFor {
    /// The database is unreachable.
    Database,
    /// Another process migrates the tables.
    Migrations,
    /// The identity of the deployment, which names the keys of the cache, is not read yet. Likes are accepted uncached.
    Identity,
}

impl WaitingFor {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "the database",
            Self::Migrations => "the migrations of another process",
            Self::Identity => "the identity of the deployment",
        }
    }
}

impl Health {
    /// Whether the process can do nothing until this is there. An api without its database or its identity accepts likes
    /// through NATS; one that waits for migrations leaves likes to the previous version; a worker has nothing to work on.
    fn must_wait(&self, waiting_for: WaitingFor) -> bool {
        match waiting_for {
            WaitingFor::Database => self.role.is_worker(),
            WaitingFor::Migrations => true,
            WaitingFor::Identity => false,
        }
    }

    /// Returns what the metrics look up at a scrape.
    fn scrape(&self) -> Scrape {
        Scrape {
            actors: self.registry.report(),
            pools: self.probe.store.pools(),
            runtime: RuntimeUse::of(&self.runtime),
            role: self.role.as_str(),
        }
    }

    /// Returns the health of the dependencies. A process that shuts down is not ready, whatever they answer: a load
    /// balancer must not wait for a dependency that hangs to learn so.
    async fn dependencies(&self) -> DependencyReports {
        tokio::select! {
            biased;
            () = self.draining.begun() => self.probe.last(),
            parts = self.probe.report() => parts,
        }
    }

    async fn readiness(&self) -> Readiness {
        let parts = self.dependencies().await;
        let actors = self.registry.states(self.unready_after);
        let actors: BTreeMap<_, _> = actors.into_iter().collect();
        let skew = self.probe.store.clock_skew();
        let draining = self.draining.has_begun();
        let waiting_for = match self.gate.waiting() {
            Some(Waiting::ForDatabase(_)) => Some(WaitingFor::Database),
            Some(Waiting::ForMigrations(_)) => Some(WaitingFor::Migrations),
            None => self
                .deployment
                .get()
                .is_none()
                .then_some(WaitingFor::Identity),
        };
        let mut reasons = Vec::new();
        if draining {
            reasons.push("the process is shutting down".to_owned());
        }
        if let Some(waiting_for) = waiting_for.filter(|waiting_for| self.must_wait(*waiting_for)) {
            reasons.push(format!("the process waits for {}", waiting_for.as_str()));
        }
        if !can_accept(&parts) {
            let down = parts
                .iter()
                .filter(|(_, part)| part.state == DependencyState::Down);
            reasons.extend(down.map(|(name, _)| format!("{name} is down")));
        }
        let not_working = actors.iter().filter(|(name, state)| match state {
            ActorState::Stuck | ActorState::Failed | ActorState::Stopped => true,
            ActorState::Paused => ACCEPTING.contains(name),
            _ => false,
        });
        reasons.extend(not_working.map(|(name, state)| format!("{name} is {}", state.as_str())));
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            draining,
            clock_skew_ms: skew.map(|skew| skew.num_milliseconds()),
            waiting_for,
            parts,
            failing: telemetry::failing(),
            warnings: self.differences.current(),
            actors,
        }
    }
}

/// Returns whether a client accepts OpenMetrics, as Prometheus does.
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT);
    accepted.any(|value| {
        let text = value.to_str();
        text.is_ok_and(|text| text.contains("application/openmetrics-text"))
    })
}

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always true.
    alive: bool,
    /// The version of Likewise.
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

/// Reports whether the service can make a like durable now.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot, or its state could not be determined in time", body = Readiness)
    )
)]
pub(super) async fn readyz(health: Data<Health>) -> HttpResponse {
    let readiness = health.readiness().await;
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// The metrics, in the text format of Prometheus, or in that of OpenMetrics for a client that accepts it.
///
/// In mode `jwt` it requires a token with an admin scope, as `/admin` does.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses((status = 200, content((String = METRICS_TYPE), (String = TEXT_TYPE))))
)]
pub(super) async fn metrics(
    auth: Data<Auth>,
    health: Data<Health>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    auth.authorize_metrics(&caller(&request)?)?;
    let scrape = health.scrape();
    let (kind, body) = match accepts_openmetrics(request.headers()) {
        true => (METRICS_TYPE, telemetry::openmetrics(&scrape)),
        false => (TEXT_TYPE, telemetry::text(&scrape)),
    };
    Ok(HttpResponse::Ok().content_type(kind).body(body))
}
