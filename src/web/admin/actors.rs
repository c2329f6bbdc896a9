//! `GET /admin/actors`: how every actor is doing.

use actix_web::web::{Data, Json};
use actor_kit::{ActorReport, Registry};
use serde::Serialize;
use utoipa::ToSchema;

/// Every actor of this process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Actors)]
pub(super) struct ActorsBody {
    actors: Vec<ActorReport>,
}

/// How every actor is doing, in the order of the flow.
#[utoipa::path(
    get,
    path = "/admin/actors",
    tag = "admin",
    operation_id = "list_actors",
    responses((status = 200, body = ActorsBody))
)]
pub(super) async fn list(registry: Data<Registry>) -> Json<ActorsBody> {
    Json(ActorsBody {
        actors: registry.report(),
    })
}
