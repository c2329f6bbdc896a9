//! `POST /admin/faults/panic/{actor}`: makes an actor panic, to see it survive. Not there unless fault
//! injection is enabled.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};

use crate::web::{Context, Problem};

pub(super) async fn panic(
    context: Data<Context>,
    actor: Path<String>,
) -> Result<HttpResponse, Problem> {
    if !context.fault_injection {
        return Err(Problem::not_found());
    }
    if !context.registry.provoke(&actor) {
        return Err(Problem::unknown_actor(&actor));
    }
    Ok(HttpResponse::Accepted().finish())
}
