//! Whether the service is alive, whether it can keep its promises now, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::auth::{Caller, Scope};
use super::{Context, Problem};
use crate::actors::kit::{Registry, State};
use crate::health::{PartReports, Probe, can_accept};
use crate::telemetry;

/// Asks parts and actors how they are.
#[derive(Clone)]
pub struct Health {
    /// The parts.
    pub probe: Probe,
    /// The actors.
    pub registry: Registry,
    /// Set when the service shuts down.
    pub draining: Arc<AtomicBool>,
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    parts: PartReports,
    actors: BTreeMap<&'static str, State>,
}

impl Health {
    async fn readiness(&self) -> Readiness {
        let parts = self.probe.look().await;
        let actors: BTreeMap<_, _> = self
            .registry
            .report()
            .into_iter()
            .map(|actor| (actor.name, actor.state))
            .collect();
        let draining = self.draining.load(Ordering::Relaxed);
        let working = |state: &State| matches!(state, State::Running | State::Restarting);
        Readiness {
            ready: !draining && can_accept(&parts) && actors.values().all(working),
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

/// `GET /metrics`, in the OpenMetrics text format. Where users must sign in, it asks for a token as
/// `/admin` does.
pub(super) async fn metrics(
    context: Data<Context>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if context.auth.is_required() {
        context
            .auth
            .allow(&Caller::of(&request)?, Scope::AdminRead)?;
    }
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(telemetry::exposition()))
}
