//! `GET /admin/stream`: the settings of the stream and its consumer.

use actix_web::web::{Data, Json};

use crate::admin::AdminService;
use crate::nats::StreamReport;
use crate::web::problem::Problem;

/// The settings of the stream and its consumer, configured and current, and what the stream holds.
///
/// A process changes nothing in a stream that is there. `likewise stream apply` does.
#[utoipa::path(
    get,
    path = "/admin/stream",
    tag = "admin",
    operation_id = "show_stream",
    responses(
        (status = 200, body = StreamReport),
        (status = 404, description = "This process has no NATS")
    )
)]
pub(super) async fn show(admin: Data<AdminService>) -> Result<Json<StreamReport>, Problem> {
    Ok(Json(admin.stream().await?))
}
