//! `POST /admin/faults/panic/{actor}`: makes an actor panic, to see it survive. Not there unless fault
//! injection is enabled.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use actor_kit::Registry;

use crate::web::problem::{Code, Problem};

/// Whether fault injection is enabled.
#[derive(Debug, Clone, Copy)]
pub(in crate::web) struct FaultInjection(pub(in crate::web) bool);

/// Makes an actor panic, to see it survive.
///
/// Answers 404 unless fault injection is enabled.
#[utoipa::path(
    post,
    path = "/admin/faults/panic/{actor}",
    tag = "admin",
    operation_id = "provoke_panic",
    params(("actor" = String, Path, description = "The actor's name", example = "cache_writer")),
    responses((status = 202, description = "It will panic at its next message"), (status = 404))
)]
pub(super) async fn panic(
    enabled: Data<FaultInjection>,
    registry: Data<Registry>,
    actor: Path<String>,
) -> Result<HttpResponse, Problem> {
    if !enabled.0 {
        return Err(Problem::not_found());
    }
    if !registry.inject_panic(&actor) {
        let detail = format!("no actor is called '{:.40}'; see /admin/actors", *actor);
        return Err(Problem::new(Code::UnknownActor, detail));
    }
    Ok(HttpResponse::Accepted().finish())
}
