//! `POST /admin/faults/panic/{actor}`: makes an actor panic, to see it survive. Not there unless fault
//! injection is enabled.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};

use crate::web::{Context, Problem};

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
    context: Data<Context>,
    actor: Path<String>,
) -> Result<HttpResponse, Problem> {
    if !context.fault_injection {
        return Err(Problem::not_found());
    }
    if !context.registry.inject_panic(&actor) {
        return Err(Problem::unknown_actor(&actor));
    }
    Ok(HttpResponse::Accepted().finish())
}
