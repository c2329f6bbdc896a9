//! `POST /admin/faults/{panic,block}/{actor}`: makes an actor panic or block its thread, to see it survive and noticed.
//! Not there unless fault injection is enabled.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use actor_kit::{Registry, Unheeded};

use super::actors::unheeded;
use crate::web::problem::Problem;

/// Whether fault injection is enabled.
#[derive(Debug, Clone, Copy)]
pub(in crate::web) struct FaultInjection(pub(in crate::web) bool);

/// How long an injected block lasts.
const BLOCK: Duration = Duration::from_secs(5);

/// Makes an actor panic, to see it survive.
///
/// Answers 404 unless fault injection is enabled.
#[utoipa::path(
    post,
    path = "/admin/faults/panic/{actor}",
    tag = "admin",
    operation_id = "provoke_panic",
    params(("actor" = String, Path, description = "The actor's name", example = "cache_writer")),
    responses((status = 202, description = "It will panic at its next message"), (status = 404), (status = 409))
)]
pub(super) async fn panic(
    enabled: Data<FaultInjection>,
    registry: Data<Registry>,
    actor: Path<String>,
) -> Result<HttpResponse, Problem> {
    inject(**enabled, &actor, || registry.inject_panic(&actor))
}

/// Makes an actor block its thread for five seconds, to see it reported as stuck.
///
/// The actors of a process share a thread, so the others wait too. Answers 404 unless fault injection is enabled.
#[utoipa::path(
    post,
    path = "/admin/faults/block/{actor}",
    tag = "admin",
    operation_id = "provoke_block",
    params(("actor" = String, Path, description = "The actor's name", example = "cache_writer")),
    responses((status = 202, description = "It will block at its next message"), (status = 404), (status = 409))
)]
pub(super) async fn block(
    enabled: Data<FaultInjection>,
    registry: Data<Registry>,
    actor: Path<String>,
) -> Result<HttpResponse, Problem> {
    inject(**enabled, &actor, || registry.inject_block(&actor, BLOCK))
}

fn inject(
    FaultInjection(enabled): FaultInjection,
    actor: &str,
    fault: impl FnOnce() -> Result<(), Unheeded>,
) -> Result<HttpResponse, Problem> {
    if !enabled {
        return Err(Problem::not_found());
    }
    fault().map_err(|error| unheeded(actor, error))?;
    Ok(HttpResponse::Accepted().finish())
}
