//! `GET /admin/actors`: how every actor is doing.

use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::actors::kit::ActorReport;
use crate::web::Context;

#[derive(Debug, Serialize)]
pub(super) struct ActorsBody {
    actors: Vec<ActorReport>,
}

pub(super) async fn list(context: Data<Context>) -> Json<ActorsBody> {
    Json(ActorsBody {
        actors: context.registry.report(),
    })
}
